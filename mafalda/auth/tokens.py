"""Tokens: JSON Web Tokens that carry a participant's grants, and the key set that signs and verifies them.

Claims: ``exp`` (required), ``iat``, ``nbf``, ``jti``, and ``mafalda`` with the grants. Any JWT library can make one.
"""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from joserfc import jwk, jwt
from joserfc.errors import JoseError
from pydantic import ValidationError

from mafalda.contract.grants import ApplicationGrants, Grants
from mafalda.contract.participant_token import read_grants, token_id
from mafalda.errors import BadInput, BadToken

#: EdDSA is the name that libraries write, Ed25519 that of RFC 9864 for the same.
ALGORITHMS = ("EdDSA", "Ed25519", "HS256")
_ALGORITHMS_OF = {"OKP": ("EdDSA", "Ed25519"), "oct": ("HS256",)}
MAX_TOKEN_BYTES = 8192
#: Longest life of a token in seconds: so long is a revocation kept.
MAX_LIFE_S = 30 * 24 * 3600
#: How far clocks may differ, in seconds.
LEEWAY_S = 10
_MIN_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Token:
    """A verified token. ``id`` is its ``jti``, or a digest of it if it has none."""

    id: str
    grants: Grants
    expires: int  # Unix seconds
    issued: int = 0  # Unix seconds; 0: it does not say


@dataclass(frozen=True, slots=True)
class ApplicationToken:
    """A verified token of an application's server; ``id`` as in ``Token``."""

    id: str
    grants: ApplicationGrants
    expires: int  # Unix seconds


