"""Findings of an audit: their codes, what each code means, and what to do about it. Pure.

``docs/operating.md`` explains each code; a test compares it with ``CODES``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

#: Seconds after which what waits is overdue: agents, allocators and the SDK give up after 10 to 15.
DEADLINE_S = 20.0

#: Each code of a finding, with what an operator does about it.
CODES: dict[str, str] = {
    "intent-unanswered": (
        "check that an allocator runs and that the peer's agent answers; the client may repeat it, or leave and "
        "join again"
    ),
    "peer-placing": (
        "look for the peer in the log of its server's agent; if that does nothing, restart it: its peers are placed "
        "anew"
    ),
    "peer-unplaced": "add workers or end drains; `mafalda explain PEER` has the reason for each worker",
    "peer-in-two-places": (
        "restart the agent of the place with the smaller generation; report a bug with `mafalda log --room ROOM`"
    ),
    "generation-old": "restart the agent of that server: it serves a place that the log has given to another",
    "consumer-without-path": (
        "the consumer gets nothing: let its client close it and consume again; report a bug with "
        "`mafalda log --room ROOM`"
    ),
    "relay-opening": (
        "check that the agents of both servers answer and that their hosts reach each other by UDP, then let the "
        "client consume again"
    ),
    "relay-unused": "if it stays, restart the agent of its target: it uses a port and bandwidth for nobody",
    "relay-without-target": "if it stays, restart the agent of its source: it sends to a worker that takes nothing",
    "object-missing": (
        "the log lists what no worker has: let the client leave and join again, or restart the agent of the server"
    ),
    "object-unknown": (
        "a worker has what the log does not list: drain its server (`mafalda drain SERVER`) and restart its agent"
    ),
    "server-unreachable": (
        "check the agent's process and its connection to NATS; if it has ended, allocators declare the server lost"
    ),
    "server-incarnation": "two agents run under one server id, or an old one has not ended: stop one of them",
    "agent-behind": (
        "the agent reports and does not act on the log; allocators keep reserving for what it was commanded: check its "
        "connection to NATS and its log; restart it"
    ),
    "reservation-leaked": (
        "the allocator takes the worker for fuller than it is: restart that allocator, which reads all that it knows "
        "from the log, and report a bug"
    ),
    "append-failed": (
        "make room in the log or on the disks of the NATS servers; after a full disk nats-server stores nothing until "
        "it is restarted"
    ),
    "worker-unresponsive": (
        "its agent kills it after `worker_unresponsive_kill_s`; if that goes on, look for what takes its CPU"
    ),
}

#: The codes of differences between the log and what the workers have.
COMPARED = frozenset(("object-missing", "object-unknown", "generation-old", "server-unreachable", "server-incarnation"))


@dataclass(frozen=True, slots=True)
class Subject:
    """What a finding is about.

    ``object`` is the id of an intent, a transport, a producer, a consumer, a relay or an allocator.
    """

    room: str | None = None
    peer: str | None = None
    server: str | None = None
    worker: str | None = None
    object: str | None = None

    def __str__(self) -> str:
        who = "/".join(part for part in (self.room, self.peer) if part)
        return " ".join(part for part in (who, self.object, self.worker or self.server) if part)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that should be and is not, or the other way round.

    Attributes:
        code: One of ``CODES``.
        what: One sentence for people.
        subject: What it is about.
        since_seq: The log entry since which it is so, if that is known.
        since: When that entry was stored, by NATS' clock.
    """

    code: str
    what: str
    subject: Subject
    since_seq: int | None = None
    since: datetime | None = None

    @property
    def key(self) -> tuple[str, Subject]:
        """What tells it from other findings, whenever it was found."""
        return self.code, self.subject

    @property
    def mend(self) -> str:
        """What to do about it."""
        return CODES[self.code]

    def to_json_dict(self) -> dict[str, Any]:
        """As JSON, without what is not known."""
        fields: dict[str, Any] = {"code": self.code, "what": self.what, **asdict(self.subject)}
        fields |= {"sinceSeq": self.since_seq, "since": self.since, "mend": self.mend}
        return {key: value for key, value in fields.items() if value is not None}
