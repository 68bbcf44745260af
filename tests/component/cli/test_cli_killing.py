"""Killing a worker from the room page: one of ours, and nothing else."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

from mafalda.cli.killing import kill_worker
from mafalda.errors import NotFound

SLEEP = "import sys; print('up', flush=True); sys.stdin.read()"
#: Ends with its own child, whose pid it prints.
PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, '-c', {SLEEP!r}])
print(child.pid, flush=True)
child.wait()
"""


@contextmanager
def grandchild() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process below one of ours, as a worker is below an agent."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as it:
        assert it.stdout is not None
        lines = {it.stdout.readline().strip(), it.stdout.readline().strip()}
        yield it, int((lines - {"up"}).pop())


def servers(pid: int) -> list[dict[str, Any]]:
    return [{"server": "s1", "workers": [{"worker": "s1-0-a", "pid": pid}]}]


def test_a_worker_of_ours_is_killed() -> None:
    with grandchild() as (parent, pid):
        worker = psutil.Process(pid)
        kill_worker(servers(pid), "s1-0-a")
        assert psutil.wait_procs([worker], timeout=30)[0] == [worker]
        assert parent.wait(30) == 0


def test_no_other_process_is_killed() -> None:
    with grandchild() as (parent, pid):
        for shown, worker in ((psutil.Process().ppid(), "s1-0-a"), (parent.pid, "s1-0-a"), (pid, "s1-1-b")):
            with pytest.raises(NotFound):
                kill_worker(servers(shown), worker)
        assert psutil.pid_exists(pid)
        psutil.Process(pid).send_signal(signal.SIGKILL)
        parent.wait(30)
