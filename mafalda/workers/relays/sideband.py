"""What crosses a relay beside its pipe: notices about a producer, told once more at each of its mirrors.

Messages of direct data producers (``direct_data``) and producers' scores (``scores``) go this way. Inside a server a
call does it, to another server a message; a mirror that is carried on tells the next. What does not belong here: what
the notices say, when a producer is carried (``sources``).
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from mafalda.aio.tasks import TaskScope
from mafalda.contract import subjects
from mafalda.contract.messages.channel_calls import ChannelNotice
from mafalda.contract.messages.notices import RelayNotices
from mafalda.errors import MafaldaError
from mafalda.workers.core.instructions import RelayKey
from mafalda.workers.log.batcher import NoticeBatcher
from mafalda.workers.log.publisher import Publisher
from mafalda.workers.relays.pipes import PipeKey

Tell = Callable[[ChannelNotice], None]
Stop = Callable[[], None]
log = structlog.get_logger("mafalda.workers")


class RelaySideband:
    """All relays out of and into one server's workers.

    Args:
        server: This one.
        tasks: Where what goes to others is sent.
        publisher: Speaks to their agents.
    """

    def __init__(self, server: str, tasks: TaskScope, publisher: Publisher) -> None:
        self._server = server
        self._tasks = tasks
        self._publisher = publisher
        self._carried: dict[RelayKey, dict[PipeKey, Tell]] = {}
        self._expected: dict[RelayKey, tuple[PipeKey, Tell]] = {}

    def carry(self, pipe: PipeKey, producer: str) -> Stop:
        """From now on what is told of a producer is told at the pipe's target too; returns how to stop that."""
        key = RelayKey(pipe.room, producer, pipe.source.worker)
        tell = (lambda notice: self._hear(pipe, notice)) if pipe.is_local else self._teller(pipe)
        self._carried.setdefault(key, {})[pipe] = tell

        def stop() -> None:
            targets = self._carried.get(key, {})
            if targets.get(pipe) is tell:
                del targets[pipe]
            if not targets:
                self._carried.pop(key, None)

        return stop

    def tell(self, room: str, worker: str, notice: ChannelNotice) -> None:
        """Tell something of a producer (the notice's handler) on a worker of ours wherever it is carried."""
        for tell in list(self._carried.get(RelayKey(room, notice.handler, worker), {}).values()):
            tell(notice)

    def expect(self, pipe: PipeKey, producer: str, hear: Tell) -> Stop:
        """Hear what is told of a producer at its mirror on a worker of ours; returns how to stop that."""
        key = RelayKey(pipe.room, producer, pipe.target.worker)
        self._expected[key] = entry = (pipe, hear)

        def stop() -> None:
            if self._expected.get(key) is entry:
                del self._expected[key]

        return stop

    def receive(self, notices: RelayNotices) -> None:
        """Something for mirrors on a worker of ours."""
        pipe = PipeKey(notices.room, notices.source, notices.target)
        for notice in notices.items:
            self._hear(pipe, notice)

    def _teller(self, pipe: PipeKey) -> Tell:
        subject = subjects.agent_notice(pipe.target.server, RelayNotices.action)

        async def publish(items: list[ChannelNotice]) -> None:
            notices = RelayNotices(room=pipe.room, source=pipe.source, target=pipe.target, items=items)
            await self._publisher.publish(notices, subject)

        return NoticeBatcher(self._tasks, pipe.target.server, publish).put

    def _hear(self, pipe: PipeKey, notice: ChannelNotice) -> None:
        expected = self._expected.get(RelayKey(pipe.room, notice.handler, pipe.target.worker))
        if expected is None or expected[0] != pipe:
            return  # it has ended, and its source is about to hear so
        try:
            expected[1](notice)
        except (MafaldaError, ValueError) as error:
            log.warning("notice refused", action="notice_refused", producer_id=notice.handler, reason=str(error))
