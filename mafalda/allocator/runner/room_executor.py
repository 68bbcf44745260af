"""Decide stimuli and append the decisions, one at a time for each room.

Decisions for one room are made one after the other, each with the one before in the log. Rooms do not wait for each
other; the cost of a decision whose command is not in the log yet is reserved.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import structlog

from mafalda.aio.sequence import SequenceWaiter
from mafalda.aio.serial_executor import SerialExecutor
from mafalda.aio.tasks import TaskScope
from mafalda.aio.turns import Turn, Turns
from mafalda.allocator.config import AllocatorConfig
from mafalda.allocator.core import work_queue
from mafalda.allocator.core.decide.decide import decide
from mafalda.allocator.core.decide.decision import Append, Decision
from mafalda.allocator.core.decide.intents import FLOOD, FLOOD_BEGINS
from mafalda.allocator.core.fleet.candidates import ServerView
from mafalda.allocator.core.fleet.fleet import Hold
from mafalda.allocator.core.placement.policy import Rng
from mafalda.allocator.core.state.open_intents import OpenIntent
from mafalda.allocator.core.state.relay_requests import RelayRequest
from mafalda.allocator.core.state.stimulus import Stimulus, cause_of, log_fields, room_of, seed_of
from mafalda.allocator.core.state.view import View
from mafalda.allocator.runner.clock import Clock
from mafalda.bus.compose import compose
from mafalda.bus.protocol import Appended, Bus, Expect
from mafalda.contract import subjects
from mafalda.contract.messages.commands import PlacePeer
from mafalda.contract.messages.envelope import Message
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.contract.messages.events import PeerStranded, ServerLost
from mafalda.contract.messages.intents import Join
from mafalda.contract.messages.results import Rejected
from mafalda.errors import BusUnavailable, Conflict, LogFull, MafaldaError, RateLimited
from mafalda.telemetry.metrics import count_rejection, record_decision
from mafalda.telemetry.tracing import handling

#: How long to wait until an appended command, or the command that won, is folded; after that the timer decides again.
_FOLD_DEADLINE_S = 5.0

#: Joins that are decided again when one that waited too has a place.
_WAITING_AT_A_TIME = 8

#: Placements and failures are logged at info, the rest at debug: a busy fleet decides hundreds of times a second.
_LOGGED_AT_INFO = (PlacePeer, PeerStranded, ServerLost, Rejected)

#: Intents that may lead to a command or an event; each of the others is its agent's, or is rejected.
_DECIDED_HERE = ("join", "leave", "end-room", "consume", "consume-data")

_log = structlog.get_logger(__name__)


class RoomExecutor:
    """Decides stimuli and appends the decisions.

    Args:
        bus: Connected.
        config: The allocator's.
        clock: For the time of decisions.
        rng: Makes the random numbers of one decision from a seed.
        view: Read here; changed by the log's reader.
        counters: Counted into.
        folded: Says when the view has a log entry.
        tasks: Owns one task for each room that has something to decide.
    """

    def __init__(
        self,
        bus: Bus,
        config: AllocatorConfig,
        clock: Clock,
        rng: Callable[[str], Rng],
        view: View,
        counters: Counter[str],
        folded: SequenceWaiter,
        tasks: TaskScope,
    ) -> None:
        self._bus = bus
        self._config = config
        self._clock = clock
        self._rng = rng
        self._view = view
        self._counters = counters
        self._folded = folded
        self._rooms: SerialExecutor[str] = SerialExecutor(tasks, f"{config.name}-room", self._failed)
        self._queued: set[Stimulus] = set()
        self._woken: set[RelayRequest] = set()  # of those: woken meanwhile, perhaps while they were decided
        self._turns = Turns(config.max_in_flight)
        self._source = config.source
        self.finished = 0  # decisions, since the start
        self._failed_beyond = 0  # the view's sequence at the last append that failed

    def submit(self, stimulus: Stimulus) -> None:
        """Decide a stimulus after those of the same room that wait; one that waits already is not added again.

        An intent that can only be rejected here waits for those of its peer instead: placements do not wait for it.
        """
        if stimulus in self._queued:
            if isinstance(stimulus, RelayRequest):
                self._woken.add(stimulus)
            return
        self._queued.add(stimulus)
        key = room_of(stimulus)
        if isinstance(stimulus, OpenIntent) and stimulus.address.action not in _DECIDED_HERE:
            key = f"{key}/{stimulus.peer[1]}"
        self._rooms.submit(key, lambda: self._run(stimulus))

    async def _run(self, stimulus: Stimulus) -> None:
        try:
            await self._decide_and_append(stimulus)
        finally:
            self._queued.discard(stimulus)
            if isinstance(stimulus, RelayRequest) and stimulus in self._woken:
                self._woken.discard(stimulus)
                self.submit(stimulus)

    async def _decide_and_append(self, stimulus: Stimulus) -> None:
        """Decide, and decide again after each conflict. No back-off: the view has the winning command by then."""
        # The loss of a server waits for nothing: until it is declared, its peers are nowhere.
        turns = Turns(1) if isinstance(stimulus, ServerView) else self._turns
        for _ in range(self._config.max_attempts):
            async with turns.turn(room_of(stimulus)) as turn:
                if await self._attempt(stimulus, turn):
                    return
        self._counters["gave-up"] += 1
        _log.warning("gave-up", action="gave_up", room_id=room_of(stimulus), reason="conflicts in a row")

    async def _attempt(self, stimulus: Stimulus, turn: Turn) -> bool:
        """Decide once; whether that is all. The turn ends when the first message of the decision is stored."""
        now = self._clock.now()
        if not work_queue.is_open(self._view, stimulus, now):
            return True
        if work_queue.is_left(self._view, stimulus, now):
            self._counters["left-to-owner"] += 1
            if isinstance(stimulus, OpenIntent):
                self._view.open_intents.wait(stimulus, waits=False)
            return True
        decision = self._decide(stimulus)
        if decision and decision.private and isinstance(stimulus, OpenIntent):
            await self._reject_privately(stimulus, decision.private)
        if decision is None or not decision.appends:
            self.finished += 1
            return True
        if isinstance(stimulus, RelayRequest):  # what ends while the append is on its way wakes it
            self._view.relay_requests.wait(stimulus, decision.wait_for_all)
        try:
            await self._append_all(stimulus, decision, turn)
            self.finished += 1
            if isinstance(stimulus, RelayRequest):
                self._view.relay_requests.decided(stimulus, decision.wait_for_all)
        except Conflict as conflict:
            turn.end()
            await self._fold_winner(decision, conflict)
            return False
        except MafaldaError as error:
            await self._append_failed(stimulus, decision, error)
        return True

    def _decide(self, stimulus: Stimulus) -> Decision | None:
        """Decide. A stimulus whose decision raises is a bug; it is logged and removed, and the others go on."""
        view, now = self._view, self._clock.now()
        work_queue.mark_decided(view, stimulus, now)
        try:
            decision = decide(view, stimulus, now, self._rng(seed_of(stimulus)))
        except Exception:
            self._counters["broken-decision"] += 1
            _log.exception("broken-decision", action="broken_decision", room_id=room_of(stimulus))
            work_queue.discard(view, stimulus)
            return None
        self._counters[f"decided-{decision.reason}"] += 1
        if isinstance(stimulus, RelayRequest) and not decision.appends:
            view.relay_requests.decided(stimulus, decision.wait_for_all)
        if isinstance(stimulus, OpenIntent):
            self._note_flood(stimulus, decision)
            if decision.settled:
                view.open_intents.close(stimulus.seq)
            if decision.wait_for:
                view.parked.park(stimulus, decision.wait_for, view.open_intents)
            if view.open_intents.wait(stimulus, waits=decision.waits) and not decision.waits:
                for next_one in work_queue.waiting(view, at_a_time=_WAITING_AT_A_TIME):
                    self.submit(next_one)
        return decision

    def _note_flood(self, intent: OpenIntent, decision: Decision) -> None:
        """Count a refusal that is not appended, and warn of the first."""
        if decision.reason not in (FLOOD_BEGINS, FLOOD):
            return
        count_rejection("allocator", intent.address.action, RateLimited.code)
        if decision.reason == FLOOD_BEGINS:
            room, peer = intent.peer
            _log.warning("refusals are not appended any more", action="peer_floods", room_id=room, peer_id=peer)

    # --- appending -------------------------------------------------------------------------------

    async def _append_all(self, stimulus: Stimulus, decision: Decision, turn: Turn) -> None:
        cause = cause_of(stimulus)
        fields = self._fields(stimulus, decision)
        started = self._clock.now()
        with handling(cause, "allocator.decide", _attributes(fields)):
            for append in decision.appends:
                seq = await self._append(append, cause, turn)
                took = {"stream_seq": seq, "duration_s": round(self._clock.now() - started, 6)}
                message = {"message": append.payload.action, "message_id": append.id, "subject": append.subject}
                log = _log.info if isinstance(append.payload, _LOGGED_AT_INFO) else _log.debug
                log("decided", action="decided", **fields, **message, **_place(append), **took)
                record_decision(decision.reason, self._clock.now() - started)
                if append.room is not None:
                    for further in work_queue.of_entry(self._view, seq):
                        self.submit(further)

    async def _append(self, append: Append, cause: Message | None, turn: Turn) -> int:
        """Append one message; returns its sequence, for a command once the view has it."""
        if append.holds:
            placed = append.payload if isinstance(append.payload, PlacePeer) else None
            peer, is_audience = (placed.peer, placed.audience) if placed else (None, False)
            now, room = self._clock.now(), append.room or ""
            self._view.fleet.hold(append.id, Hold(append.holds, now, room, peer, is_audience=is_audience))
        is_command = append.room is not None
        try:
            appended = await self._store(append, cause)
            turn.end()
            self._counters["appended-twice" if appended.duplicate else "appended"] += 1
            if isinstance(append.payload, Rejected) and not appended.duplicate:
                count_rejection("allocator", append.payload.intent, append.payload.error.code)
            if is_command and not await self._folded.until(appended.seq, _FOLD_DEADLINE_S):
                self._counters["fold-late"] += 1
            return appended.seq
        finally:
            self._view.fleet.release(append.id)

    async def _store(self, append: Append, cause: Message | None) -> Appended:
        message = self._compose(append, cause)
        if isinstance(append.payload, ServerLost):
            # Not repeated for long: by then the server may have sent a heartbeat again.
            try:
                async with asyncio.timeout(self._config.report_interval_s):
                    return await self._bus.append(append.subject, message)
            except TimeoutError:
                raise BusUnavailable("the log did not confirm a message", subject=append.subject) from None
        expect = Expect(subjects.room_commands(append.room), append.last_seq) if append.room is not None else None
        return await self._bus.append(append.subject, message, expect=expect)

    async def _append_failed(self, stimulus: Stimulus, decision: Decision, error: MafaldaError) -> None:
        """Nothing was stored. The stimulus stays open; a join that the log refuses is rejected in its private inbox."""
        self._counters[f"append-failed-{error.code}"] += 1
        _log.warning(
            "append-failed",
            action="append_failed",
            **self._fields(stimulus, decision),
            outcome=error.code,
            error=str(error),
        )
        if isinstance(error, LogFull | BusUnavailable):
            self._failed_beyond = self._view.seq
            self._view.liveness.partitioned("append")
        if isinstance(error, LogFull) and isinstance(stimulus, OpenIntent):
            await self._refuse_privately(stimulus, error)

    def entry_stored(self, seq: int) -> None:
        """An entry was folded. One that is newer than the last failed append shows that the log takes appends again."""
        if seq > self._failed_beyond:
            self._view.liveness.reconnected("append", self._clock.now())

    async def _refuse_privately(self, intent: OpenIntent, error: LogFull) -> None:
        """Reject a join in its private inbox, once, since its result cannot be stored.

        As soon as there is room the rejection is stored too, rather than a placement that nobody waits for.
        """
        cause = intent.message
        if intent.refused or intent.reply_to is None or cause is None or not isinstance(cause.data, Join):
            return
        # If it cannot be published, it is tried again with the next decision.
        if await self._reject_privately(intent, Rejected(intent=Join.action, error=ErrorInfo.of(error))):
            intent.refused = error

    async def _reject_privately(self, intent: OpenIntent, rejected: Rejected) -> bool:
        """Publish a rejection to the intent's private inbox, if it names one; whether that was done."""
        if intent.reply_to is None:
            return False
        try:
            inbox = subjects.check_reply(intent.reply_to)
            message = compose(rejected, subject=inbox, source=self._source, cause=intent.message)
            # The id is all that is known of an intent that cannot be read.
            answer = {"causationid": intent.id, "correlationid": intent.correlation or intent.id}
            await self._bus.publish(inbox, message.model_copy(update=answer))
        except MafaldaError as failure:
            _log.warning("rejection-lost", action="rejection_lost", room_id=intent.peer[0], reason=str(failure))
            return False
        self._counters["refused-privately"] += 1
        count_rejection("allocator", rejected.intent, rejected.error.code)
        return True

    async def _fold_winner(self, decision: Decision, conflict: Conflict) -> None:
        """Another command came first: wait until the view has it."""
        self._counters["conflict"] += 1
        actual = conflict.details.get("actual")
        append = decision.appends[0]
        if not isinstance(actual, int) or append.room is None:
            return
        if actual > self._view.seq:
            await self._folded.until(actual, _FOLD_DEADLINE_S)
        elif self._view.rooms.get(append.room).command_seq == append.last_seq:
            # The log's last command is older than the one in the view, which has expired from the log.
            self._view.rooms.ensure(append.room).command_seq = actual

    def _compose(self, append: Append, cause: Message | None) -> Message:
        message = compose(append.payload, subject=append.subject, source=self._source, cause=cause, id=append.id)
        return message.model_copy(
            update={
                "correlationid": append.correlation or append.id,
                "causationid": append.causation or message.causationid,
            }
        )

    def _fields(self, stimulus: Stimulus, decision: Decision) -> dict[str, Any]:
        return {"allocator": self._config.name, "reason": decision.reason, **log_fields(stimulus)}

    def _failed(self, name: str, error: Exception) -> None:
        """A stimulus failed in a way that no append should fail. It stays open, and the timer decides it again."""
        self._counters["broken-append"] += 1
        _log.error("broken-append", action="broken_append", task=name, exc_info=error)


def _place(append: Append) -> dict[str, Any]:
    payload = append.payload
    if isinstance(payload, PlacePeer):
        return {"server_id": payload.server, "worker_id": payload.worker, "generation": payload.generation}
    return {}


def _attributes(fields: dict[str, Any]) -> dict[str, str | int]:
    return {f"mafalda.{name}": value for name, value in fields.items() if value is not None}
