"""Tokens: what is signed is read again, and nothing else is."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest
from joserfc import jwk, jwt

from mafalda.auth.tokens import LEEWAY_S, MAX_LIFE_S, TokenKeys, generate_key
from mafalda.contract.grants import Grants
from mafalda.errors import BadInput, BadToken

NOW = 1_800_000_000
GRANTS = Grants(rooms=["lobby"], peer="alice", publish=["audio"])
SECRET: dict[str, str | list[str]] = {
    "kty": "oct",
    "kid": "s1",
    "k": base64.urlsafe_b64encode(b"0123456789abcdef" * 2).rstrip(b"=").decode(),
}
OLD, NEW = generate_key("old"), generate_key("new")


def public(key: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in key.items() if name != "d"}


@pytest.mark.parametrize("key", [OLD, SECRET], ids=["EdDSA", "HS256"])
def test_a_minted_token_is_read_again(key: dict[str, Any]) -> None:
    keys = TokenKeys([key])
    token = keys.verify(keys.mint(GRANTS, life_s=60, now=NOW), now=NOW)
    assert token.grants == GRANTS
    assert token.expires == NOW + 60


def test_keys_rotate() -> None:
    of_old = TokenKeys([OLD]).mint(GRANTS, life_s=60, now=NOW)
    both = TokenKeys([NEW, public(OLD), SECRET])
    assert both.verify(of_old, now=NOW).grants == GRANTS
    assert TokenKeys([NEW]).verify(both.mint(GRANTS, life_s=60, now=NOW), now=NOW).grants == GRANTS
    with pytest.raises(BadToken, match="kid"):
        TokenKeys([NEW]).verify(of_old, now=NOW)


def test_times_are_checked() -> None:
    keys = TokenKeys([OLD])
    text = keys.mint(GRANTS, life_s=60, now=NOW)
    assert keys.verify(text, now=NOW + 60 + LEEWAY_S - 1)
    with pytest.raises(BadToken, match="expired"):
        keys.verify(text, now=NOW + 60 + LEEWAY_S)
    with pytest.raises(BadToken, match="not valid yet"):
        keys.verify(text, now=NOW - LEEWAY_S - 1)
    with pytest.raises(BadInput):
        keys.mint(GRANTS, life_s=MAX_LIFE_S + 1, now=NOW)


def signed(claims: dict[str, Any], *, alg: str = "HS256", kid: str = "s1") -> str:
    return jwt.encode({"alg": alg, "kid": kid}, claims, jwk.OctKey.import_key(SECRET), algorithms=[alg])


@pytest.mark.parametrize(
    "change",
    [
        {"exp": None},
        {"exp": "soon"},
        {"exp": True},
        {"exp": NOW + MAX_LIFE_S + 60},
        {"nbf": NOW + 60},
        {"mafalda": None},
        {"mafalda": {"rooms": [], "peer": "a"}},
        {"mafalda": {"rooms": ["a.b"], "peer": "a"}},
        {"mafalda": {"rooms": ["*"], "peer": "a"}},
        {"mafalda": {"rooms": ["a"], "peer": ">"}},
        {"mafalda": {"rooms": ["a"]}},
        {"mafalda": {"rooms": ["a"], "peer": "a", "subscribes": False}},
        {"mafalda": {"rooms": ["a"], "peer": "a", "publish": ["screen"]}},
    ],
)
def test_wrong_claims_are_refused(change: dict[str, Any]) -> None:
    claims = {"exp": NOW + 60, "mafalda": {"rooms": ["a"], "peer": "a"}}
    keys = TokenKeys([SECRET])
    assert keys.verify(signed(claims), now=NOW)
    changed = {name: value for name, value in {**claims, **change}.items() if value is not None}
    with pytest.raises(BadToken):
        keys.verify(signed(changed), now=NOW)


def test_forged_tokens_are_refused() -> None:
    keys = TokenKeys([SECRET, OLD])
    good = keys.mint(GRANTS, life_s=60, now=NOW)
    header, body, signature = good.split(".")
    none = base64.urlsafe_b64encode(orjson.dumps({"alg": "none", "kid": "s1"})).rstrip(b"=").decode()
    public_as_secret = jwk.OctKey.import_key(base64.urlsafe_b64decode(str(OLD["x"]) + "="))
    confused = jwt.encode({"alg": "HS256", "kid": "old"}, {"exp": NOW + 60}, public_as_secret, algorithms=["HS256"])
    other = base64.urlsafe_b64encode(base64.urlsafe_b64decode(body + "==").replace(b"alice", b"bobby"))
    for forged in (
        "",
        "x",
        "a.b.c",
        f"{none}.{body}.",
        f"{header}.{body}.{signature[:-4]}AAAA",
        f"{header}.{other.rstrip(b'=').decode()}.{signature}",
        confused,
        signed({"exp": NOW + 60, "mafalda": {"rooms": ["a"], "peer": "a"}}, kid="old"),
        "x" * 10_000,
    ):
        with pytest.raises(BadToken):
            keys.verify(forged, now=NOW)


@pytest.mark.parametrize(
    "keys",
    [
        [],
        [public(OLD), OLD],
        [{**OLD, "kid": ""}],
        [{"kty": "oct", "kid": "x", "k": "c2hvcnQgc2hvcnQgc2hvcnQ"}],
        [{"kty": "RSA", "kid": "x"}],
        [{"kty": "OKP", "crv": "Ed25519", "kid": "x"}],
    ],
)
def test_bad_key_sets_are_refused(keys: list[dict[str, Any]]) -> None:
    with pytest.raises(BadInput):
        TokenKeys(keys)