class TokenKeys:
    """A JSON Web Key Set: several keys are valid at once, each by its ``kid``; the first one that can signs.

    Args:
        keys: The keys, each with a ``kid``. An ``oct`` key signs with HS256, an Ed25519 key with EdDSA; an Ed25519 key
            without its private part verifies only.

    Raises:
        BadInput: No key, a key without ``kid``, two of the same, a kind that is not supported, a short secret.
    """

    def __init__(self, keys: list[dict[str, Any]]) -> None:
        self._keys: dict[str, jwk.OKPKey | jwk.OctKey] = {}
        for data in keys:
            kid = data.get("kid")
            if not isinstance(kid, str) or not kid or kid in self._keys:
                raise BadInput("each token key needs a kid of its own", kid=str(kid)[:80])
            self._keys[kid] = _import(data, kid)
        if not self._keys:
            raise BadInput("the key set has no key")

    @classmethod
    def read(cls, file: Path) -> TokenKeys:
        """Read a key set file.

        Raises:
            BadInput: It cannot be read, or is none.
        """
        try:
            keys = orjson.loads(file.read_bytes())["keys"]
            return cls(list(keys))
        except (OSError, orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise BadInput("not a JSON Web Key Set", file=str(file), reason=type(error).__name__) from None

    def mint(self, grants: Grants | ApplicationGrants, *, life_s: int, now: int, kid: str | None = None) -> str:
        """Sign a token.

        Args:
            grants: What it permits.
            life_s: Seconds until it expires, at most ``MAX_LIFE_S``.
            now: Unix seconds.
            kid: The key; ``None``: the first that can sign.

        Raises:
            BadInput: No such key, one that cannot sign, or too long a life.
        """
        if not 0 < life_s <= MAX_LIFE_S:
            raise BadInput("a token lives 1 s to 30 days", life_s=life_s)
        key = self._signer(kid)
        algorithm = _ALGORITHMS_OF[key.key_type][0]
        claims = {
            "sub": grants.peer if isinstance(grants, Grants) else "application",
            "jti": secrets.token_hex(12),
            "iat": now,
            "exp": now + life_s,
            "mafalda": grants.to_json_dict(),
        }
        with _eddsa_allowed():
            return jwt.encode({"alg": algorithm, "kid": key.kid}, claims, key, algorithms=[algorithm])

    def verify(self, text: str, *, now: int) -> Token:
        """Check signature and times, and read the grants.

        Raises:
            BadToken: It is not valid; the reason names no secret.
        """
        claims, expires = self._valid_claims(text, now)
        return Token(token_id(text, claims), read_grants(claims), expires, _seconds(claims, "iat"))

    def verify_application(self, text: str, *, now: int) -> ApplicationToken:
        """As ``verify``, for a token of an application's server.

        Raises:
            BadToken: It is not valid, or a participant's.
        """
        claims, expires = self._valid_claims(text, now)
        try:
            grants = ApplicationGrants.model_validate(claims.get("mafalda"))
        except ValidationError:
            raise BadToken("the token is none of an application's server") from None
        return ApplicationToken(token_id(text, claims), grants, expires)

    def _valid_claims(self, text: str, now: int) -> tuple[dict[str, Any], int]:
        """The claims, and when the token expires (Unix seconds)."""
        if len(text) > MAX_TOKEN_BYTES:
            raise BadToken("the token is too long", limit_bytes=MAX_TOKEN_BYTES)
        claims = self._claims(text)
        expires = _seconds(claims, "exp", required=True)
        if expires <= now - LEEWAY_S:
            raise BadToken("the token has expired")
        if expires > now + MAX_LIFE_S + LEEWAY_S:
            raise BadToken("the token lives longer than 30 days")
        if max(_seconds(claims, "nbf"), _seconds(claims, "iat")) > now + LEEWAY_S:
            raise BadToken("the token is not valid yet")
        return claims, expires

    def _claims(self, text: str) -> dict[str, Any]:
        def key_of(part: Any) -> jwk.OKPKey | jwk.OctKey:
            kid, algorithm = part.headers().get("kid"), part.headers().get("alg")
            key = self._keys.get(kid) if isinstance(kid, str) else None
            if key is None:
                raise BadToken("the token names no known kid")
            if algorithm not in _ALGORITHMS_OF[key.key_type]:
                raise BadToken("the token's alg is not that of its key")
            return key

        try:
            with _eddsa_allowed():
                claims = jwt.decode(text, key_of, algorithms=list(ALGORITHMS)).claims
        except (JoseError, ValueError, TypeError) as error:
            raise BadToken("the token is not one, or not signed by its key", reason=type(error).__name__) from None
        return dict(claims)

    def _signer(self, kid: str | None) -> jwk.OKPKey | jwk.OctKey:
        for key in self._keys.values():
            if kid in (None, key.kid) and (key.key_type == "oct" or key.is_private):
                return key
        raise BadInput("the key set has no such key that can sign", kid=kid)


def generate_key(kid: str) -> dict[str, Any]:
    """A new Ed25519 key with its private part, as a JSON Web Key."""
    key = jwk.OKPKey.generate_key("Ed25519", {"kid": kid, "use": "sig"})
    return dict(key.as_dict(private=True))


def _import(data: dict[str, Any], kid: str) -> jwk.OKPKey | jwk.OctKey:
    try:
        match data.get("kty"), data.get("crv"):
            case "OKP", "Ed25519":
                return jwk.OKPKey.import_key(data)
            case "oct", _:
                key = jwk.OctKey.import_key(data)
                if len(key.raw_value) < _MIN_SECRET_BYTES:
                    raise BadInput("a secret for HS256 has 32 bytes at least", kid=kid)
                return key
    except (JoseError, ValueError, TypeError) as error:
        raise BadInput("not a JSON Web Key", kid=kid, reason=type(error).__name__) from None
    raise BadInput("a token key is an Ed25519 key or a secret (oct)", kid=kid)


def _seconds(claims: dict[str, Any], name: str, *, required: bool = False) -> int:
    value = claims.get(name)
    if value is None and not required:
        return 0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1 << 53:
        raise BadToken(f"the token's {name} is not a time in seconds")
    return int(value)


@contextmanager
def _eddsa_allowed() -> Iterator[None]:
    """The library warns that RFC 9864 renames EdDSA; what is signed is the same."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="EdDSA is deprecated")
        yield
