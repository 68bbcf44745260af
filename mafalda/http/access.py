"""Who may call: a bearer token of an application's server, signed by a key of tokens."""

from __future__ import annotations

import time

from starlette.requests import Request

from mafalda.auth.revocations import is_revoked
from mafalda.auth.tokens import ApplicationToken, TokenKeys
from mafalda.bus.connection.connection import Connection
from mafalda.errors import BadToken, NotGranted

_SCHEME = "bearer "


class Access:
    """Checks requests.

    Args:
        keys: Verify tokens.
        connection: Tells whether they are revoked.
    """

    def __init__(self, keys: TokenKeys, connection: Connection) -> None:
        self._keys = keys
        self._connection = connection

    async def check(self, request: Request) -> ApplicationToken:
        """The token of a request.

        Raises:
            BadToken: There is none that is valid.
            NotGranted: It is not for the room in the path, or for rooms only where the fleet is asked for.
            BusUnavailable: It is not known whether it is revoked.
        """
        given = request.headers.get("authorization", "")
        if given[: len(_SCHEME)].lower() != _SCHEME:
            raise BadToken("a bearer token of an application is needed (mafalda token mint --application)")
        token = self._keys.verify_application(given[len(_SCHEME) :].strip(), now=int(time.time()))
        if await is_revoked(self._connection, token.id):
            raise BadToken("the token is revoked")
        if "room" in request.path_params:
            check_room(token, request.path_params["room"])
        return token


def check_room(token: ApplicationToken | None, *rooms: str) -> None:
    """Check that a token is for these rooms; ``None``: the fleet is open.

    Raises:
        NotGranted: It is not.
    """
    if token is None or token.grants.rooms is None:
        return
    if other := sorted(set(rooms) - set(token.grants.rooms)):
        raise NotGranted("the token is not for this room", room=other[0])


def check_fleet(token: ApplicationToken | None) -> None:
    """Check that a token is for all rooms; ``None``: the fleet is open.

    Raises:
        NotGranted: It is for some only.
    """
    if token is not None and token.grants.rooms is not None:
        raise NotGranted("the token is for some rooms only")
