"""Which room a client joins, and as which peer."""

from __future__ import annotations

import pytest

from mafalda.client.credentials import choose_peer, choose_room
from mafalda.contract.grants import Grants
from mafalda.errors import BadInput, IllegalId, NotGranted

ONE = Grants(rooms=["lobby"], peer="alice")
TWO = Grants(rooms=["lobby", "annex"], peer="alice")


def test_a_token_names_room_and_peer() -> None:
    assert choose_room(None, ONE) == choose_room("lobby", ONE) == "lobby"
    assert choose_room("annex", TWO) == "annex"
    assert choose_peer(None, ONE) == choose_peer("alice", ONE) == "alice"


def test_without_a_token_any_room_and_peer_may_be_named() -> None:
    assert choose_room("lobby", None) == "lobby"
    assert choose_peer("bob", None) == "bob"
    assert choose_peer(None, None) is None


def test_what_the_token_does_not_name_is_refused() -> None:
    with pytest.raises(NotGranted):
        choose_room("annex", ONE)
    with pytest.raises(NotGranted):
        choose_peer("bob", ONE)


@pytest.mark.parametrize("grants", [None, TWO])
def test_a_room_has_to_be_named_unless_there_is_just_one(grants: Grants | None) -> None:
    with pytest.raises(BadInput):
        choose_room(None, grants)


@pytest.mark.parametrize("grants", [None, ONE])
def test_an_illegal_room_is_refused(grants: Grants | None) -> None:
    with pytest.raises(IllegalId):
        choose_room("a.b", grants)
