"""Read what the auth service keeps about a peer."""

from __future__ import annotations

from base64 import b64decode

from pydantic import ValidationError

from mafalda.bus.connection.connection import Connection
from mafalda.bus.connection.jetstream_api import ApiRefused, call
from mafalda.contract.grants import Grants
from mafalda.contract.permissions import AUTH_STREAM, granted_subject
from mafalda.errors import BusUnavailable


async def read_grants(connection: Connection, room: str, peer: str) -> Grants | None:
    """See ``Bus.grants``. Without an nkey this fleet is open, and nobody is granted anything in particular."""
    if connection.config.nkey_seed is None:
        return None
    try:
        query = {"last_by_subj": granted_subject(room, peer)}
        message = (await call(connection, f"STREAM.MSG.GET.{AUTH_STREAM}", query))["message"]
        return Grants.model_validate_json(b64decode(message.get("data", "")))
    except ApiRefused as refused:
        if refused.err_code in (ApiRefused.NO_MESSAGE, ApiRefused.NO_STREAM):  # no auth service, so no participant
            return None
        raise BusUnavailable("grants cannot be read", reason=str(refused)) from None
    except ValidationError:
        raise BusUnavailable("grants are not readable", room=room, peer=peer) from None
