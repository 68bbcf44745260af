"""What a participant reads in its own token, without verifying it: NATS and the auth service judge it. Pure."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from typing import Any

import orjson
from pydantic import ValidationError

from mafalda.contract.grants import Grants
from mafalda.errors import BadToken


@dataclass(frozen=True, slots=True)
class ParticipantToken:
    """A token with grants; ``id`` is that by which it is revoked."""

    text: str = field(repr=False)
    id: str
    grants: Grants


def read_participant_token(text: str) -> ParticipantToken | None:
    """The grants in a token; ``None`` if it is no JSON Web Token with the claim ``mafalda``, but one of NATS' own.

    Raises:
        BadToken: The claim is not as grants.v1.json.
    """
    try:
        _, body, _ = text.split(".")
        claims = orjson.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except ValueError:
        return None
    if not isinstance(claims, dict) or "mafalda" not in claims:
        return None
    return ParticipantToken(text, token_id(text, claims), read_grants(claims))


def read_grants(claims: dict[str, Any]) -> Grants:
    """The grants in a token's claims.

    Raises:
        BadToken: They are not as grants.v1.json.
    """
    try:
        return Grants.model_validate(claims.get("mafalda"))
    except ValidationError as error:
        places = ", ".join(".".join(map(str, problem["loc"])) or "mafalda" for problem in error.errors())
        raise BadToken("the token's claim mafalda is not as grants.v1.json", places=places) from None


def token_id(text: str, claims: dict[str, Any]) -> str:
    """By what a token is revoked: a digest of its ``jti``, or of itself if it has none."""
    jti = claims.get("jti")
    source = f"jti {jti}" if isinstance(jti, str) and jti else text
    return hashlib.sha256(source.encode()).hexdigest()[:32]
