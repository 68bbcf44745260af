"""``mafalda load-test`` against a real fleet."""

from __future__ import annotations

import json

from tests.e2e.conftest import Up


def test_every_viewer_hears_and_sees_everything(fleet: Up) -> None:
    ended = fleet.mafalda(
        *("load-test", "--rooms", "2", "--audio-publishers", "1", "--video-publishers", "1", "--viewers", "4"),
        *("--duration", "2", "--join-rate", "0", "--churn", "1", "--json"),
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    report = json.loads(ended.stdout)
    assert report["ok"] is True
    assert report["failures"] == {}
    assert report["publishers"] == {"started": 4, "joined": 4, "failed": 0, "replaced": 0}
    viewers = report["viewers"]
    assert viewers["joined"] == viewers["started"] == 8 + viewers["replaced"]
    assert viewers["replaced"] >= 1
    media = report["media"]
    assert media["streams"] == 2 * viewers["joined"]
    # Each packet goes to the four viewers of its room, from the time on when they have joined.
    assert media["packets_sent"] < media["packets_received"] <= 4 * media["packets_sent"] + media["streams"]
    assert media["decrypted"] >= media["streams"]
    assert media["decrypt_failures"] == 0
    assert report["join_ms"]["p50"] <= report["join_ms"]["p95"] <= report["join_ms"]["p99"]
    assert report["first_packet_ms"]["p50"] > report["join_ms"]["p50"]
    assert media["latency_ms"]["p50"] > 0
    peers = {peer["peer"] for room in fleet.json("ls")["rooms"] for peer in room["peers"]}
    assert not [peer for peer in peers if peer.startswith(("view-", "pub-"))], "all have left"


def test_participants_hear_who_speaks(fleet: Up) -> None:
    """Of a room in which everybody sends, the loudest are received, over both workers."""
    ended = fleet.mafalda(
        *("load-test", "--audio-publishers", "0", "--viewers", "0", "--participants", "4", "--speakers", "1"),
        *("--loudest", "1", "--turn", "4", "--duration", "4", "--audio-frame-ms", "60", "--join-rate", "0", "--json"),
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    report = json.loads(ended.stdout)
    assert report["participants"] == {"started": 4, "joined": 4, "failed": 0, "replaced": 0}
    assert report["conversation"]["turns"] >= 1
    assert report["conversation"]["unheard"] == 0
    assert report["media"]["packets_lost"] == 0
