"""What a client reads in its own token."""

from __future__ import annotations

import pytest

from mafalda.auth.tokens import TokenKeys, generate_key
from mafalda.contract.grants import Grants
from mafalda.contract.participant_token import read_participant_token
from mafalda.errors import BadToken

NOW = 1_800_000_000


def test_the_grants_and_the_id_are_those_that_the_auth_service_verifies() -> None:
    keys = TokenKeys([generate_key("a")])
    grants = Grants(rooms=["lobby", "annex"], peer="alice", moderate=True)
    text = keys.mint(grants, life_s=60, now=NOW)
    read = read_participant_token(text)
    assert read is not None
    assert read.grants == grants
    assert read.id == keys.verify(text, now=NOW).id
    assert text not in repr(read)


@pytest.mark.parametrize("text", ["", "secret", "a.b", "a.b.c", "a.e30.c", "ä.e30=.c", "a.W10.c"])
def test_any_other_token_is_nats_own(text: str) -> None:
    assert read_participant_token(text) is None


def test_grants_that_cannot_be_read_are_an_error() -> None:
    with pytest.raises(BadToken):
        read_participant_token("a.eyJtYWZhbGRhIjp7fX0.c")
