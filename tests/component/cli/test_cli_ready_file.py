"""The file that a container's probes look at."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mafalda.cli.running import READY_FILE_VARIABLE, serve_until_stopped
from mafalda.errors import BadInput


async def test_the_file_is_there_from_when_the_component_is_ready_until_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "ready"
    file.touch()  # of a process that was killed
    monkeypatch.setenv(READY_FILE_VARIABLE, str(file))
    started, may_be_ready, is_reported = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def component(ready: asyncio.Event) -> None:
        started.set()
        await may_be_ready.wait()
        ready.set()
        await asyncio.sleep(0)  # who waits for it runs first
        is_reported.set()
        await asyncio.Event().wait()

    serving = asyncio.create_task(serve_until_stopped(component, stop_with_stdin=False))
    await started.wait()
    assert not file.exists()
    may_be_ready.set()
    await is_reported.wait()
    assert file.exists()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert not file.exists()


async def test_a_file_that_cannot_be_touched_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(READY_FILE_VARIABLE, str(tmp_path / "nowhere" / "ready"))

    async def component(ready: asyncio.Event) -> None:
        ready.set()
        await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as raised:
        await serve_until_stopped(component, stop_with_stdin=False)
    (error,) = raised.value.exceptions
    assert isinstance(error, BadInput)
    assert READY_FILE_VARIABLE in str(error)
