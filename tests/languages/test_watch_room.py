"""Each language's example watches a room, receives media, mutes and removes: from the documentation alone."""

from __future__ import annotations

import uuid

import pytest

from tests.e2e.conftest import Up
from tests.languages.conftest import BUILD_TIMEOUT_S, LANGUAGES, RECEIVING, go
from tests.languages.programs import DEADLINE_S, stage


@pytest.mark.timeout(BUILD_TIMEOUT_S + 4 * DEADLINE_S)
@pytest.mark.parametrize("language", LANGUAGES)
async def test_the_example_watches_mutes_and_removes(fleet: Up, language: str) -> None:
    publisher, command = go(), LANGUAGES[language]()
    async with stage(fleet, f"{language}-{uuid.uuid4().hex[:8]}") as room:
        ana = await room.join(publisher, "ana", "publish")
        assert await ana.has("published") == {"published": "ana-mic"}
        watcher = await room.join(command, "watcher", "watch", "peer-left")
        seen = (await watcher.has("room"))["room"]
        assert {"ana", "watcher"} == {peer["peer"] for peer in seen["peers"]}
        assert [found["producer"] for found in seen["producers"]] == ["ana-mic"]
        receivers = [await room.join(command, "bob", "receive", "peer-left")] if language in RECEIVING else []
        for receiver in receivers:
            assert await receiver.has("heard") == {"heard": "ana-mic", "packets": 50}
        muted = await room.moderate(command, "mute", "ana", "ana-mic")
        assert muted.lines == [{"mute": ["ana", "ana-mic"]}]
        assert await ana.event("producer-paused") == {"peer": "ana", "producer": "ana-mic"}
        for program in (watcher, *receivers):
            assert await program.event("producer-paused") == {"peer": "ana", "producer": "ana-mic"}
        removed = await room.moderate(command, "remove", "ana")
        assert removed.lines == [{"remove": ["ana"]}]
        assert await ana.has("removed")
        for program in (watcher, *receivers):
            assert (await program.event("peer-left"))["peer"] == "ana"
            assert await program.has("left")
        assert {await program.ended() for program in (ana, watcher, *receivers)} == {0}
    joined = next(line["joined"] for line in watcher.lines if "joined" in line)
    assert joined["generation"] == 1
