"""The lines of ``examples/nats-cli/README.md``, as they stand there, with the ``nats`` command line."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import Up
from tests.e2e.go.conftest import go_environment, install_go
from tests.languages.conftest import BUILD_TIMEOUT_S, CACHE, EXAMPLES, run

VERSION = "v0.5.1"
DEADLINE_S = 60
LINES = re.findall(r"^```sh\n(.*?)\n```$", (EXAMPLES / "nats-cli" / "README.md").read_text(), re.M)


@pytest.fixture(scope="module")
def nats() -> Path:
    """The ``nats`` command line, built from the Go module proxy once."""
    root, built = CACHE.parent / "go", CACHE / f"natscli-{VERSION}"
    if not (built / "nats").exists():
        environment = {**go_environment(root), "GOBIN": str(built), "GOFLAGS": "-mod=mod"}
        run([install_go(root), "install", f"github.com/nats-io/natscli/nats@{VERSION}"], EXAMPLES, **environment)
    return built / "nats"


@pytest.mark.timeout(BUILD_TIMEOUT_S + 2 * DEADLINE_S)
async def test_the_lines_work_in_their_order(fleet: Up, nats: Path) -> None:
    watch, join, room, wrong, leave = (shlex.split(line) for line in LINES)
    environment = {**os.environ, "NATS_URL": fleet.nats_url}

    def line(words: list[str]) -> str:
        done = subprocess.run(
            [str(nats), *words[1:]], env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    watcher = await asyncio.create_subprocess_exec(
        str(nats), *watch[1:], env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    assert watcher.stdout
    try:
        async with asyncio.timeout(DEADLINE_S):
            await seen(watcher.stdout, "Subscribing on")
            line(join)
            await seen(watcher.stdout, "mafalda.result.join.v1")
            answer = json.loads(line(room))
            assert [peer["peer"] for peer in answer["data"]["peers"]] == ["cli"]
            line(wrong)
            assert '"code":"not-found"' in await seen(watcher.stdout, "mafalda.result.rejected.v1")
            line(leave)
            await seen(watcher.stdout, "mafalda.result.done.v1")
    finally:
        watcher.kill()
        await watcher.wait()


async def seen(output: asyncio.StreamReader, text: str) -> str:
    """The next line with this text."""
    while text not in (line := (await output.readline()).decode()):
        assert line, f"it ended without {text}"
    return line
