"""Run a command: one event loop, a clean end by signals, errors as sentences and exit codes."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import click
import uvloop

from mafalda.errors import BadInput, MafaldaError
from mafalda.telemetry.logs import configure_logging

#: Exit codes of a command that SIGINT or SIGTERM cancelled, as a shell has them.
_CANCELLED = (128 + signal.SIGINT, 128 + signal.SIGTERM)


def run(
    main: Coroutine[Any, Any, int | None],
    *,
    log_level: str | None = "warning",
    on_sigterm: Callable[[], object] | None = None,
) -> None:
    """Run a command to its end and exit with what it returns (``None``: 0).

    Args:
        main: The command.
        log_level: Log level of this process; ``None``: by the environment, for components that run for long.
        on_sigterm: Called at the first SIGTERM, if given: the command ends by itself. Without it, at the second SIGTERM
            and at SIGINT the command is cancelled.

    The first SIGINT or SIGTERM that is not for ``on_sigterm`` cancels the command once, so that it cleans up. The exit
    code is then 0 for a component, which has no other end, and else 128 and the signal's number, since the command has
    not done what it was asked.
    """
    configure_logging(log_level)
    gc.freeze()  # modules are no garbage: a full collection that looks at them all stops a component for tens of ms
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = runner.run(cancelled_by_signals(main, on_sigterm))
        if log_level is None and code in _CANCELLED:
            code = 0
    except* MafaldaError as group:
        for error in _leaves(group):
            click.echo(f"{error.code}: {error}", err=True)
        code = 1
    sys.exit(code or 0)


def _leaves(group: BaseExceptionGroup[MafaldaError]) -> Iterator[MafaldaError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


async def cancelled_by_signals(
    main: Coroutine[Any, Any, int | None], on_sigterm: Callable[[], object] | None
) -> int | None:
    """Run a command as ``run`` does, in the running loop; 128 and the signal's number if one cancelled it."""
    task = asyncio.create_task(main, name="command")
    received: list[int] = []
    is_cancelled = False

    def stop(number: int) -> None:
        nonlocal is_cancelled
        received.append(number)
        if on_sigterm is not None and received == [signal.SIGTERM]:
            on_sigterm()
        elif not is_cancelled:
            is_cancelled = task.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    try:
        return await task
    except asyncio.CancelledError:
        if is_cancelled:
            return 128 + received[-1]
        raise
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def until_stdin_closes() -> None:
    """Return when standard input is closed: the supervisor at its other end is gone."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        while await reader.read(1024):
            pass
    finally:
        transport.close()


Component = Callable[[asyncio.Event], Coroutine[Any, Any, None]]
#: Names the file that a component touches while it serves, for the probes of containers.
READY_FILE_VARIABLE = "MAFALDA_READY_FILE"
READY_TOUCH_INTERVAL_S = 5.0


async def serve_until_stopped(component: Component, *, stop_with_stdin: bool) -> None:
    """Run a component until it is cancelled or, with ``stop_with_stdin``, until standard input closes.

    Args:
        component: Called with an event that it sets when it is ready; ``ready`` is then printed, for a supervisor, and
            the file that ``MAFALDA_READY_FILE`` names is touched every five seconds, until the component ends.
        stop_with_stdin: Whether the end of standard input stops the component.
    """
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        served = group.create_task(component(ready), name="component")
        helpers = [group.create_task(_report_ready(ready), name="ready")]
        if stop_with_stdin:
            helpers.append(group.create_task(until_stdin_closes(), name="stdin"))
            await asyncio.wait((served, helpers[-1]), return_when=asyncio.FIRST_COMPLETED)
            served.cancel()
        else:
            await asyncio.wait((served,))
        for helper in helpers:
            helper.cancel()


async def _report_ready(ready: asyncio.Event) -> None:
    file = os.environ.get(READY_FILE_VARIABLE)
    if file:
        _remove(file)  # of a former process in the same container
    await ready.wait()
    click.echo("ready")
    await keep_ready_file()


async def keep_ready_file() -> None:
    """Touch the file that probes look at, if the environment names one, until it is cancelled; then remove it.

    Raises:
        BadInput: It cannot be touched.
    """
    file = os.environ.get(READY_FILE_VARIABLE)
    if not file:
        await asyncio.Event().wait()
        return
    try:
        while True:
            _touch(file)
            await asyncio.sleep(READY_TOUCH_INTERVAL_S)
    finally:
        _remove(file)


def _touch(file: str) -> None:
    try:
        Path(file).touch()
    except OSError as error:
        raise BadInput(f"{READY_FILE_VARIABLE} cannot be touched", file=file, cause=error.strerror) from error


def _remove(file: str) -> None:
    Path(file).unlink(missing_ok=True)
