"""NATS' own JWTs (``ed25519-nkey``), as auth callout needs them: the request is read, the answer is written.

Not by joserfc: NATS signs with nkeys under an algorithm of its own. Pure but for the nkeys.
Source: https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_callout
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from typing import Any

import nkeys
import orjson

from mafalda.contract.permissions import Permissions
from mafalda.errors import BadInput

_HEADER = {"typ": "JWT", "alg": "ed25519-nkey"}


def new_seed(prefix: int) -> str:
    """A new nkey's seed; ``prefix`` is one of ``nkeys.PREFIX_BYTE_…``."""
    return bytes(nkeys.encode_seed(secrets.token_bytes(32), prefix)).decode()


def new_user_seed() -> str:
    """A new seed of a user."""
    return new_seed(nkeys.PREFIX_BYTE_USER)


def new_account_seed() -> str:
    """A new seed of an account, which signs the users of the callout."""
    return new_seed(nkeys.PREFIX_BYTE_ACCOUNT)


def public_key(seed: str) -> str:
    """The public key of a seed."""
    return bytes(nkeys.from_seed(bytearray(seed.encode())).public_key).decode()


def read_request(raw: bytes) -> dict[str, Any]:
    """The claim ``nats`` of a server's authorization request.

    Its signature is not checked: NATS lets only a server publish on the subject on which it comes.

    Raises:
        BadInput: Not such a request.
    """
    try:
        body = raw.split(b".")[1]
        claims = orjson.loads(base64.urlsafe_b64decode(body + b"=" * (-len(body) % 4)))
        request = claims["nats"]
        if not isinstance(request["user_nkey"], str) or not isinstance(request["server_id"]["id"], str):
            raise TypeError
    except (IndexError, ValueError, KeyError, TypeError):
        raise BadInput("not an authorization request") from None
    return dict(request)


def user_jwt(
    user_nkey: str, *, name: str, account: str, permissions: Permissions, expires: int, now: int, issuer_seed: str
) -> str:
    """A user of an account, with permissions, until ``expires`` (Unix seconds)."""
    claims = {
        "sub": user_nkey,
        "aud": account,
        "name": name,
        "exp": expires,
        "nats": {
            "type": "user",
            "version": 2,
            "pub": {"allow": list(permissions.publish)},
            "sub": {"allow": list(permissions.subscribe)},
            "subs": -1,
            "data": -1,
            "payload": -1,
        },
    }
    return _sign(claims, now=now, issuer_seed=issuer_seed)


def response_jwt(request: dict[str, Any], *, jwt: str = "", error: str = "", now: int, issuer_seed: str) -> str:
    """The answer to an authorization request: a user, or an error that the server logs."""
    claims = {
        "sub": request["user_nkey"],
        "aud": request["server_id"]["id"],
        "nats": {"type": "authorization_response", "version": 2, "jwt": jwt, "error": error},
    }
    return _sign(claims, now=now, issuer_seed=issuer_seed)


def _sign(claims: dict[str, Any], *, now: int, issuer_seed: str) -> str:
    key = nkeys.from_seed(bytearray(issuer_seed.encode()))
    claims = {**claims, "iss": bytes(key.public_key).decode(), "iat": now}
    claims["jti"] = hashlib.sha256(orjson.dumps(claims)).hexdigest()
    signed = ".".join(_base64url(orjson.dumps(part)) for part in (_HEADER, claims))
    return f"{signed}.{_base64url(key.sign(signed.encode()))}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
