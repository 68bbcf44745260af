"""Kill a worker of a fleet that this process runs, to show that its rooms heal. For the demo alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import psutil
import structlog

from mafalda.errors import NotFound

log = structlog.get_logger(__name__)


def kill_worker(servers: Sequence[Mapping[str, Any]], worker: str) -> None:
    """Kill the process of a worker with SIGKILL.

    Args:
        servers: The servers of the fleet's overview.
        worker: The worker's id.

    Raises:
        NotFound: There is no such worker, or it is not below an agent that this process has started: whatever the
            overview says, nothing else is killed.
    """
    pids = [it["pid"] for server in servers for it in server["workers"] if it["worker"] == worker]
    this = psutil.Process()
    components = {it.pid for it in this.children()}
    own = {it.pid: it for it in this.children(recursive=True) if it.pid not in components}
    found = own.get(pids[0]) if pids else None
    if found is None:
        raise NotFound("no such worker on this machine", worker=worker)
    log.warning("worker killed from the page", action="worker_killed", worker_id=worker, pid=found.pid)
    with suppress(psutil.NoSuchProcess):  # it has just died by itself
        found.kill()
