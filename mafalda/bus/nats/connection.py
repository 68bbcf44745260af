"""One connection to NATS that outlives its sockets, and subscriptions that deliver in order of arrival.

Answers to requests come in the read loop too (``taps``), without a task or a queue.

nats-py closes for good on most errors that a server can send; then a new client is built and everything is
subscribed again. A sink is told of each interruption, since core NATS delivers at most once.

What does not belong here: JetStream, messages' meaning.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from secrets import token_hex
from typing import Any, Literal

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import BadSubjectError, MaxPayloadError
from nats.errors import Error as NatsError

from mafalda.aio.tasks import background
from mafalda.bus.config import BusConfig
from mafalda.bus.nats.subscriptions import Sink, Tap, Tapped
from mafalda.errors import BusUnavailable, MafaldaError, MessageTooLarge, PermissionDenied

_log = structlog.get_logger(__name__)

_DENIED = re.compile(r'permissions violation for (publish|subscription) to "([^"]+)"', re.IGNORECASE)
#: An older server ignores the header that makes a condition hold for a whole aggregate, so two allocators would win.
_OLDEST_SERVER = (2, 12)
_REBUILD_WAIT_S = (0.1, 0.2, 0.5, 1.0, 2.0)


class Unanswered(Exception):
    """A request without an answer. Never leaves the bus: its callers say what it means for them."""

    def __init__(self, reason: Literal["no-responders", "connection-lost", "timeout"]) -> None:
        super().__init__(reason)
        self.reason = reason


class _Client(Client):  # type: ignore[misc]  # nats-py is not checked
    """nats-py's client, with a faster parser of header lines: 2 µs for a republished message, not 7."""

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        headers: dict[str, str] = {}
        for line in raw.decode(errors="replace").split("\r\n"):
            name, colon, value = line.partition(":")
            if colon:
                headers[name.strip()] = value.strip()
        return headers


@dataclass(slots=True)
class _Pending:
    subject: str
    answer: asyncio.Future[Msg]
    maybe_denied: PermissionDenied | None = None


