"""All languages in one room; and examples that go on after the death of their workers and of NATS."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
import uuid
from pathlib import Path

import pytest

from mafalda.bus.config import BusConfig, read_seed
from mafalda.bus.nats.bus import connect
from mafalda.monitor.overview import overview
from tests.e2e.conftest import Up, closed_up
from tests.languages.conftest import BUILD_TIMEOUT_S, FLEET, go, java, node, rust
from tests.languages.programs import DEADLINE_S, Program, mint, stage
from tests.languages.test_nats_cli import LINES

SECRET = "whsec_" + "bWFmYWxkYS1tYWZhbGRhLW1hZmFsZGEtMzItYnl0ZXM="


@pytest.mark.timeout(BUILD_TIMEOUT_S + 10 * DEADLINE_S)
async def test_a_moderator_in_rust_mutes_go_while_java_receives_the_webhooks(
    fleet: Up, nats: Path, tmp_path: Path
) -> None:
    publish, receive, moderate, webhooks = go(), node(), rust(), java("Webhooks")
    secret = tmp_path / "webhook.secret"
    secret.write_text(SECRET)
    async with stage(fleet, f"all-{uuid.uuid4().hex[:8]}") as room:
        service = await room.start("java", [*webhooks, "0", str(secret)], {})
        endpoint = (await service.has("listening"))["listening"]
        bridge = ["webhooks", "run", endpoint, "--room", room.room, "--after", "0", "--cursor", room.room]
        await room.start(
            "bridge",
            [sys.executable, "-m", "mafalda", *bridge, "--secret-file", str(secret)],
            {**fleet.environment, "MAFALDA_NATS_URL": fleet.nats_url, **fleet.nkey("application")},
        )
        watch = [word.replace("lobby", room.room) for word in shlex.split(LINES[0])]
        token = {"NATS_URL": fleet.nats_url, "NATS_TOKEN": mint(fleet, room.room, "cli", moderate=True)}
        cli = await room.start("nats", [str(nats), *watch[1:]], token)
        await cli.text("Subscribing on")
        tess = await room.join(receive, "tess", "receive")
        await tess.has("room")
        ana = await room.join(publish, "ana", "publish")
        assert (await tess.has("heard"))["heard"] == "ana-mic"

        await room.moderate(moderate, "mute", "ana", "ana-mic")
        paused = {"peer": "ana", "producer": "ana-mic"}
        assert await ana.event("producer-paused") == paused
        assert await tess.event("producer-paused") == paused
        assert await webhook(service, "producer-paused") == paused
        assert (await cli.has_type("mafalda.event.producer-paused.v1"))["data"] == paused
        assert (await tess.has("silent"))["silent"] == "ana-mic"

        await room.moderate(moderate, "remove", "ana")
        assert await ana.has("removed")
        assert (await webhook(service, "peer-left"))["peer"] == "ana"
        tess.interrupt()
        assert [await program.ended() for program in (ana, tess)] == [0, 0]
    after = tess.lines[tess.lines.index({"event": "producer-paused", "data": paused}) :]
    assert not [line for line in after if "heard" in line]


async def webhook(service: Program, event: str) -> dict[str, object]:
    """The data of the next webhook of an event."""
    line = await service.until(lambda line: line.get("webhook", {}).get("type") == f"mafalda.event.{event}.v1")
    data: dict[str, object] = line["webhook"]["data"]
    return data


@pytest.mark.timeout(BUILD_TIMEOUT_S + 10 * DEADLINE_S)
async def test_they_go_on_after_the_death_of_their_workers_and_of_nats(tmp_path: Path) -> None:
    commands = {"bob": go(), "tess": node()}
    watching: dict[str, list[str]] = {}
    for peer, language, does in (("rita", rust, commands), ("eve", java, watching)):
        try:
            does[peer] = language()
        except pytest.skip.Exception as reason:
            print(f"without {language.__name__}: {reason}")
    with closed_up(tmp_path, *FLEET) as fleet:
        async with stage(fleet, "lobby") as room:
            ana = await room.join(go(), "ana", "publish")
            await ana.has("published")
            receivers = [await room.join(command, peer, "receive") for peer, command in commands.items()]
            for receiver in receivers:
                assert await receiver.has("heard") == {"heard": "ana-mic", "packets": 50}
            watchers = [await room.join(command, peer, "watch") for peer, command in watching.items()]
            for watcher in watchers:
                await watcher.has("room")

            for peer, moved in (("ana", ana), *zip(commands, receivers, strict=True)):
                await moved.placed_after(await kill_worker_of(fleet, peer))
                # Without its publisher everyone hears nothing; without its own worker, a receiver does.
                for receiver in receivers if moved is ana else [moved]:
                    assert await receiver.has("heard") == {"heard": "ana-mic", "packets": 50}

            (server,) = [process for process in fleet.family() if process.name() == "nats-server"]
            server.kill()
            await ana.has("reconnected")
            await room.moderate(go(), "mute", "ana", "ana-mic")
            for program in (ana, *receivers, *watchers):
                assert await program.event("producer-paused") == {"peer": "ana", "producer": "ana-mic"}
                places = [line["joined"]["generation"] for line in program.lines if "joined" in line]
                assert places == sorted(set(places)), "nothing is received twice"


async def kill_worker_of(fleet: Up, peer: str) -> int:
    """Kill the worker that a peer of the room lobby is on; the peer's generation there."""
    seed = read_seed(Path(fleet.nkey("operator")["MAFALDA_NKEY_FILE"]))
    config = BusConfig(servers=(fleet.nats_url,), name="test", nkey_seed=seed)
    async with connect(config) as bus, asyncio.timeout(DEADLINE_S):
        while True:
            found = await overview(bus)
            (place,) = [each for room in found["rooms"] for each in room["peers"] if each["peer"] == peer]
            workers = [worker for server in found["servers"] for worker in server["workers"]]
            pids = [worker["pid"] for worker in workers if worker["worker"] == place["worker"]]
            if pids:  # else its worker died just now, and its next place is not decided yet
                os.kill(pids[0], signal.SIGKILL)
                return int(place["generation"])
