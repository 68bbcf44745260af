"""Read what the auth service keeps about a peer."""

from __future__ import annotations

from base64 import b64decode
from urllib.parse import urlsplit

from pydantic import ValidationError

from mafalda.bus.config import BusConfig
from mafalda.bus.connection.connection import Connection
from mafalda.bus.connection.jetstream_api import ApiRefused, call
from mafalda.contract.grants import Grants
from mafalda.contract.permissions import AUTH_STREAM, granted_subject
from mafalda.errors import BusUnavailable, NotGranted


async def read_grants(connection: Connection, room: str, peer: str) -> Grants | None:
    """See ``Bus.grants``.

    Whoever connects with a credential, whichever it is, may be in a fleet that has an auth service: its stream says so.
    Without any credential this fleet is open, and nobody is granted anything in particular.
    """
    if not _has_credential(connection.config):
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
        raise NotGranted("what was granted is of a version that this agent does not know", peer=peer) from None


def _has_credential(config: BusConfig) -> bool:
    given = (config.nkey_seed, config.credentials_file, config.token, config.user, config.password)
    return any(given) or any("@" in urlsplit(url).netloc for url in config.servers)
