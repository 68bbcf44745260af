"""Log lines of the workers, for the applications that have objects on them and asked for lines.

A line of a mediasoup-worker seldom says which object it is about. So where all routers on a worker are of one
application, the application gets all lines; where there are others, it gets those that name one of its objects.

A worker logs as much as any of its applications asked for. Levels are kept apart for each application; tags are not,
since lines do not say their tags.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from mafalda.contract.messages.channel_calls import LOG_EVENT
from mafalda.errors import InvalidParameters, MafaldaError
from mafalda.mediasoup import Worker
from mafalda.mediasoup.worker.worker import LogLevel
from mafalda.workers.passthrough.application import ApplicationNotices
from mafalda.workers.peers.session.session import PeerSession
from mafalda.workers.supervision.supervisor import LiveWorker

LEVELS: tuple[LogLevel, ...] = ("none", "error", "warn", "debug")
#: The index in ``LEVELS`` of a line's first character.
_LEVEL_OF = {"E": 1, "W": 2, "D": 3, "X": 3}
Sessions = Callable[[], Iterable[tuple[str, PeerSession]]]
log = structlog.get_logger("mafalda.workers")


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What is logged: an index in ``LEVELS``, and tags."""

    level: int = 0
    tags: frozenset[str] = frozenset()


@dataclass(slots=True)
class _FollowedWorker:
    live: LiveWorker
    applied: LogSettings
    asked: dict[str, LogSettings] = field(default_factory=dict)  # by the application's inbox


class WorkerLogs:
    """The workers' log lines of one agent.

    Args:
        level: What the workers log where no application asks for more.
        sessions: The sessions that there are, each with its application's inbox.
        notices: Publishes to the applications.
    """

    def __init__(self, level: str, sessions: Sessions, notices: ApplicationNotices) -> None:
        self._default = LogSettings(_index(level))
        self._sessions = sessions
        self._notices = notices
        self._followed: dict[str, _FollowedWorker] = {}

    async def follow(self, live: LiveWorker, inbox: str, body: Mapping[str, Any]) -> None:
        """Send an application log lines of a worker from now on.

        Args:
            live: The worker; the application has objects on it.
            inbox: Of the application.
            body: Of the worker's own request for other log settings.

        Raises:
            InvalidParameters: There is no such level, or the tags are not a list of words.
        """
        level, tags = body.get("logLevel") or "error", body.get("logTags") or []
        if level not in LEVELS or not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            raise InvalidParameters("no such log level or tags")
        followed = self._followed.get(live.id)
        if followed is None:
            followed = self._followed[live.id] = _FollowedWorker(live, self._default)
            live.worker.on(Worker.LOG, lambda line: self._forward(followed, line))
            live.worker.on(Worker.CLOSE, lambda _: self._followed.pop(live.id, None))
        followed.asked[inbox] = LogSettings(_index(level), frozenset(tags))
        await self._apply(followed)

    async def forget_gone(self) -> None:
        """Send no more lines to applications that have nothing on a worker any more."""
        for followed in list(self._followed.values()):
            here = {inbox for inbox, session in self._sessions() if session.live is followed.live}
            if gone := followed.asked.keys() - here:
                for inbox in gone:
                    del followed.asked[inbox]
                await self._apply(followed)

    async def _apply(self, followed: _FollowedWorker) -> None:
        asked = [self._default, *followed.asked.values()]
        wanted = LogSettings(max(it.level for it in asked), frozenset().union(*(it.tags for it in asked)))
        if wanted == followed.applied:
            return
        followed.applied = wanted
        try:
            await followed.live.worker.update_settings(log_level=LEVELS[wanted.level], log_tags=sorted(wanted.tags))
        except MafaldaError as error:
            log.warning("log settings not applied", action="log_settings_failed", reason=str(error))

    def _forward(self, followed: _FollowedWorker, line: str) -> None:
        level = _LEVEL_OF.get(line[:1], len(LEVELS))
        for inbox, asked in followed.asked.items():
            if asked.level < level:
                continue
            own = [it for of, it in self._sessions() if of == inbox and it.live is followed.live]
            public = line if _are_alone(followed.live, own) else _named(own, line)
            if public is not None:
                self._notices.send(inbox, LOG_EVENT, "", {"line": public})


def _index(level: str) -> int:
    return next(index for index, known in enumerate(LEVELS) if known == level)


def _are_alone(live: LiveWorker, sessions: list[PeerSession]) -> bool:
    """Whether all routers on a worker are of these sessions, of which there is one at least."""
    return bool(sessions) and live.worker.routers.keys() <= {session.router.id for session in sessions}


def _named(sessions: list[PeerSession], line: str) -> str | None:
    """The line with public ids, if it names an object of these sessions."""
    for session in sessions:
        for entity in session.objects.all():
            if entity.channel_id in line:
                return line.replace(entity.channel_id, entity.id)
    return None
