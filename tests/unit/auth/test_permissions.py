"""What a token's grants permit: exactly the subjects of its own peer and rooms."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mafalda.contract import permissions
from mafalda.contract.batches import NEVER_BATCHED
from mafalda.contract.grants import Grants
from mafalda.contract.messages.intents import INTENTS
from mafalda.contract.messages.queries import QUERIES
from mafalda.contract.permissions import CLASSIFIED, ROLES, Permissions, participant_permissions, role_permissions

IDS = st.from_regex(r"[A-Za-z0-9_-]{1,6}", fullmatch=True)
GRANTS = st.builds(
    Grants,
    rooms=st.lists(IDS, min_size=1, max_size=3),
    peer=IDS,
    publish=st.lists(st.sampled_from(["audio", "video"]), unique=True),
    subscribe=st.booleans(),
    data=st.booleans(),
    roster=st.booleans(),
    moderate=st.booleans(),
    audience=st.booleans(),
)


def matches(pattern: str, subject: str) -> bool:
    """NATS' own rule, for a subject without wildcards."""
    wanted, given_ = pattern.split("."), subject.split(".")
    for number, token in enumerate(wanted):
        if token == ">":
            return len(given_) > number
        if number >= len(given_) or token not in ("*", given_[number]):
            return False
    return len(wanted) == len(given_)


def may_publish(permissions: Permissions, subject: str) -> bool:
    return any(matches(pattern, subject) for pattern in permissions.publish)


def may_subscribe(permissions: Permissions, subject: str) -> bool:
    return any(matches(pattern, subject) for pattern in permissions.subscribe)


@given(GRANTS, IDS, IDS)
def test_nobody_gets_a_subject_of_another_peer_or_room(grants: Grants, room: str, peer: str) -> None:
    permissions = participant_permissions(grants)
    is_own = room in grants.rooms and peer == grants.peer
    base = f"mafalda.room.{room}.peer.{peer}"
    for query in QUERIES:
        assert is_own or not may_publish(permissions, f"{base}.query.{query.action}")
    assert may_publish(permissions, f"{base}.intent.join") == is_own
    assert may_publish(permissions, f"{base}.intent.create-transport") == is_own
    assert may_subscribe(permissions, f"live.{base}.result.create-transport") == is_own
    assert may_subscribe(permissions, f"live.{base}.event.transport-closed") == is_own
    assert may_subscribe(permissions, f"_INBOX.{room}.{peer}.x") == is_own
    sees_room = room in grants.rooms and grants.roster
    assert may_subscribe(permissions, f"live.mafalda.room.{room}.event.peer-joined") == sees_room
    moderates = room in grants.rooms and grants.moderate
    assert may_publish(permissions, f"{base}.intent.leave") == (is_own or moderates)


@given(GRANTS)
def test_no_grant_reaches_the_fleets_own_subjects(grants: Grants) -> None:
    permissions = participant_permissions(grants)
    room, peer = grants.rooms[0], grants.peer
    for subject in (
        f"mafalda.room.{room}.peer.{peer}.result.join",
        f"mafalda.room.{room}.event.producer-closed",
        f"mafalda.command.{room}.s1.place-peer",
        "mafalda.server.s1.event.server-stopped",
        "mafalda.server.s1.load",
        "mafalda.server.s1.request.set-carried",
        f"live.mafalda.room.{room}.event.result.join",
        "mafalda.snapshot.1.x.manifest",
        "mafalda.auth.request.revoke",
        f"mafalda.auth.peer.{room}.{peer}",
        "$JS.API.STREAM.DELETE.MAFALDA_LOG",
        "$SYS.REQ.USER.AUTH",
        f"mafalda.room.{room}.peer.{peer}.intent.channel",
        f"mafalda.room.{room}.peer.{peer}.query.channel",
        f"mafalda.room.{room}.peer.{peer}.notice.channel",
    ):
        assert not may_publish(permissions, subject)
        assert not may_subscribe(permissions, subject)
    assert not may_publish(permissions, f"live.mafalda.room.{room}.event.producer-closed")


@pytest.mark.parametrize(
    ("denied", "actions"),
    [
        ({"publish": []}, ["produce"]),
        ({"data": False}, ["produce-data", "close-data-producer"]),
        ({"publish": [], "data": False}, ["pause-producer", "close-producer"]),
        ({"subscribe": False}, ["consume", "consume-data", "set-preferred-layers"]),
    ],
)
def test_what_is_not_granted_has_no_subject(denied: dict[str, Any], actions: list[str]) -> None:
    everything = participant_permissions(Grants(rooms=["r"], peer="a"))
    less = participant_permissions(Grants.model_validate({"rooms": ["r"], "peer": "a", **denied}))
    for action in actions:
        subject = f"mafalda.room.r.peer.a.intent.{action}"
        assert may_publish(everything, subject)
        assert not may_publish(less, subject)


@pytest.mark.parametrize(
    "denied", [{"publish": []}, {"data": False}, {"subscribe": False}, {"audience": True}, {"moderate": True}]
)
def test_a_batch_permits_what_subjects_permit(denied: dict[str, Any]) -> None:
    """NATS sees the subject of the batch alone; its agent asks this for each intent in it."""
    grants = Grants.model_validate({"rooms": ["r"], "peer": "a", **denied})
    for intent in set(INTENTS) - set(NEVER_BATCHED):
        subject = f"mafalda.room.r.peer.a.intent.{intent.action}"
        assert permissions.may_publish(grants, intent.action) <= may_publish(participant_permissions(grants), subject)
    assert permissions.may_publish(grants, "channel") is False


def test_every_intent_and_query_is_classified() -> None:
    """Whoever adds one decides in ``contract.permissions`` which grant permits it."""
    assert {*INTENTS, *QUERIES} == CLASSIFIED


@pytest.mark.parametrize("role", ROLES)
def test_no_role_may_publish_what_only_the_stream_publishes(role: Any) -> None:
    permissions = role_permissions(role)
    assert not may_publish(permissions, "live.mafalda.room.r.event.peer-joined")
    assert not may_publish(permissions, "$SYS.REQ.USER.AUTH")
    assert not may_publish(permissions, "$JS.API.STREAM.DELETE.MAFALDA_LOG")
    assert may_publish(permissions, "mafalda.command.r.s1.place-peer") == (role == "allocator")
    assert may_publish(permissions, "mafalda.server.s1.load") == (role == "agent")
    assert may_publish(permissions, "mafalda.auth.revoked.x") == (role == "auth")
    assert may_subscribe(permissions, "mafalda.server.s1.request.set-carried") == (role == "agent")
    assert may_subscribe(permissions, "$SYS.REQ.USER.AUTH") == (role == "auth")
    assert not may_subscribe(permissions, "_INBOX.r.a.x.1")


@given(GRANTS)
def test_who_may_join_as_audience_only_cannot_promote_itself(grants: Grants) -> None:
    permissions = participant_permissions(grants)
    own = f"mafalda.room.{grants.rooms[0]}.peer.{grants.peer}.intent.set-audience"
    assert not (grants.audience and may_publish(permissions, own))
    if grants.moderate and not grants.audience:
        assert may_publish(permissions, f"mafalda.room.{grants.rooms[0]}.peer.else.intent.set-audience")


def test_a_token_names_only_what_differs_from_the_defaults() -> None:
    """Agents that do not know a grant yet refuse to read it."""
    assert Grants(rooms=["lobby"], peer="alice").to_json_dict() == {"rooms": ["lobby"], "peer": "alice"}
