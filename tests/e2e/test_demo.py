"""The main job: a clip over two workers, and the log that remembers it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.e2e.conftest import Up, environment


def test_every_viewer_sees_and_hears_the_clip(state: Path) -> None:
    """``mafalda demo --once --json``, then the log of that run, which nobody serves any more."""
    own = environment(state)
    demo = subprocess.run(
        [sys.executable, "-m", "mafalda", "demo", "--once", "--json", "--duration", "4", "--nats-port", "0"],
        env=own,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    found = json.loads(demo.stdout)
    assert found["ok"]
    assert found["relays"]
    assert {viewer["worker"] for viewer in found["viewers"]} | {found["publisher"]["worker"]} == {
        place["worker"] for relay in found["relays"] for place in (relay["source"], relay["target"])
    }
    for viewer in found["viewers"]:
        assert viewer["frames_decoded"] > 40
        assert viewer["frames_wrong"] == 0
        assert abs(viewer["tone_hz"] - 440) < 5

    replayed = _mafalda(own, "log", "--room", found["room"], "--json")
    entries = [json.loads(line) for line in replayed.splitlines()]
    last_opened = max(entry["seq"] for entry in entries if "consume" in entry["subject"])
    then = json.loads(_mafalda(own, "replay", "--seq", str(last_opened), "--json"))
    room = then["rooms"][found["room"]]
    assert set(room["peers"]) == {"publisher", "viewer-1", "viewer-2"}
    assert set(room["producers"]) == {"clip-audio", "clip-video"}

    exported = state / "log.jsonl"
    exported.write_text(_mafalda(own, "log", "--json"))
    from_file = json.loads(_mafalda(own, "replay", "--file", str(exported), "--seq", str(last_opened), "--json"))
    assert from_file == then

    story = json.loads(_mafalda(own, "explain", "viewer-1", "--json"))
    (placed,) = [decision["command"] for decision in story["decisions"] if "peer" in decision["command"]]
    assert placed["explanation"]["summary"]


def test_the_demo_attaches_to_a_fleet_and_the_log_agrees(fleet: Up) -> None:
    demo = fleet.mafalda("demo", "--once", "--json", "--duration", "2", "--attach", timeout_s=100)
    found = json.loads(demo.stdout)
    assert found["ok"]
    verdict = fleet.json("replay", "--verify")
    assert verdict == {"ok": True, "seq": verdict["seq"], "differences": [], "findings": []}


def _mafalda(own: dict[str, str], *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "mafalda", *arguments], env=own, capture_output=True, text=True, timeout=60, check=True
    ).stdout
