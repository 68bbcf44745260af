"""Keep the load reports of every server for an hour, so that a worker's load has a history."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from mafalda.contract.messages.load import ServerLoad

#: Between two samples that are kept, in seconds.
SAMPLE_S = 5.0
#: One hour of samples of each server.
MAX_SAMPLES = 720
#: A server that has not reported for as long as its samples reach back is forgotten.
KEPT = timedelta(seconds=MAX_SAMPLES * SAMPLE_S)
#: A report that is older than this says nothing of a moment, in seconds. Agents sample theirs into the log rarely.
VALID_S = 60.0


@dataclass(slots=True)
class _OfServer:
    last: tuple[datetime, ServerLoad]
    samples: deque[tuple[datetime, ServerLoad]] = field(default_factory=lambda: deque(maxlen=MAX_SAMPLES))


class LoadHistory:
    """The last report of each server, and a sample of its reports every ``SAMPLE_S`` seconds."""

    def __init__(self) -> None:
        self._servers: dict[str, _OfServer] = {}

    def add(self, time: datetime, load: ServerLoad) -> None:
        """Keep a report; one that is older than the last is ignored."""
        known = self._servers.get(load.server)
        if known is None:
            self._forget(time)
            known = self._servers[load.server] = _OfServer((time, load))
        elif time <= known.last[0]:
            return
        known.last = (time, load)
        if not known.samples or time - known.samples[-1][0] >= timedelta(seconds=SAMPLE_S):
            known.samples.append((time, load))

    def _forget(self, now: datetime) -> None:
        """Forget the servers that are gone, when a new one comes: each has another id."""
        for server in [it for it, known in self._servers.items() if now - known.last[0] > KEPT]:
            del self._servers[server]

    def at(self, server: str, moment: datetime | None) -> ServerLoad | None:
        """The report that was the last at a moment (``None``: now), if it was not too old then."""
        known = self._servers.get(server)
        if known is None:
            return None
        if moment is None:
            return known.last[1]
        oldest = moment - timedelta(seconds=VALID_S)
        for time, load in reversed(known.samples):
            if time <= moment:
                return load if time >= oldest else None
        return None

    def cpu_of(self, server: str, worker: str, *, until: datetime | None, samples: int = 60) -> list[float]:
        """The CPU of a worker, ``SAMPLE_S`` apart, oldest first: the last samples up to a moment (``None``: now)."""
        known = self._servers.get(server)
        found: list[float] = []
        for time, load in reversed(known.samples if known else ()):
            if until is not None and time > until:
                continue
            of_worker = next((it for it in load.workers if it.worker == worker), None)
            if of_worker is None or len(found) == samples:
                break
            found.append(round(of_worker.cpu_ratio, 3))
        return found[::-1]
