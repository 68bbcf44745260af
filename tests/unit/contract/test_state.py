"""The state's JSON: the same for the same state, and complete enough to compare two."""

from __future__ import annotations

import orjson

from mafalda.projection.state import State
from mafalda.testing.stories import Story


def lobby(story: Story, *, backwards: bool = False) -> Story:
    story.server_starts("a", "a-0", "a-1").server_starts("b", "b-0")
    names = ["alice", "bob", "carol"]
    for name in reversed(names) if backwards else names:
        story.joins(name, "a-0").opens_transport(name)
    for name in reversed(names) if backwards else names:
        story.produces(name, f"{name}-mic", worker="a-0").opens_relay(f"{name}-mic", "a-0", "b-0")
    for name in reversed(names) if backwards else names:
        story.consumes("bob", f"from-{name}", f"{name}-mic")
    return story


def test_the_order_of_events_does_not_show() -> None:
    forth, back = lobby(Story()).state.to_json_dict(), lobby(Story(), backwards=True).state.to_json_dict()
    assert orjson.dumps(forth) == orjson.dumps(back)


def test_what_it_says() -> None:
    story = (
        Story("r").server_starts("a", "a-0").server_starts("b", "b-0").joins("alice", "a-0").opens_transport("alice")
    )
    story.produces("alice", "mic", worker="a-0").opens_relay("mic", "a-0", "b-0").consumes("alice", "ear", "mic")
    known = story.state.to_json_dict()
    assert known["seq"] == len(story.entries)
    assert known["servers"]["a"] == {
        "incarnation": "i1",
        "status": "up",
        "announcedAddress": "192.0.2.1",
        "region": None,
        "workers": {"a-0": {"pid": 100, "slot": 0, "peers": ["r/alice"]}},
    }
    assert known["rooms"]["r"] == {
        "peers": {
            "alice": {
                "server": "a",
                "worker": "a-0",
                "generation": 1,
                "status": "joined",
                "appData": {},
                "transports": ["alice-t"],
                "consumers": {"ear": {"producer": "mic", "transport": "alice-t", "data": False, "paused": True}},
            }
        },
        "producers": {
            "mic": {
                "server": "a",
                "worker": "a-0",
                "peer": "alice",
                "transport": "alice-t",
                "generation": 1,
                "kind": "video",
                "paused": False,
                "appData": {"source": "webcam"},
            }
        },
        "relays": [
            {
                "producer": "mic",
                "data": False,
                "source": {"server": "a", "worker": "a-0"},
                "target": {"server": "b", "worker": "b-0"},
                "status": "open",
            }
        ],
    }


def test_states_that_differ_say_so() -> None:
    one, other = lobby(Story()), lobby(Story())
    other.is_done("bob", "resume-consumer", "from-alice")
    assert one.state.to_json_dict()["rooms"] != other.state.to_json_dict()["rooms"]


def test_the_empty_state() -> None:
    assert State().to_json_dict() == {"seq": 0, "servers": {}, "rooms": {}}
