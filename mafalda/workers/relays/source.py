"""One relay source: a producer of one of our workers, sent over a pipe."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Protocol

import structlog

from mafalda.contract.messages.queries import CarryProducer, ProducerCarried
from mafalda.errors import NotFound
from mafalda.media.rtp import CodecMapping, EncodingMapping, RtpMapping
from mafalda.mediasoup import Consumer, DataConsumer, DataProducer, PipeTransport, Producer, Router
from mafalda.workers.core.instructions import RelayKey
from mafalda.workers.core.layers import ALL_LAYERS
from mafalda.workers.core.relay_source import RelaySourceState, RequestedState
from mafalda.workers.relays.pipes import PipeKey
from mafalda.workers.relays.scores import score_notice, scores_of
from mafalda.workers.relays.sideband import RelaySideband, Stop

#: What sends a producer over the pipe, or the direct data producer whose messages cross on the sideband.
Carrier = Consumer | DataConsumer | DataProducer
log = structlog.get_logger("mafalda.workers")


class Upstream(Protocol):
    """The relay targets of this server, one of which may be the producer that is sent, in a tree of relays.

    For a producer that has its origin here, only its layers count.
    """

    def use(self, key: RelayKey, user: Hashable, *, paused: bool, layer: int = ALL_LAYERS) -> None:
        """Add a user of a producer, pause or resume one, or change the highest spatial layer that it takes.

        Raises:
            NotFound: The relay target is not open.
        """

    def release(self, key: RelayKey, user: Hashable) -> None:
        """Remove a user."""

    def origin_scores(self, key: RelayKey) -> tuple[int, ...] | None:
        """The scores of a relayed producer at its origin; None if the producer has its origin here."""


class RelaySource:
    """Executes what its state machine (``RelaySourceState``) requires.

    Args:
        pipe: The pipe.
        request: What the target requested.
        end: Our end of the pipe.
        router: The room's router on the source worker.
        upstream: The relay targets, one of which the producer may be.
        sideband: Carries what a pipe cannot.
        on_end: Called once when it has ended, whyever.
    """

    def __init__(
        self,
        pipe: PipeKey,
        request: CarryProducer,
        end: PipeTransport,
        router: Router,
        upstream: Upstream,
        sideband: RelaySideband,
        on_end: Callable[[RelaySource], None],
    ) -> None:
        self.state = RelaySourceState()
        self.producer = request.producer
        self._key = pipe.at_source(request.producer)
        self._pipe = pipe
        self._data = request.data
        self._end = end
        self._router = router
        self._upstream = upstream
        self._sideband = sideband
        self._on_end = on_end
        self._carrier: Carrier | None = None
        self._stops: list[Stop] = []
        self._opened: asyncio.Future[Carrier] = asyncio.get_running_loop().create_future()

    async def open(self) -> None:
        """Begin to send it. Call it once; ``opened`` has the outcome."""
        try:
            self._opened.set_result(await self._open())
        except Exception as error:
            self._opened.set_exception(error)
            self._opened.exception()  # whoever waits gets it; without anybody it concerns nobody
        finally:
            self._opened.cancel()

    async def opened(self) -> ProducerCarried:
        """What the target needs to know to produce it, once it is being sent. Giving up waiting does not stop it.

        Raises:
            NotFound: There is no such producer, or it is not needed any more.
            MafaldaError: The worker refuses.
        """
        return self._describe(await asyncio.shield(self._opened))

    async def set(self, wanted: RequestedState, layer: int = ALL_LAYERS) -> None:
        """Pause, resume or close it; ``layer``: the highest spatial layer that the target needs.

        Raises:
            NotFound: It is not being sent, or the relay that feeds it is closing.
        """
        carrier = self._carrier
        can_pause = carrier is not None and not isinstance(carrier, DataProducer)
        match self.state.request(wanted, self.producer, can_pause=can_pause):
            case "close":
                await self.close()
            case "pause" if isinstance(carrier, Consumer | DataConsumer):
                self._upstream.use(self._key, self._pipe, paused=True)
                await carrier.pause()
                self.state.paused()
            case "resume" if isinstance(carrier, Consumer | DataConsumer):
                self._upstream.use(self._key, self._pipe, paused=False, layer=layer)
                await carrier.resume()
                self.state.resumed()

    def end(self) -> None:
        """Note that it has ended, without closing what sends it."""
        if self.state.close():
            self._stop()
            self._upstream.release(self._key, self._pipe)
            self._on_end(self)

    async def close(self) -> None:
        """End it, and close what sends it."""
        self.end()
        self._stop()  # of what was begun while it was ended
        if self._carrier is not None and not isinstance(self._carrier, DataProducer):
            await self._carrier.close()

    def _stop(self) -> None:
        for stop in self._stops:
            stop()
        self._stops.clear()

    async def _open(self) -> Carrier:
        try:
            if self.state.is_closed:
                raise NotFound("this producer is not carried any more", producer=self.producer)
            self._upstream.use(self._key, self._pipe, paused=False)
            carrier = await self._consume()
        except BaseException:
            self.end()
            raise
        self._carrier = carrier
        if not self.state.opened():
            await self.close()
            raise NotFound("this producer is not carried any more", producer=self.producer)
        self._stops.append(carrier.on(carrier.CLOSE, lambda _: self.end()))
        log.info(
            "producer carried",
            action="producer_carried",
            room_id=self._pipe.room,
            producer_id=self.producer,
            worker_id=self._pipe.source.worker,
            target=f"{self._pipe.target.server}/{self._pipe.target.worker}",
        )
        return carrier

    async def _consume(self) -> Carrier:
        if not self._data:
            consumer = await self._end.consume(producer_id=self.producer)
            if producer := self._router.get_producer(self.producer):
                self._send_scores(producer)
            return consumer
        data_producer = self._router.get_data_producer(self.producer)
        if data_producer is not None and data_producer.type == "direct":
            self._stops.append(self._sideband.open_route(self._pipe, self.producer).close)
            return data_producer
        return await self._end.consume_data(data_producer_id=self.producer)

    def _send_scores(self, producer: Producer) -> None:
        """Send the scores of an origin. Those of a relay target are forwarded when they arrive there."""
        route = self._sideband.open_route(self._pipe, self.producer)
        self._stops.append(route.close)
        if self._upstream.origin_scores(self._key) is None:
            send = producer.on(producer.SCORE, lambda _: route.send(score_notice(self.producer, scores_of(producer))))
            self._stops.append(send)

    def _describe(self, carrier: Carrier) -> ProducerCarried:
        if isinstance(carrier, DataProducer):
            return ProducerCarried(label=carrier.label, protocol=carrier.protocol, paused=carrier.paused, direct=True)
        if isinstance(carrier, DataConsumer):
            return ProducerCarried(
                sctp_stream_parameters=carrier.sctp_stream_parameters,
                label=carrier.label,
                protocol=carrier.protocol,
                paused=carrier.data_producer_paused,
            )
        origin = self._router.get_producer(carrier.producer_id)
        if origin is None:
            raise NotFound("the producer has closed", producer=carrier.producer_id)
        scores = self._upstream.origin_scores(self._key)
        return ProducerCarried(
            media_kind=carrier.kind,
            type=origin.type,
            rtp_parameters=carrier.rtp_parameters,
            rtp_mapping=_mapping(origin, carrier) if origin.given_mapping is not None else None,
            scores=list(scores_of(origin) if scores is None else scores),
            paused=carrier.producer_paused,
        )


def _mapping(producer: Producer, consumer: Consumer) -> RtpMapping:
    """From the pipe's payload types and SSRCs back to those that the producer has in its router."""
    parameters = consumer.rtp_parameters
    origin = producer.consumable_rtp_parameters.encodings
    return RtpMapping(
        codecs=tuple(
            CodecMapping(payload_type=codec.payload_type, mapped_payload_type=codec.payload_type)
            for codec in parameters.codecs
        ),
        encodings=tuple(
            EncodingMapping(ssrc=sent.ssrc, mapped_ssrc=known.ssrc)
            for sent, known in zip(parameters.encodings, origin, strict=True)
            if known.ssrc is not None
        ),
    )
