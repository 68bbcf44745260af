"""Build and parse the subjects of Mafalda's messages. ``docs/subjects.md`` lists them with their publishers.

The stream republishes each stored entry under ``live.``. Subscribe there: the plain subject also delivers messages that
the stream refused.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from mafalda.contract.ids import check_id
from mafalda.errors import IllegalReplySubject

LIVE = "live."

#: All subjects that the log captures. Load reports, queries, notices and requests are not among them.
LOG_SUBJECTS = (
    "mafalda.room.*.peer.*.intent.*",
    "mafalda.room.*.peer.*.result.*",
    "mafalda.room.*.peer.*.event.*",
    "mafalda.room.*.event.*",
    "mafalda.command.*.*.*",
    "mafalda.server.*.event.*",
)
LOAD_SUBJECTS = ("mafalda.server.*.load",)

#: Subjects of the objects in the snapshot stream begin with this.
SNAPSHOT_PREFIX = "mafalda.snapshot."

ALL_INTENTS = "mafalda.room.*.peer.*.intent.*"
ALL_RESULTS = "mafalda.room.*.peer.*.result.*"
ALL_PEER_EVENTS = "mafalda.room.*.peer.*.event.*"
ALL_ROOM_EVENTS = "mafalda.room.*.event.*"
ALL_COMMANDS = "mafalda.command.*.*.*"
ALL_SERVER_EVENTS = "mafalda.server.*.event.*"
ALL_RELAY_REQUESTS = "mafalda.server.*.event.relays-requested"
ALL_LOADS = "mafalda.server.*.load"
ALL_ALLOCATOR_REPORTS = "mafalda.allocator.*.report.allocator-report"

#: An inbox, or the reply subject that NATS makes for a request from another account.
_INBOX = re.compile(r"_INBOX[A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)+|_R_(\.[A-Za-z0-9]+){2}")


class Address(NamedTuple):  # made for each message: a frozen dataclass takes four times as long to make
    """The parts of a subject. ``kind`` is intent, result, event, command, load, report, query, notice or request."""

    kind: str
    action: str
    room: str | None = None
    peer: str | None = None
    server: str | None = None
    allocator: str | None = None

    @property
    def subject(self) -> str:
        """The subject that ``parse`` makes this of, without ``live.``."""
        if self.kind == "command":
            return f"mafalda.command.{self.room}.{self.server}.{self.action}"
        if self.allocator is not None:
            return f"mafalda.allocator.{self.allocator}.{self.kind}.{self.action}"
        if self.server is not None:
            return f"mafalda.server.{self.server}." + ("load" if self.kind == "load" else f"{self.kind}.{self.action}")
        peer = "" if self.peer is None else f"peer.{self.peer}."
        return f"mafalda.room.{self.room}.{peer}{self.kind}.{self.action}"


def intent(room: str, peer: str, action: str) -> str:
    """The subject of a peer's intents."""
    return f"mafalda.room.{check_id('room', room)}.peer.{check_id('peer', peer)}.intent.{action}"


def result(room: str, peer: str, action: str) -> str:
    """The subject of an intent's result. Ids are not checked: an intent with an illegal id must be answered too."""
    return f"mafalda.room.{room}.peer.{peer}.result.{action}"


def peer_event(room: str, peer: str, name: str) -> str:
    """The subject of events of a peer's own objects, for this peer alone."""
    return f"mafalda.room.{check_id('room', room)}.peer.{check_id('peer', peer)}.event.{name}"


def query(room: str, peer: str, name: str) -> str:
    """The subject of a peer's queries to its agent; never stored."""
    return f"mafalda.room.{check_id('room', room)}.peer.{check_id('peer', peer)}.query.{name}"


def notice(room: str, peer: str, name: str) -> str:
    """The subject of a peer's notices to its agent; without reply, never stored."""
    return f"mafalda.room.{check_id('room', room)}.peer.{check_id('peer', peer)}.notice.{name}"


def room_event(room: str, name: str) -> str:
    """The subject of events for everyone in the room."""
    return f"mafalda.room.{check_id('room', room)}.event.{name}"


def command(room: str, server: str, action: str) -> str:
    """The subject of a placement command; only allocators publish here."""
    return f"mafalda.command.{check_id('room', room)}.{check_id('server', server)}.{action}"


def room_commands(room: str) -> str:
    """The pattern of all commands of a room: the aggregate of conditional appends."""
    return f"mafalda.command.{check_id('room', room)}.>"


def server_commands(server: str) -> str:
    """The pattern of all commands to one server."""
    return f"mafalda.command.*.{check_id('server', server)}.*"


def server_event(server: str, name: str) -> str:
    """The subject of events of a server or one of its workers."""
    return f"mafalda.server.{check_id('server', server)}.event.{name}"


def load(server: str) -> str:
    """The subject of a server's load reports, one each second; outside the log."""
    return f"mafalda.server.{check_id('server', server)}.load"


def allocator_report(allocator: str) -> str:
    """The subject of an allocator's reports, which are its heartbeat; outside the log."""
    return f"mafalda.allocator.{check_id('allocator', allocator)}.report.allocator-report"


def agent_request(server: str, action: str) -> str:
    """The subject of requests of agents (for relays, with their secrets) and operators to an agent; never stored."""
    return f"mafalda.server.{check_id('server', server)}.request.{action}"


def agent_notice(server: str, name: str) -> str:
    """The subject of an agent's notices to another; without reply, never stored."""
    return f"mafalda.server.{check_id('server', server)}.notice.{name}"


def live(subject: str) -> str:
    """The subject under which a stored entry is republished."""
    return LIVE + subject


def check_reply(subject: str) -> str:
    """Return ``subject`` if it is an inbox.

    Raises:
        IllegalReplySubject: An agent would otherwise publish secrets, or anything, wherever a
            client names it.
    """
    if not _INBOX.fullmatch(subject) or len(subject) > 256:
        raise IllegalReplySubject("a reply subject must be an inbox (_INBOX.…)", subject=subject[:80])
    return subject


def parse(subject: str) -> Address | None:
    """Parse a subject; ``None`` if it is not one of Mafalda's. Ids are *not* checked here."""
    match subject.removeprefix(LIVE).split("."):
        case [
            "mafalda",
            "room",
            room,
            "peer",
            peer,
            ("intent" | "result" | "query" | "event" | "notice") as kind,
            action,
        ]:
            return Address(kind, action, room=room, peer=peer)
        case ["mafalda", "room", room, "event", action]:
            return Address("event", action, room=room)
        case ["mafalda", "command", room, server, action]:
            return Address("command", action, room=room, server=server)
        case ["mafalda", "server", server, ("event" | "request" | "notice") as kind, action]:
            return Address(kind, action, server=server)
        case ["mafalda", "server", server, "load"]:
            return Address("load", "load", server=server)
        case ["mafalda", "allocator", allocator, "report", action]:
            return Address("report", action, allocator=allocator)
        case _:
            return None
