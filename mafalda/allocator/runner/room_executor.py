"""The desk: takes up what is to be decided, one thing at a time for each room, and appends what comes of it.

Shell. Decisions about one room are made one after the other, each upon the one before; rooms do not
wait for each other, and a decision whose command is on its way to the log counts already.
What does not belong here: where stimuli come from (``runner``), what follows from one (``decide``).
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import structlog

from mafalda.aio.sequence import SequenceWaiter
from mafalda.allocator.config import AllocatorConfig
from mafalda.allocator.core import work_queue
from mafalda.allocator.core.decide import Decision, Say, Stimulus, decide
from mafalda.allocator.core.placement.policy import Dice
from mafalda.allocator.core.state.open_intents import OpenIntent
from mafalda.allocator.core.state.view import View
from mafalda.allocator.runner.clock import Clock
from mafalda.bus.compose import compose
from mafalda.bus.protocol import Bus, Expect
from mafalda.contract import subjects
from mafalda.contract.messages.commands import PlacePeer
from mafalda.contract.messages.envelope import Message
from mafalda.contract.messages.results import Rejected
from mafalda.errors import Conflict, MafaldaError
from mafalda.telemetry.metrics import count_rejection
from mafalda.telemetry.tracing import handling

#: How long the log may take to show what was just appended, or what another won with; then the timer helps.
_FOLD_DEADLINE_S = 5.0

_log = structlog.get_logger(__name__)


class Desk:
    """Decides and appends. Tasks live in the group that it is given."""

    def __init__(
        self,
        bus: Bus,
        config: AllocatorConfig,
        clock: Clock,
        rng: Callable[[str], Dice],
        view: View,
        counters: Counter[str],
    ) -> None:
        self._bus = bus
        self._config = config
        self._clock = clock
        self._rng = rng
        self._view = view
        self._counters = counters
        self._folded = SequenceWaiter()
        self._queues: dict[str, deque[Stimulus]] = {}
        self._queued: set[Stimulus] = set()
        self._in_flight = asyncio.Semaphore(config.max_in_flight)

    def folded(self, seq: int) -> None:
        """The view has everything up to ``seq``."""
        self._folded.reached(seq)

    def take(self, stimulus: Stimulus, tasks: asyncio.TaskGroup) -> None:
        """Decide this, after what waits for the same room; what waits already is not taken twice."""
        if stimulus in self._queued:
            return
        self._queued.add(stimulus)
        room = work_queue.room_of(stimulus)
        if room in self._queues:
            self._queues[room].append(stimulus)
            return
        self._queues[room] = deque([stimulus])
        tasks.create_task(self._serve(room, tasks), name=f"{self._config.name}-room-{room}")

    async def _serve(self, room: str, tasks: asyncio.TaskGroup) -> None:
        queue = self._queues[room]
        try:
            while queue:
                stimulus = queue.popleft()
                try:
                    await self._settle(stimulus, tasks)
                finally:
                    self._queued.discard(stimulus)
        finally:
            self._queued.difference_update(queue)
            del self._queues[room]

    async def _settle(self, stimulus: Stimulus, tasks: asyncio.TaskGroup) -> None:
        for _ in range(self._config.max_attempts):
            if not work_queue.is_open(self._view, stimulus):
                return
            decision = self._decide(stimulus)
            if decision is None or not decision.says:
                return
            try:
                await self._say_all(stimulus, decision, tasks)
                return
            except Conflict as conflict:
                await self._lost_race(decision, conflict)
            except MafaldaError as error:
                self._counters[f"append-failed-{error.code}"] += 1
                _log.warning(
                    "append-failed",
                    action="append-failed",
                    **self._fields(stimulus, decision),
                    outcome=error.code,
                    error=str(error),
                )
                return
        self._counters["gave-up"] += 1
        _log.warning("gave-up", action="gave-up", room_id=work_queue.room_of(stimulus), reason="conflicts in a row")

    def _decide(self, stimulus: Stimulus) -> Decision | None:
        """Decide; a stimulus that breaks the core is a bug, and must not stop the others."""
        view, now = self._view, self._clock.now()
        work_queue.looked_at(view, stimulus, now)
        try:
            decision = decide(view, stimulus, now, self._rng(work_queue.seed_of(stimulus)))
        except Exception:
            self._counters["broken-decision"] += 1
            _log.exception("broken-decision", action="broken-decision", room_id=work_queue.room_of(stimulus))
            work_queue.give_up(view, stimulus)
            return None
        self._counters[f"decided-{decision.reason}"] += 1
        if isinstance(stimulus, OpenIntent):
            if decision.settled:
                view.open.close(stimulus.seq)
            if decision.wait_for:
                view.park(stimulus, decision.wait_for)
        return decision

    # --- saying ----------------------------------------------------------------------------------

    async def _say_all(self, stimulus: Stimulus, decision: Decision, tasks: asyncio.TaskGroup) -> None:
        cause = work_queue.cause_of(stimulus)
        fields = self._fields(stimulus, decision)
        started = self._clock.now()
        with handling(cause, "allocator.decide", _attributes(fields)):
            for say in decision.says:
                seq = await self._say(say, cause)
                took = {"stream_seq": seq, "duration_s": round(self._clock.now() - started, 6)}
                names = {"said": say.payload.action, "said_id": say.id, "subject": say.subject}
                _log.info("decided", action="decided", **fields, **names, **_place(say), **took)
                if say.room is not None:
                    for further in work_queue.of_entry(self._view, seq):
                        self.take(further, tasks)

    async def _say(self, say: Say, cause: Message | None) -> int:
        """Append one message; returns its sequence, once the view has it if others build on it."""
        self._view.fleet.hold(say.id, list(say.holds))
        try:
            async with self._in_flight:
                appended = await self._bus.append(
                    say.subject,
                    self._compose(say, cause),
                    expect=Expect(subjects.room_commands(say.room), say.last_seq) if say.room is not None else None,
                )
            self._counters["appended-twice" if appended.duplicate else "appended"] += 1
            if isinstance(say.payload, Rejected) and not appended.duplicate:
                count_rejection("allocator", say.payload.intent, say.payload.error.code)
            if say.room is not None and not await self._folded.until(appended.seq, _FOLD_DEADLINE_S):
                self._counters["fold-late"] += 1
            return appended.seq
        finally:
            self._view.fleet.release(say.id)

    async def _lost_race(self, decision: Decision, conflict: Conflict) -> None:
        """Another was first: see what it did."""
        self._counters["conflict"] += 1
        actual = conflict.details.get("actual")
        say = decision.says[0]
        if not isinstance(actual, int) or say.room is None:
            return
        if actual > self._view.seq:
            await self._folded.until(actual, _FOLD_DEADLINE_S)
        elif self._view.room(say.room).command_seq == say.last_seq:
            self._view.correct(say.room, actual)

    def _compose(self, say: Say, cause: Message | None) -> Message:
        source = f"/mafalda/allocator/{self._config.name}"
        message = compose(say.payload, subject=say.subject, source=source, cause=cause, id=say.id)
        return message.model_copy(
            update={"correlationid": say.correlation or say.id, "causationid": say.causation or message.causationid}
        )

    def _fields(self, stimulus: Stimulus, decision: Decision) -> dict[str, Any]:
        return {"allocator": self._config.name, "reason": decision.reason, **work_queue.names_of(stimulus)}


def _place(say: Say) -> dict[str, Any]:
    payload = say.payload
    if isinstance(payload, PlacePeer):
        return {"server_id": payload.server, "worker_id": payload.worker, "generation": payload.generation}
    return {}


def _attributes(fields: dict[str, Any]) -> dict[str, str | int]:
    return {f"mafalda.{name}": value for name, value in fields.items() if value is not None}
