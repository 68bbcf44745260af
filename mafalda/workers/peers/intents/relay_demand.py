"""A peer's demand for relays: waiting until one brings a producer to the peer's worker, and keeping it open.

A consume that waits for a relay does not hold up the peer's other intents: it leaves the queue, waits in a task of its
own, and is queued again at the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from mafalda.errors import DeadlineExceeded, MafaldaError, NotGranted
from mafalda.mediasoup import Consumer, DataConsumer
from mafalda.projection.state import ProducerState
from mafalda.workers.core.instructions import Entry, RelayKey
from mafalda.workers.core.layers import ALL_LAYERS
from mafalda.workers.peers.session.objects import PeerConsumer
from mafalda.workers.peers.session.responses import Outcome
from mafalda.workers.peers.session.session import PeerSession
from mafalda.workers.relays.target import RelayTarget

#: Consumes a producer, given the relay that brings it (``None`` if it is on the peer's own worker).
Consume = Callable[[RelayTarget | None], Awaitable[Outcome]]


def relay_key(session: PeerSession, producer: str) -> RelayKey:
    """The key of the relay that brings a producer to the peer's worker."""
    return RelayKey(session.room, producer, session.place.worker)


async def consume_when_relayed(
    session: PeerSession, entry: Entry, producer: ProducerState, consumer: str, consume: Consume
) -> Outcome | None:
    """Consume a producer as soon as it is on the peer's worker; ``None`` while that waits for a relay.

    Args:
        session: Of the peer.
        entry: The intent; it is answered at the end of the wait.
        producer: The producer, as the room's state has it.
        consumer: The client's id of the new consumer; reserved meanwhile.
        consume: Makes the consumer.
    """
    if producer.place == session.place:
        return await consume(None)
    key = relay_key(session, producer.producer)
    if relay := session.services.relay_targets.usable(key):
        return await consume(relay)
    session.objects.reserved.add(consumer)
    deadline_s = asyncio.get_running_loop().time() + session.services.config.consume_timeout_s
    _RelayWait(session, entry, key, consumer, consume, deadline_s).start()
    return None


class _RelayWait:
    """One consume that waits for its relay."""

    def __init__(
        self,
        session: PeerSession,
        entry: Entry,
        key: RelayKey,
        consumer: str,
        consume: Consume,
        deadline_s: float,
    ) -> None:
        self._session = session
        self._entry = entry
        self._key = key
        self._consumer = consumer
        self._consume = consume
        self._deadline_s = deadline_s  # of the loop's clock

    def start(self) -> None:
        """Wait in a task. Allocators look for consumes in no batch, so the relay for such a one is requested."""
        if self._entry.batch is not None:
            self._session.services.relay_requests.need(self._key)
        self._session.services.tasks.spawn(self._wait(), f"consume {self._consumer} waits for its relay")

    async def _wait(self) -> None:
        error: MafaldaError | None = None
        try:
            await self._session.services.relay_targets.waiters.wait(
                self._key, self._deadline_s, since_seq=self._entry.seq
            )
        except TimeoutError:
            waited_s = self._session.services.config.consume_timeout_s
            error = DeadlineExceeded("no relay in time", producer=self._key.producer, waited_s=waited_s)
        except MafaldaError as failed:
            error = failed
        self._session.jobs.add(lambda: self._finish(error), lambda: self._session.reject(self._entry))

    async def _finish(self, error: MafaldaError | None) -> None:
        """Consume; or wait again if the relay has closed again; or reject the intent."""
        if self._consumer not in self._session.objects.reserved:
            error = NotGranted("the peer may not receive any more", consumer=self._consumer)
        relay = self._session.services.relay_targets.usable(self._key)
        if error is None and relay is None and asyncio.get_running_loop().time() < self._deadline_s:
            self.start()
            return
        self._session.objects.reserved.discard(self._consumer)

        async def consume() -> Outcome:
            if error is not None:
                raise error
            if relay is None:
                raise DeadlineExceeded("no relay in time", producer=self._key.producer)
            return await self._consume(relay)

        await self._session.responder.attempt(self._entry, consume)


class RelayDemandLease:
    """Demand for a relay while a consumer of it is made; withdrawn at the block's end unless ``keep`` was called.

    Without it, a relay that nobody else uses could close in the middle. Does nothing where no relay is involved.

    Args:
        session: Of the peer.
        producer: The id of the producer.
        consumer: The id of the new consumer.
        relay: The relay that brings the producer; ``None``: it is on the peer's worker.
        paused: Whether the consumer starts paused.

    Raises:
        NotFound: The relay is closing.
    """

    def __init__(
        self, session: PeerSession, producer: str, consumer: str, relay: RelayTarget | None, *, paused: bool
    ) -> None:
        self._session = session
        self._producer = producer
        self._consumer = consumer
        self._relay = relay
        self._paused = paused
        self._is_kept = False

    def __enter__(self) -> RelayDemandLease:
        if self._relay is not None:
            add_demand(self._session, self._producer, self._consumer, paused=self._paused)
        return self

    def keep(self) -> None:
        """The consumer is made: the demand stays until it is withdrawn when the consumer closes."""
        self._is_kept = True

    def __exit__(self, *_: object) -> None:
        if self._relay is not None and not self._is_kept:
            withdraw_demand(self._session, self._producer, self._consumer)


def keep_consumer(session: PeerSession, id: str, kept: PeerConsumer, closed: Callable[[str], None]) -> None:
    """Keep a consumer until it closes; its relay is not needed any more then.

    Args:
        session: Of the peer.
        id: The peer's id of the consumer.
        kept: The consumer.
        closed: Called with the cause after it has closed.
    """
    session.objects.consumers[id] = kept
    if kept.relay is None or kept.relay.is_open:
        update_demand(session, id, paused=kept.is_paused)

    def remove(cause: str) -> None:
        session.objects.consumers.pop(id, None)
        withdraw_demand(session, kept.producer, id)
        closed(cause)

    kept.consumer.on(kept.consumer.CLOSE, remove)


def add_demand(session: PeerSession, producer: str, consumer: str, *, paused: bool, layer: int = ALL_LAYERS) -> None:
    """Record that a consumer takes its producer, flowing or paused, and the highest spatial layer that it takes.

    Raises:
        NotFound: The relay is closing.
    """
    key, user = relay_key(session, producer), (session.peer, consumer)
    session.services.relay_targets.use(key, user, paused=paused, layer=layer)


def withdraw_demand(session: PeerSession, producer: str, consumer: str) -> None:
    """Record that a consumer has closed."""
    session.services.relay_targets.release(relay_key(session, producer), (session.peer, consumer))


def update_demand(session: PeerSession, consumer: str, *, paused: bool) -> None:
    """Update the demand for what a consumer takes: of the relay that feeds it, or of the producer on its worker."""
    found = session.objects.consumers.get(consumer)
    if (
        found is not None
        and session.services.relay_targets.by_key.get(relay_key(session, found.producer)) is found.relay
    ):
        add_demand(session, found.producer, consumer, paused=paused, layer=_highest_layer(found.consumer))


def _highest_layer(consumer: Consumer | DataConsumer) -> int:
    preferred = consumer.preferred_layers if isinstance(consumer, Consumer) else None
    return preferred.spatial_layer if preferred else ALL_LAYERS
