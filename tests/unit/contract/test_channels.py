"""Who may say what where: a subject's reader believes only what belongs there."""

from __future__ import annotations

import pytest

from mafalda.contract.channels import CHANNEL_OF, CHANNELS, REPLY_CHANNEL, fits
from mafalda.contract.messages import commands, events, results
from mafalda.contract.messages.payload import Payload
from mafalda.contract.messages.registry import PAYLOADS
from mafalda.contract.subjects import LOG_SUBJECTS, Address, parse
from mafalda.projection.state import State
from mafalda.testing.builders import EXAMPLES, subject_of
from mafalda.testing.stories import Story

ADDRESSED = {
    payload_type: payload for payload_type, payload in EXAMPLES.items() if CHANNEL_OF[payload_type] is not REPLY_CHANNEL
}


def address_of(payload: Payload) -> Address:
    found = parse(subject_of(payload))
    assert found is not None
    return found


def test_every_message_has_a_channel_and_every_type_a_name_of_its_own() -> None:
    assert set(CHANNEL_OF) == set(PAYLOADS.values())
    assert (
        sum(len(channel.payloads) for channel in CHANNELS) == len(PAYLOADS) + 12
    )  # five also come as replies, and seven also to one peer


def test_what_is_stored_is_what_the_log_captures() -> None:
    patterns = {
        ".".join("*" if token.startswith("{") else token for token in channel.pattern.split("."))
        for channel in CHANNELS
        if channel.stored
    }
    assert patterns == set(LOG_SUBJECTS)


@pytest.mark.parametrize("payload_type", list(ADDRESSED), ids=lambda found: found.type_name())
def test_a_message_fits_where_it_belongs_and_nowhere_else(payload_type: type[Payload]) -> None:
    payload = ADDRESSED[payload_type]
    assert fits(address_of(payload), payload)
    for other_type, other in ADDRESSED.items():
        if other_type is not payload_type and subject_of(other) != subject_of(payload):
            assert not fits(address_of(other), payload), subject_of(other)


CONTRADICTIONS = [
    pytest.param(payload, name, id=f"{payload.type_name()} {name}")
    for payload in ADDRESSED.values()
    for name in ("kind", "action", "room", "server")
    if name == "kind"
    or (name == "action" and address_of(payload).kind != "load")
    or (
        (hasattr(payload, name) and address_of(payload).kind in ("command", "event"))
        and getattr(address_of(payload), name) is not None
    )
]


@pytest.mark.parametrize(("payload", "name"), CONTRADICTIONS)
def test_a_message_that_contradicts_its_subject_is_not_believed(payload: Payload, name: str) -> None:
    assert not fits(address_of(payload)._replace(**{name: "other"}), payload)


def test_a_load_report_is_of_the_server_that_sends_it() -> None:
    sampled = EXAMPLES[events.LoadSampled]
    assert isinstance(sampled, events.LoadSampled)
    assert fits(Address("load", "load", server="fra-1"), sampled.load)
    assert not fits(Address("load", "load", server="ams-2"), sampled.load)
    assert not fits(Address("event", "load-sampled", server="ams-2"), sampled)


def test_a_relay_is_ordered_from_the_target_s_server() -> None:
    order = EXAMPLES[commands.OpenRelay]
    assert fits(Address("command", "open-relay", room="lobby", server="fra-1"), order)
    assert not fits(Address("command", "open-relay", room="lobby", server="ams-2"), order)


def test_a_result_stands_on_its_own_intent_s_subject() -> None:
    opened = EXAMPLES[results.TransportResult]
    for action, expected in [("create-transport", True), ("restart-ice", True), ("transport", False), ("join", False)]:
        assert fits(Address("result", action, room="lobby", peer="alice"), opened) is expected
    no = EXAMPLES[results.Rejected]
    assert fits(Address("result", "consume", room="lobby", peer="alice"), no)
    assert not fits(Address("result", "produce", room="lobby", peer="alice"), no)


def test_a_peer_cannot_state_facts_on_its_own_subjects() -> None:
    """NATS lets a client publish on its own intents; whatever it says there, it is no event and no command."""
    story = Story().server_starts("a", "a-0").joins("alice", "a-0").produces("alice", "mic", worker="a-0")
    before = story.state.to_json_dict()
    for payload in ADDRESSED.values():
        for action in ("join", payload.action):
            story.append(payload, subject=f"mafalda.room.lobby.peer.alice.intent.{action}")
    assert story.state.to_json_dict() | {"seq": 0} == before | {"seq": 0}
    assert story.state != State()
