"""The lines of ``examples/nats-cli/README.md``, as they stand there, with the ``nats`` command line."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import Up
from tests.languages.conftest import BUILD_TIMEOUT_S, EXAMPLES, go
from tests.languages.programs import DEADLINE_S, mint, stage

LINES = re.findall(r"^```sh\n(.*?)\n```$", (EXAMPLES / "nats-cli" / "README.md").read_text(), re.M)


@pytest.mark.timeout(BUILD_TIMEOUT_S + 4 * DEADLINE_S)
async def test_the_lines_work_in_their_order(fleet: Up, nats: Path) -> None:
    watch, join, room, wrong, remove, leave = (shlex.split(line) for line in LINES)
    environment = {"NATS_URL": fleet.nats_url, "NATS_TOKEN": mint(fleet, "lobby", "cli", moderate=True)}

    def line(words: list[str]) -> str:
        done = subprocess.run(
            [str(nats), *words[1:]],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    async with stage(fleet, "lobby") as programs:
        watcher = await programs.start("nats", [str(nats), *watch[1:]], environment)
        await watcher.text("Subscribing on")
        line(join)
        await watcher.has_type("mafalda.result.join.v1")
        answer = json.loads(line(room))
        assert [peer["peer"] for peer in answer["data"]["peers"]] == ["cli"]
        line(wrong)
        assert (await watcher.has_type("mafalda.result.rejected.v1"))["data"]["error"]["code"] == "not-found"
        ana = await programs.join(go(), "ana", "publish")
        await ana.has("published")
        line(remove)
        assert await ana.has("removed")
        assert (await watcher.has_type("mafalda.event.peer-left.v1"))["data"]["peer"] == "ana"
        line(leave)
        await watcher.text("peer.cli.result.leave")
