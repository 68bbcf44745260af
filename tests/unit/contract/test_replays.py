"""A log that was gives the state that it gave, for ever."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mafalda.testing.replays import entries, replay
from mafalda.testing.stories import Story, violations

REPLAYS = Path(__file__).parents[2] / "replays"
LOGS = sorted(REPLAYS.glob("*.jsonl"))


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_a_log_gives_the_state_that_it_gave(path: Path) -> None:
    recorded = json.loads(path.with_suffix(".state.json").read_text())
    state = replay(path)
    assert state.to_json_dict() == recorded
    assert violations(state) == []
    assert state.seq == max(seq for seq, _, _ in entries(path)), "what cannot be read counts, too"


def test_there_are_replays() -> None:
    assert {"v1-story", "v1-fleet"} <= {path.stem for path in LOGS}


def test_the_seed_holds_what_it_should() -> None:
    read = list(entries(REPLAYS / "v1-story.jsonl"))
    types = {message.type for _, _, message in read if message}
    assert {"mafalda.event.worker-died.v1", "mafalda.event.server-lost.v1", "mafalda.command.open-relay.v1"} <= types
    assert sum(message is None for _, _, message in read) == 2


def test_an_exported_story_is_read_as_it_was_told(tmp_path: Path) -> None:
    story = Story().server_starts("a", "a-0").joins("alice", "a-0").produces("alice", "mic", worker="a-0")
    path = tmp_path / "story.jsonl"
    path.write_bytes(b"\n".join(story.lines()) + b"\n")
    assert replay(path) == story.state
