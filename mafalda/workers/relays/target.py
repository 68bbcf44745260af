"""One relay target: a producer of another worker, produced again on one of ours under its own id."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable

import structlog

from mafalda.contract.messages.channel_calls import ChannelNotice
from mafalda.contract.messages.queries import CarryProducer, ProducerCarried, SetCarried
from mafalda.errors import MafaldaError, RelayUnavailable
from mafalda.mediasoup import DataProducer, PipeTransport, Producer
from mafalda.workers.config import AgentConfig
from mafalda.workers.core.instructions import OpenRelayTarget
from mafalda.workers.core.layers import ALL_LAYERS
from mafalda.workers.core.relay_source import RequestedState
from mafalda.workers.core.relay_target import CarryAgain, Effect, RelayTargetState, Retire, SetProducer, SetSource, Wait
from mafalda.workers.relays import direct_data
from mafalda.workers.relays.pipes import PipeKey
from mafalda.workers.relays.scores import PRODUCER_SCORE, OriginScores
from mafalda.workers.relays.sideband import RelaySideband, Stop
from mafalda.workers.relays.source_port import SourcePort
from mafalda.workers.relays.target_pipes import TargetPipes

#: For the source to confirm that a relay has ended, in seconds.
_END_WITHIN_S = 1.0
log = structlog.get_logger("mafalda.workers")


class RelayTarget:
    """Executes what its state machine (``RelayTargetState``) requires.

    Args:
        instruction: What the machine ordered.
        config: Time limits.
        pipes: Our ends of pipes.
        sideband: Carries what a pipe cannot.
        source: The relay's source side.
        is_origin_paused: Whether the origin is paused by the log; None if the log does not have it.
    """

    def __init__(
        self,
        instruction: OpenRelayTarget,
        config: AgentConfig,
        pipes: TargetPipes,
        sideband: RelaySideband,
        source: SourcePort,
        is_origin_paused: Callable[[], bool | None],
    ) -> None:
        self.key = instruction.key
        self.order = instruction.command
        self.cause = instruction.entry.message
        self.seq = instruction.entry.seq
        self.pipe = PipeKey(self.key.room, self.order.source, self.order.target)
        self.state = RelayTargetState.new(
            data=self.order.data,
            pause_after_s=config.relay_pause_after_s,
            unused_s=config.relay_unused_s,
            now=_now(),
        )
        self.scores = OriginScores()
        self.closing = asyncio.Event()  # set when the log has removed the producer or the source
        self._config = config
        self._pipes = pipes
        self._sideband = sideband
        self._source = source
        self._is_origin_paused = is_origin_paused
        self._producer: Producer | DataProducer | None = None
        self._unsubscribe: Stop | None = None
        self._changed = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """Whether it can be consumed."""
        return self.state.state == "open"

    # --- what happens to it -------------------------------------------------------------------------

    def use(self, user: Hashable, *, paused: bool, layer: int = ALL_LAYERS) -> None:
        """Add a user, pause or resume one, or change the highest spatial layer that it takes.

        Raises:
            NotFound: It is not open.
        """
        self.state.add_user(user, _now(), paused=paused, layer=layer)
        self._changed.set()

    def release(self, user: Hashable) -> None:
        """Remove a user."""
        self.state.remove_user(user, _now())
        self._changed.set()

    def reconcile(self) -> None:
        """The origin may have been paused or resumed."""
        self.state.changed()
        self._changed.set()

    def announced(self) -> None:
        """It is produced, and the room knows."""
        self.state.opened(_now())

    # --- opening ------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Produce it here.

        Raises:
            MafaldaError: The source or a worker refuses.
            TimeoutError: It takes longer than ``relay_open_timeout_s``.
        """
        async with asyncio.timeout(self._config.relay_open_timeout_s):
            end = await self._pipes.acquire(self.pipe, self, cause=self.cause)
            self._unsubscribe = self._sideband.subscribe(self.pipe, self.key.producer, self._receive)
            self._producer = await self._produce(end, await self._carry())

    async def _carry(self) -> ProducerCarried:
        order = self.order
        request = CarryProducer(
            room=order.room, producer=order.producer, data=order.data, source=order.source, target=order.target
        )
        return await self._source.carry(request)

    async def _produce(self, end: PipeTransport, carried: ProducerCarried) -> Producer | DataProducer:
        if carried.direct:
            transport = await self._pipes.acquire_direct(self.pipe)
            return await transport.produce_data(
                id=self.key.producer, label=carried.label, protocol=carried.protocol, paused=carried.paused
            )
        if self.order.data:
            return await end.produce_data(
                id=self.key.producer,
                sctp_stream_parameters=carried.sctp_stream_parameters,
                label=carried.label,
                protocol=carried.protocol,
            )
        if carried.media_kind is None or carried.rtp_parameters is None:
            raise RelayUnavailable("the source replies without RTP parameters", producer=self.key.producer)
        self.scores.initialize(carried.scores)
        return await end.produce(
            id=self.key.producer,
            kind=carried.media_kind,
            rtp_parameters=carried.rtp_parameters,
            rtp_mapping=carried.rtp_mapping,
            paused=carried.paused,
            key_frame_request_delay=self._config.relay_key_frame_request_delay_ms or None,
        )

    def _receive(self, notice: ChannelNotice) -> None:
        if notice.event == PRODUCER_SCORE:
            self.scores.update(notice)
            self._sideband.forward(self.key.room, self.key.worker, notice)
        elif isinstance(self._producer, DataProducer):
            direct_data.receive(self._sideband, self.key, self._producer, notice)

    # --- while it is open ---------------------------------------------------------------------------

    async def run(self) -> None:
        """Do what the state machine requires, until it retires."""
        while True:
            self._changed.clear()
            step = self._next_step()
            match step:
                case Retire():
                    return
                case Wait(until):
                    await self._wait(until)
                case _:
                    await self._execute(step)

    def _next_step(self) -> Effect | Retire | Wait:
        producer_paused = self._producer is not None and self._producer.paused
        return self.state.advance(_now(), producer_paused=producer_paused, origin_paused=self._is_origin_paused())

    async def _wait(self, until: float | None) -> None:
        try:
            async with asyncio.timeout_at(until):
                await self._changed.wait()
        except TimeoutError:
            pass  # something is due

    async def _execute(self, step: Effect) -> None:
        try:
            match step:
                case SetProducer(paused) if self._producer is not None:
                    await (self._producer.pause() if paused else self._producer.resume())
                case SetSource(paused, layer):
                    await self._set_source("paused" if paused else "flowing", layer)
                case CarryAgain():
                    await self._carry()
        except MafaldaError as error:
            log.info(
                "relay unsettled",
                action="relay_unsettled",
                room_id=self.key.room,
                producer_id=self.key.producer,
                reason=str(error),
            )
            self.state.step_failed(step, error, _now())
        else:
            self.state.done(step)

    async def _set_source(self, wanted: RequestedState, layer: int = ALL_LAYERS) -> None:
        order = self.order
        request = SetCarried(
            room=order.room,
            producer=order.producer,
            source=order.source,
            target=order.target,
            wanted=wanted,
            spatial_layer=layer if layer < ALL_LAYERS else None,
        )
        await self._source.set_carried(request)

    # --- the end ------------------------------------------------------------------------------------

    async def end_source(self) -> None:
        """Request the source to end what it sends; if that fails it ends it by the log."""
        try:
            async with asyncio.timeout(_END_WITHIN_S):
                await self._set_source("closed")
        except (MafaldaError, TimeoutError) as error:
            log.info(
                "relay not closed at its source",
                action="relay_source_not_closed",
                room_id=self.key.room,
                producer_id=self.key.producer,
                reason=str(error),
            )

    async def close(self) -> None:
        """Close the producer and release the pipe."""
        if self._unsubscribe is not None:
            self._unsubscribe()
        try:
            if self._producer is not None:
                await self._producer.close()
        finally:
            self._pipes.release(self.pipe, self)
            self.state.released()


def _now() -> float:
    return asyncio.get_running_loop().time()