@dataclass(eq=False)
class Connection:
    """Open it with ``open_connection``."""

    config: BusConfig
    _client: Client = field(default_factory=_Client)
    _taps: list[Tapped] = field(default_factory=list)
    _pending: dict[str, _Pending] = field(default_factory=dict)
    _up: asyncio.Event = field(default_factory=asyncio.Event)
    _dead: asyncio.Event = field(default_factory=asyncio.Event)
    _closing: bool = False
    _subscribed: bool = False
    _tokens: count[int] = field(default_factory=count)
    _answers: str = ""
    refused: int = 0
    interruptions: int = 0

    @property
    def is_up(self) -> bool:
        """Whether a server is connected right now."""
        return self._up.is_set()

    def new_inbox(self) -> str:
        """A subject that nobody else has."""
        return f"{self.config.inbox_prefix}.{token_hex(12)}"

    async def subscribe(self, pattern: str, sink: Sink, *, queue: str = "") -> Tapped:
        """Deliver to ``sink`` from now on (``flush`` to be sure that the server knows)."""
        tapped = Tapped(pattern, sink, queue)
        self._taps.append(tapped)
        if self._subscribed:
            await self._subscribe(self._client, tapped)
        return tapped

    async def unsubscribe(self, *taps: Tapped) -> None:
        """Deliver no more; what was delivered already stays where it is."""
        for tapped in taps:
            if tapped in self._taps:
                self._taps.remove(tapped)
            if tapped.native is not None:
                with suppress(NatsError):  # closed or already gone: then there is nothing to say to the server
                    await tapped.native.unsubscribe()

    async def publish(
        self, subject: str, data: bytes, *, reply: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        """Send at most once.

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
        """Send and await one answer, whatever it holds. While disconnected it waits, as part of the time.

        Raises:
            Unanswered: Nobody listens there, the connection broke meanwhile, or no answer in time.
            PermissionDenied: This credential may not publish there.
        """
        pending = _Pending(subject, asyncio.get_running_loop().create_future())
        token = str(next(self._tokens))
        try:
            async with asyncio.timeout(timeout_s):
                await self._up.wait()
                self._pending[token] = pending
                await self.publish(subject, data, reply=f"{self._answers}.{token}", headers=headers)
                answer = await pending.answer
        except TimeoutError:
            raise pending.maybe_denied or Unanswered("timeout") from None
        except BusUnavailable:
            raise Unanswered("connection-lost") from None
        finally:
            self._pending.pop(token, None)
        if answer.headers and answer.headers.get("Status") == "503" and not answer.data:
            raise Unanswered("no-responders")
        return answer

    async def flush(self, timeout_s: float) -> None:
        """Return when the server has worked on all that was sent before.

        By a message to oneself: nats-py's own ``flush`` sends its ping *before* what waits in its buffer.

        Raises:
            Unanswered: See ``request``.
        """
        token = str(next(self._tokens))
        answer: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        subject = f"{self._answers}.{token}"
        self._pending[token] = _Pending(subject, answer)
        try:
            async with asyncio.timeout(timeout_s):
                await self._up.wait()
                await self.publish(subject, b"")
                await answer
        except TimeoutError:
            raise Unanswered("timeout") from None
        except BusUnavailable:
            raise Unanswered("connection-lost") from None
        finally:
            self._pending.pop(token, None)

    async def reconnect(self) -> None:
        """Break the connection and return when it is whole again.

        Raises:
            TimeoutError: It does not come back within ``connect_timeout_s``.
        """
        await self._client.force_reconnect()
        self._on_interrupted(self._client)
        async with asyncio.timeout(self.config.connect_timeout_s):
            await self._up.wait()

    # --- Sink of the answers ---------------------------------------------------------------------

    def deliver(self, message: Msg, pattern: str) -> None:
        pending = self._pending.get(message.subject[len(pattern) - 1 :])
        if pending and not pending.answer.done():
            pending.answer.set_result(message)

    def interrupted(self) -> None:
        for pending in self._pending.values():
            if not pending.answer.done():
                pending.answer.set_exception(Unanswered("connection-lost"))

    def denied(self, error: PermissionDenied) -> None:
        for pending in self._pending.values():
            if not pending.answer.done():
                pending.answer.set_exception(error)

    # --- life ------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect for the first time."""
        self._answers = self.new_inbox()
        self._taps.append(Tapped(f"{self._answers}.*", self))
        try:
            async with asyncio.timeout(self.config.connect_timeout_s):
                await self._connect()
        except TimeoutError:
            await self._client.close()
            raise BusUnavailable(
                "cannot connect to NATS",
                servers=", ".join(_without_password(url) for url in self.config.servers),
                timeout_s=self.config.connect_timeout_s,
                last_error=str(self._client.last_error or ""),
            ) from None
        except BaseException:
            await self._client.close()
            raise

    async def close(self) -> None:
        """Send what waits, then close; no call is answered after this."""
        self._closing = True
        if self._up.is_set():
            with suppress(Unanswered):  # a server that does not answer gets no more time
                await self.flush(1)
        self._up.clear()
        self.interrupted()
        await self._client.close()

    async def keep_alive(self) -> None:
        """Build a new client whenever nats-py has closed one for good. Runs until cancelled."""
        while True:
            await self._dead.wait()
            self._dead.clear()
            if not self._client.is_closed:
                continue
            for attempt in count():
                await asyncio.sleep(_REBUILD_WAIT_S[min(attempt, len(_REBUILD_WAIT_S) - 1)])
                try:
                    async with asyncio.timeout(self.config.connect_timeout_s):
                        await self._connect()
                    break
                except (TimeoutError, MafaldaError, NatsError, OSError) as error:
                    _log.warning("bus-rebuild-failed", action="bus-rebuild-failed", reason=str(error))
                    await self._client.close()

    async def _connect(self) -> None:
        self._client = client = _Client()
        self._subscribed = False

        async def on_error(error: Exception) -> None:
            self._on_error(client, error)

        async def on_disconnected() -> None:
            self._on_interrupted(client)

        async def on_reconnected() -> None:
            if client is self._client:
                self._up.set()
                _log.info("bus-reconnected", action="bus-reconnected", server=_server_of(client))

        async def on_closed() -> None:
            self._on_interrupted(client)
            if client is self._client and self._subscribed and not self._closing:
                self._subscribed = False
                _log.warning("bus-closed-by-server", action="bus-closed-by-server", reason=str(client.last_error))
                self._dead.set()

        config = self.config
        await client.connect(
            servers=list(config.servers),
            name=config.name,
            error_cb=on_error,
            disconnected_cb=on_disconnected,
            reconnected_cb=on_reconnected,
            closed_cb=on_closed,
            max_reconnect_attempts=-1,
            connect_timeout=2,
            reconnect_time_wait=config.reconnect_wait_s,
            ping_interval=config.ping_interval_s,
            **_credentials(config),
        )
        version = client.connected_server_version
        if (version.major, version.minor) < _OLDEST_SERVER:
            raise BusUnavailable("nats-server is too old", version=f"{version.major}.{version.minor}", oldest="2.12")
        self._subscribed = True
        for tapped in list(self._taps):
            await self._subscribe(client, tapped)
        self._up.set()

    async def _subscribe(self, client: Client, tapped: Tapped) -> None:
        tap: Any = Tap(tapped)
        tapped.native = await client.subscribe(tapped.pattern, queue=tapped.queue, future=tap)

    def _on_interrupted(self, client: Client) -> None:
        if client is not self._client or not self._up.is_set():
            return
        self._up.clear()
        self.interruptions += 1
        _log.warning("bus-disconnected", action="bus-disconnected", reason=str(client.last_error or ""))
        for sink in {id(tapped.sink): tapped.sink for tapped in self._taps}.values():
            sink.interrupted()

    def _on_error(self, client: Client, error: Exception) -> None:
        match = _DENIED.search(str(error))
        if match:
            self._on_denied(match[1].lower(), match[2])
        elif not self._up.is_set() and "authorization violation" in str(error).lower() and not self.interruptions:
            # Raised into nats-py's first connect, which would otherwise try the same password for ever.
            raise PermissionDenied("NATS refused this credential", name=self.config.name)
        else:
            _log.debug("bus-error", action="bus-error", reason=repr(error), connected=client.is_connected)

    def _on_denied(self, what: str, lowered: str) -> None:
        self.refused += 1
        _log.warning("bus-denied", action="bus-denied", operation=what, subject=lowered)
        if what == "subscription":
            for tapped in [tapped for tapped in self._taps if tapped.pattern.lower() == lowered]:
                tapped.sink.denied(PermissionDenied("NATS refused a subscription", subject=tapped.pattern))
            return
        suspects = [pending for pending in self._pending.values() if pending.subject.lower() == lowered]
        certain = len({pending.subject for pending in suspects}) == 1
        for pending in suspects:
            denied = PermissionDenied("NATS refused a publish", subject=pending.subject)
            if not certain:  # nats-py lowers the subject; the one that was allowed will be answered
                pending.maybe_denied = denied
            elif not pending.answer.done():
                pending.answer.set_exception(denied)


@asynccontextmanager
async def open_connection(config: BusConfig) -> AsyncIterator[Connection]:
    """Connect, keep connected, close.

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


def _credentials(config: BusConfig) -> dict[str, Any]:
    given: dict[str, Any] = {}
    if config.user is not None:
        given["user"] = config.user
    if config.password is not None:
        given["password"] = config.password.get_secret_value()
    if config.token is not None:
        given["token"] = config.token.get_secret_value()
    if config.credentials_file is not None:
        given["user_credentials"] = config.credentials_file
    return given


def _server_of(client: Client) -> str:
    url = client.connected_url
    return f"{url.hostname}:{url.port}" if url else ""


def _without_password(url: str) -> str:
    return re.sub(r"//[^@/]*@", "//", url)
