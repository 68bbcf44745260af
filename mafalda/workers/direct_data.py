"""Messages of direct data producers, carried from worker to worker by the agents.

An application sends by a direct data producer, and may choose sub-channels. SCTP has no word for those, so what crosses
a pipe has lost them. What comes to a data producer's agent as a notice is therefore told once more at each mirror, by
this agent or by the mirror's, and a mirror that is carried on tells the next.

What does not belong here: when a producer is carried (``sources``), its mirrors (``mirrors``).
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from mafalda.contract import subjects
from mafalda.contract.channel_calls import ChannelNotice
from mafalda.contract.errors import MafaldaError
from mafalda.contract.notices import MessagesCarried
from mafalda.mediasoup import DataProducer, raw
from mafalda.mediasoup.channel_json import from_json
from mafalda.workers.machine.instructions import MirrorKey
from mafalda.workers.outbox import Outbox
from mafalda.workers.pipes import PipeKey
from mafalda.workers.tasks import Tasks
from mafalda.workers.voice import Voice

#: How an application's library sends by a data producer.
SEND = "DATAPRODUCER_SEND"
log = structlog.get_logger("mafalda.workers")
Tell = Callable[[ChannelNotice], None]


class Carriage:
    """What a pipe's data consumer is to other data producers: one of them, on its way to one mirror."""

    def __init__(self, producer: DataProducer, stop: Callable[[], None]) -> None:
        self.producer = producer
        self.stop = stop


class DirectData:
    """All direct data producers and mirrors of one server.

    Args:
        server: This one.
        tasks: Where messages to others are sent.
        voice: Speaks to their agents.
    """

    def __init__(self, server: str, tasks: Tasks, voice: Voice) -> None:
        self._server = server
        self._tasks = tasks
        self._voice = voice
        self._carried: dict[MirrorKey, dict[PipeKey, Tell]] = {}
        self._mirrors: dict[MirrorKey, tuple[PipeKey, DataProducer]] = {}

    # --- the source ---------------------------------------------------------------------------------

    def carry(self, pipe: PipeKey, producer: DataProducer) -> Carriage:
        """From now on its messages go to the pipe's target too, until that is stopped."""
        key = MirrorKey(pipe.room, producer.id, pipe.source.worker)
        tell = self._tell_here(pipe) if pipe.is_local else self._tell_there(pipe)
        self._carried.setdefault(key, {})[pipe] = tell

        def stop() -> None:
            targets = self._carried.get(key, {})
            if targets.get(pipe) is tell:
                del targets[pipe]
            if not targets:
                self._carried.pop(key, None)

        return Carriage(producer, stop)

    def send(self, room: str, worker: str, producer: DataProducer, notice: ChannelNotice) -> None:
        """Let a data producer send a message, here and wherever it is carried.

        Raises:
            InvalidParameters: It is none.
        """
        raw.send_data(producer, from_json(notice.body))
        if not producer.paused:
            for tell in list(self._carried.get(MirrorKey(room, producer.id, worker), {}).values()):
                tell(notice)

    def _tell_here(self, pipe: PipeKey) -> Tell:
        return lambda notice: self._deliver(pipe, notice)

    def _tell_there(self, pipe: PipeKey) -> Tell:
        subject = subjects.agent_notice(pipe.target.server, MessagesCarried.action)

        async def publish(items: list[ChannelNotice]) -> None:
            carried = MessagesCarried(room=pipe.room, source=pipe.source, target=pipe.target, items=items)
            await self._voice.report(carried, subject)

        return Outbox(self._tasks, pipe.target.server, publish).put

    # --- the target ---------------------------------------------------------------------------------

    def expect(self, pipe: PipeKey, producer: DataProducer) -> None:
        """A mirror on a worker of ours, until it is closed."""
        key = MirrorKey(pipe.room, producer.id, pipe.target.worker)
        self._mirrors[key] = entry = (pipe, producer)

        def closed(_: str) -> None:
            if self._mirrors.get(key) is entry:
                del self._mirrors[key]

        producer.on(producer.CLOSE, closed)

    def hear(self, carried: MessagesCarried) -> None:
        """Messages for mirrors on a worker of ours."""
        pipe = PipeKey(carried.room, carried.source, carried.target)
        for notice in carried.items:
            self._deliver(pipe, notice)

    def _deliver(self, pipe: PipeKey, notice: ChannelNotice) -> None:
        known = self._mirrors.get(MirrorKey(pipe.room, notice.handler, pipe.target.worker))
        if known is None or known[0] != pipe or notice.event != SEND:
            return  # it has ended, and its source is about to hear so
        try:
            self.send(pipe.room, pipe.target.worker, known[1], notice)
        except MafaldaError as error:
            log.warning("message refused", action="notice_refused", producer_id=notice.handler, reason=str(error))
