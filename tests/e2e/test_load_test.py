"""``mafalda load-test`` against a real fleet."""

from __future__ import annotations

from tests.e2e.conftest import Up


def test_every_viewer_hears_and_sees_everything(fleet: Up) -> None:
    report = fleet.json(
        *("load-test", "--rooms", "2", "--audio-publishers", "1", "--video-publishers", "1", "--viewers", "4"),
        *("--duration", "2", "--join-rate", "0", "--churn", "1"),
    )
    assert report["ok"] is True
    assert report["failures"] == {}
    assert report["publishers"] == {"started": 4, "joined": 4, "failed": 0, "replaced": 0}
    viewers = report["viewers"]
    assert viewers["joined"] == viewers["started"] == 8 + viewers["replaced"]
    assert viewers["replaced"] >= 1
    media = report["media"]
    assert media["streams"] == 2 * viewers["joined"]
    assert media["packets_received"] > 8 * 2 * 50
    assert media["decrypted"] >= media["streams"]
    assert media["decrypt_failures"] == 0
    assert report["join_ms"]["p50"] <= report["join_ms"]["p95"] <= report["join_ms"]["p99"]
    assert report["first_packet_ms"]["p50"] > report["join_ms"]["p50"]
    assert media["latency_ms"]["p50"] > 0
    peers = {peer["peer"] for room in fleet.json("ls")["rooms"] for peer in room["peers"]}
    assert not [peer for peer in peers if peer.startswith(("view-", "pub-"))], "all have left"
