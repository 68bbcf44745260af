"""One connection to NATS that outlives its sockets, with requests and subscriptions.

nats-py closes its client for good on most errors that a server can send; then a new client is built and everything is
subscribed again. Each sink is informed of an interruption, since core NATS delivers at most once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import AuthorizationError, BadSubjectError, MaxPayloadError
from nats.errors import Error as NatsError

from mafalda.aio.clock import PausableClock
from mafalda.aio.retry import retrying
from mafalda.aio.tasks import background
from mafalda.bus.config import BusConfig
from mafalda.bus.connection.client import FastClient, connect_options, parse_denied, server_of, without_password
from mafalda.bus.connection.pending_requests import PendingRequests, Unanswered
from mafalda.bus.connection.subscriptions import DeliveryHook, Sink, Subscription
from mafalda.errors import BusUnavailable, MafaldaError, MessageTooLarge, PermissionDenied

_log = structlog.get_logger(__name__)

#: An older server ignores the header that makes a condition hold for a whole aggregate, so two allocators would win.
_OLDEST_SERVER = (2, 12)
#: Seconds before a new client is built; a server that closes each one at once is not asked without a pause.
_REBUILD_WAIT_S = 0.1

#: What nats-server says of a credential, in lower case.
_REFUSED = "authorization violation"
_EXPIRED = "authentication expired"

#: Why a connection's clock stands still.
_DISCONNECTED = "disconnected"


@dataclass(eq=False)
class Connection:
    """Open it with ``open_connection``."""

    config: BusConfig
    refused: int = 0
    interruptions: int = 0
    clock: PausableClock = field(default_factory=PausableClock)
    _client: Client = field(default_factory=FastClient)
    _subscriptions: dict[Subscription, None] = field(default_factory=dict)
    _up: asyncio.Event = field(default_factory=asyncio.Event)
    _dead: asyncio.Event = field(default_factory=asyncio.Event)
    _is_closing: bool = False
    _is_subscribed: bool = False
    _refused_since: float | None = None
    _end_error: PermissionDenied | None = None
    _closing: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self._requests = PendingRequests(self.new_inbox())

    @property
    def is_up(self) -> bool:
        """Whether a server is connected right now."""
        return self._up.is_set()

    def new_inbox(self) -> str:
        """A subject that nobody else has."""
        return f"{self.config.inbox_prefix}.{token_hex(12)}"

    def end(self, error: PermissionDenied) -> None:
        """Never connect again, because this credential is good for nothing any more; every sink is told so."""
        if self._end_error is None:
            _log.warning("bus-ended", action="bus_ended", reason=str(error))
            self._end_error = error
            self._dead.set()
            for sink in self._all_sinks():
                sink.ended(error)

    # --- messages --------------------------------------------------------------------------------

    async def subscribe(self, pattern: str, sink: Sink, *, queue: str = "") -> Subscription:
        """Deliver to ``sink`` from now on; the server knows the subscription once ``flush`` returns."""
        subscription = Subscription(pattern, sink, queue)
        self._subscriptions[subscription] = None
        if self._is_subscribed:
            await self._subscribe(self._client, subscription)
        return subscription

    async def unsubscribe(self, *subscriptions: Subscription) -> None:
        """Deliver no more; what was delivered already stays where it is."""
        for subscription in subscriptions:
            self._subscriptions.pop(subscription, None)
            if subscription.native is not None:
                with suppress(NatsError):  # the client is closed: the server knows the subscription no more
                    await subscription.native.unsubscribe()

    async def publish(
        self, subject: str, data: bytes, *, reply: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        """Publish at most once.

        Raises:
            BusUnavailable: Not connected right now, or too much is waiting to be sent.
            MessageTooLarge: This server takes no message of that size.
            ValueError: Not a subject.
        """
        if not self._up.is_set():
            raise BusUnavailable("not connected to NATS", subject=subject)
        try:
            await self._client.publish(subject, data, reply=reply, headers=dict(headers) if headers else None)
        except MaxPayloadError:
            raise MessageTooLarge(
                "NATS takes no message of this size", size_bytes=len(data), limit_bytes=self._client.max_payload
            ) from None
        except BadSubjectError:
            raise ValueError(f"not a subject: {subject[:200]!r}") from None
        except NatsError as error:
            raise BusUnavailable(f"NATS did not take a message: {error}", subject=subject) from error

    async def request(
        self, subject: str, data: bytes, *, headers: Mapping[str, str] | None = None, timeout_s: float
    ) -> Msg:
        """Publish a request and return its one answer, whatever it holds.

        Args:
            subject: Where.
            data: The request.
            headers: Of the request.
            timeout_s: Seconds for all, including the wait for a connection.

        Raises:
            Unanswered: Nobody listens there, the connection broke meanwhile, or no answer in time.
            PermissionDenied: This credential may not publish there.
        """
        answer = await self._exchange(subject, data, headers, timeout_s)
        if answer.headers and answer.headers.get("Status") == "503" and not answer.data:
            raise Unanswered("no-responders")
        return answer

    async def flush(self, timeout_s: float) -> None:
        """Return when the server has worked on all that was sent before.

        By a message to this connection's own inbox: nats-py's ``flush`` sends its ping before what waits in its buffer.

        Raises:
            Unanswered: See ``request``.
        """
        await self._exchange("", b"", None, timeout_s)

    async def _exchange(self, subject: str, data: bytes, headers: Mapping[str, str] | None, timeout_s: float) -> Msg:
        if self._end_error is not None:
            raise self._end_error
        pending = self._requests.new(subject)
        try:
            async with asyncio.timeout(timeout_s):
                await self._up.wait()
                self._requests.register(pending)
                await self.publish(pending.subject, data, reply=pending.reply if subject else "", headers=headers)
                return await pending.answer
        except TimeoutError:
            raise pending.maybe_denied or Unanswered("timeout") from None
        except BusUnavailable:
            raise Unanswered("connection-lost") from None
        finally:
            self._requests.unregister(pending)

    # --- life ------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect for the first time.

        Raises:
            BusUnavailable: No server answered in time.
            PermissionDenied: A server refused the credential.
        """
        self._subscriptions[Subscription(self._requests.pattern, self._requests)] = None
        try:
            async with asyncio.timeout(self.config.connect_timeout_s):
                await self._connect()
        except TimeoutError:
            await self._client.close()
            raise BusUnavailable(
                "cannot connect to NATS",
                servers=", ".join(without_password(url) for url in self.config.servers),
                timeout_s=self.config.connect_timeout_s,
                last_error=str(self._client.last_error or ""),
            ) from None
        except BaseException:
            await self._client.close()
            raise

    async def close(self) -> None:
        """Send what waits, then close; no request is answered after this."""
        self._is_closing = True
        if self._up.is_set() and self._end_error is None:
            with suppress(Unanswered):  # a server that does not answer gets no more time
                await self.flush(1)
        self._up.clear()
        self._requests.interrupted()
        await self._close_for_good()

    async def _close_for_good(self) -> None:
        """Close the last client. Cancelled, it goes on: nats-py does not finish a close that was broken off."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._client.close(), name="bus-close")
        await asyncio.shield(self._closing)

    async def reconnect(self) -> None:
        """Break the connection and return when it is there again.

        Raises:
            TimeoutError: It does not come back within ``connect_timeout_s``.
        """
        await self._client.force_reconnect()
        self._on_interrupted(self._client)
        async with asyncio.timeout(self.config.connect_timeout_s):
            await self._up.wait()

    async def keep_alive(self) -> None:
        """Build a new client whenever nats-py has closed one for good. Runs until ``end``, or until cancelled."""
        while self._end_error is None:
            await self._dead.wait()
            self._dead.clear()
            if self._client.is_closed and self._end_error is None:
                await asyncio.sleep(_REBUILD_WAIT_S)
                async for attempt in retrying(
                    TimeoutError, MafaldaError, NatsError, OSError, action="bus_rebuild_failed", first_s=_REBUILD_WAIT_S
                ):
                    with attempt:
                        if self._end_error is None:
                            await self._rebuild()
        await self._close_for_good()

    async def _rebuild(self) -> None:
        try:
            async with asyncio.timeout(self.config.connect_timeout_s):
                await self._connect()
        except Exception:
            await self._client.close()
            raise

    async def _connect(self) -> None:
        self._client = client = FastClient()
        self._is_subscribed = False

        async def on_error(error: Exception) -> None:
            self._on_error(client, error)

        async def on_disconnected() -> None:
            self._on_interrupted(client)

        async def on_reconnected() -> None:
            if client is self._client:
                self._on_connected()
                _log.info("bus-reconnected", action="bus_reconnected", server=server_of(client))

        async def on_closed() -> None:
            self._on_interrupted(client)
            if client is self._client and self._is_subscribed and not self._is_closing:
                self._is_subscribed = False
                self._note_closing(client.last_error)
                _log.warning("bus-closed-by-server", action="bus_closed_by_server", reason=str(client.last_error))
                self._dead.set()

        await client.connect(
            error_cb=on_error,
            disconnected_cb=on_disconnected,
            reconnected_cb=on_reconnected,
            closed_cb=on_closed,
            **connect_options(self.config),
        )
        version = client.connected_server_version
        if (version.major, version.minor) < _OLDEST_SERVER:
            raise BusUnavailable("nats-server is too old", version=f"{version.major}.{version.minor}", oldest="2.12")
        self._is_subscribed = True
        for subscription in list(self._subscriptions):
            await self._subscribe(client, subscription)
        self._on_connected()

    async def _subscribe(self, client: Client, subscription: Subscription) -> None:
        hook: Any = DeliveryHook(subscription)
        subscription.native = await client.subscribe(subscription.pattern, queue=subscription.queue, future=hook)

    # --- nats-py's callbacks ---------------------------------------------------------------------

    def _on_connected(self) -> None:
        self._refused_since = None
        self._up.set()
        self.clock.resume(_DISCONNECTED)

    def _on_interrupted(self, client: Client) -> None:
        if client is not self._client or not self._up.is_set():
            return
        self._up.clear()
        self.clock.stop(_DISCONNECTED)
        self.interruptions += 1
        _log.warning("bus-disconnected", action="bus_disconnected", reason=str(client.last_error or ""))
        for sink in self._all_sinks():
            sink.interrupted()

    def _all_sinks(self) -> list[Sink]:
        return list({id(subscription.sink): subscription.sink for subscription in self._subscriptions}.values())

    def _on_error(self, client: Client, error: Exception) -> None:
        if denied := parse_denied(error):
            self._on_denied(denied.operation, denied.subject)
        elif not self._up.is_set() and _REFUSED in str(error).lower():
            if not self.interruptions:
                # Raised into nats-py's first connect, which would otherwise try the same password for ever.
                raise PermissionDenied("NATS refused this credential", name=self.config.name)
            self._refused_again()
        else:
            if not self._up.is_set() and not isinstance(error, ConnectionResetError):
                self._refused_since = None  # no server was there to refuse it; one that refuses may reset instead
            _log.debug("bus-error", action="bus_error", reason=repr(error), connected=client.is_connected)

    def _note_closing(self, error: Exception | None) -> None:
        """A server closed the connection: maybe because of the credential."""
        if isinstance(error, AuthorizationError):
            self._refused_again()
        elif _EXPIRED in str(error).lower() and self.config.refused_for_s is not None:  # else another may replace it
            self.end(PermissionDenied("the credential has expired", name=self.config.name))

    def _refused_again(self) -> None:
        """A server that accepted the credential before refuses it: it is revoked, or the auth service is away."""
        now, limit_s = asyncio.get_running_loop().time(), self.config.refused_for_s
        if self._refused_since is None:
            self._refused_since = now
        if limit_s is not None and now - self._refused_since >= limit_s:
            self.end(PermissionDenied("NATS refuses this credential now", name=self.config.name))

    def _on_denied(self, operation: str, lowered: str) -> None:
        self.refused += 1
        _log.warning("bus-denied", action="bus_denied", operation=operation, subject=lowered)
        if operation == "publish":
            self._requests.publish_denied(lowered)
            return
        for subscription in [one for one in self._subscriptions if one.pattern.lower() == lowered]:
            subscription.sink.denied(PermissionDenied("NATS refused a subscription", subject=subscription.pattern))


@asynccontextmanager
async def open_connection(config: BusConfig) -> AsyncIterator[Connection]:
    """Connect, stay connected, close.

    Raises:
        BusUnavailable: No server answered in time.
        PermissionDenied: A server refused the credential.
    """
    connection = Connection(config)
    await connection.open()
    try:
        async with background(connection.keep_alive(), name="bus-keep-alive"):
            yield connection
    finally:
        await connection.close()
