"""Subjects: who may say what where. See ``docs/messages.md``.

Everything the log stores is republished under ``live.``; who reacts listens there, because only
what was stored appears there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mafalda.contract.ids import check_id
from mafalda.errors import IllegalReplySubject

LIVE = "live."

#: What the log captures, in full. Loads, queries and agent-to-agent requests are outside.
LOG_SUBJECTS = (
    "mafalda.room.*.peer.*.intent.*",
    "mafalda.room.*.peer.*.result.*",
    "mafalda.room.*.peer.*.event.*",
    "mafalda.room.*.event.*",
    "mafalda.command.*.*.*",
    "mafalda.server.*.event.*",
)
LOAD_SUBJECTS = ("mafalda.server.*.load",)

ALL_INTENTS = "mafalda.room.*.peer.*.intent.*"
ALL_RESULTS = "mafalda.room.*.peer.*.result.*"
ALL_PEER_EVENTS = "mafalda.room.*.peer.*.event.*"
ALL_ROOM_EVENTS = "mafalda.room.*.event.*"
ALL_COMMANDS = "mafalda.command.*.*.*"
ALL_SERVER_EVENTS = "mafalda.server.*.event.*"
ALL_LOADS = "mafalda.server.*.load"

_INBOX = re.compile(r"_INBOX[A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)+")


@dataclass(frozen=True, slots=True)
class Address:
    """A subject taken apart. ``kind`` is intent, result, event, command, load, query, notice or request."""

    kind: str
    action: str
    room: str | None = None
    peer: str | None = None
    server: str | None = None


def intent(room: str, peer: str, action: str) -> str:
    """Where a peer says what it wants."""
    return f"mafalda.room.{check_id('room', room)}.peer.{check_id('peer', peer)}.intent.{action}"


def result(room: str, peer: str, action: str) -> str:
    """Where a peer hears what came of it. Ids are not checked: an illegal id must be answered where it was said."""
    return f"mafalda.room.{room}.peer.{peer}.result.{action}"


def peer_event(room: str, peer: str, name: str) -> str:
    """What happened to a peer's own objects, for this peer alone."""
    return f"mafalda.room.{check_id('room', room)}.peer.{check_id('peer', peer)}.event.{name}"


def query(room: str, peer: str, name: str) -> str:
    """Where a peer asks its agent something that changes nothing; never stored."""
    return f"mafalda.room.{check_id('room', room)}.peer.{check_id('peer', peer)}.query.{name}"


def notice(room: str, peer: str, name: str) -> str:
    """Where a peer tells its agent what is not answered and never stored."""
    return f"mafalda.room.{check_id('room', room)}.peer.{check_id('peer', peer)}.notice.{name}"


def room_event(room: str, name: str) -> str:
    """What everyone in the room may know."""
    return f"mafalda.room.{check_id('room', room)}.event.{name}"


def command(room: str, server: str, action: str) -> str:
    """A placement command; only allocators publish here."""
    return f"mafalda.command.{check_id('room', room)}.{check_id('server', server)}.{action}"


def room_commands(room: str) -> str:
    """The room's aggregate: conditional appends are over this filter."""
    return f"mafalda.command.{check_id('room', room)}.>"


def server_commands(server: str) -> str:
    """All commands to one server, of whatever room."""
    return f"mafalda.command.*.{check_id('server', server)}.*"


def server_event(server: str, name: str) -> str:
    """What happened to a server or one of its workers."""
    return f"mafalda.server.{check_id('server', server)}.event.{name}"


def load(server: str) -> str:
    """A server's load report, each second; outside the log."""
    return f"mafalda.server.{check_id('server', server)}.load"


def agent_request(server: str, action: str) -> str:
    """Where agents ask agents (relays, with their secrets) and operators ask agents; never stored."""
    return f"mafalda.server.{check_id('server', server)}.request.{action}"


def agent_notice(server: str, name: str) -> str:
    """Where an agent tells another what is not answered and never stored."""
    return f"mafalda.server.{check_id('server', server)}.notice.{name}"


def live(subject: str) -> str:
    """The same subject as republished once stored."""
    return LIVE + subject


def check_reply(subject: str) -> str:
    """``subject`` itself, if it is an inbox.

    Raises:
        IllegalReplySubject: An agent would otherwise publish secrets, or anything, wherever a
            client tells it to.
    """
    if not _INBOX.fullmatch(subject) or len(subject) > 256:
        raise IllegalReplySubject("a reply subject must be an inbox (_INBOX…)", subject=subject[:80])
    return subject


def parse(subject: str) -> Address | None:
    """Take a subject apart; ``None`` if it is none of ours. Ids are *not* checked here."""
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
        case _:
            return None
