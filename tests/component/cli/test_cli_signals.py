"""What SIGTERM and SIGINT do to a command."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from mafalda.cli.running import cancelled_by_signals


class Command:
    """Runs until it is cancelled, or until it is told to end."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.told = asyncio.Event()
        self.ended = asyncio.Event()

    async def run(self) -> int:
        self.started.set()
        await self.ended.wait()
        return 3


async def received(command: Command, number: int) -> None:
    """Send this process a signal, once the command runs."""
    await command.started.wait()
    os.kill(os.getpid(), number)


async def test_the_first_sigterm_is_the_command_s_own() -> None:
    command = Command()
    running = asyncio.create_task(cancelled_by_signals(command.run(), command.told.set))
    await received(command, signal.SIGTERM)
    await command.told.wait()
    assert not running.done()
    command.ended.set()
    assert await running == 3


async def test_the_second_sigterm_stops_it_at_once() -> None:
    command = Command()
    running = asyncio.create_task(cancelled_by_signals(command.run(), command.told.set))
    await received(command, signal.SIGTERM)
    await command.told.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    assert await running == 128 + signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_without_a_wish_of_its_own_a_command_stops_at_the_first_signal(number: int) -> None:
    command = Command()
    running = asyncio.create_task(cancelled_by_signals(command.run(), None))
    await received(command, number)
    assert await running == 128 + number


async def test_sigint_stops_it_at_once() -> None:
    command = Command()
    running = asyncio.create_task(cancelled_by_signals(command.run(), command.told.set))
    await received(command, signal.SIGINT)
    assert await running == 128 + signal.SIGINT
    assert not command.told.is_set()


@pytest.mark.parametrize(("log_level", "code"), [("warning", 128 + signal.SIGTERM), (None, 0)])
def test_only_a_component_ends_well_by_a_signal(log_level: str | None, code: int) -> None:
    script = "import asyncio, os, signal, sys\nfrom mafalda.cli.running import run\n" + (
        "async def main():\n    os.kill(os.getpid(), signal.SIGTERM)\n    await asyncio.Event().wait()\n"
        f"run(main(), log_level={log_level!r})"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=60, check=False).returncode == code
