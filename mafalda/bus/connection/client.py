"""nats-py's client: how it is configured, and what its error messages mean."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from nats.aio.client import Client

from mafalda.bus.config import BusConfig

_DENIED = re.compile(r'permissions violation for (publish|subscription) to "([^"]+)"', re.IGNORECASE)


class FastClient(Client):  # type: ignore[misc]  # nats-py is not checked
    """nats-py's client with a faster parser of header lines: 2 µs for a republished message instead of 7.

    It also closes the socket of a connection that was refused, which nats-py drops when it tries again.
    """

    async def _process_connect_init(self) -> None:
        try:
            await super()._process_connect_init()
        except BaseException:
            if self._transport is not None:
                self._transport.close()
            raise

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        headers: dict[str, str] = {}
        for line in raw.decode(errors="replace").split("\r\n"):
            name, colon, value = line.partition(":")
            if colon:
                headers[name.strip()] = value.strip()
        return headers


class Denied(NamedTuple):
    """A permission error of the server."""

    operation: str  # publish or subscription
    subject: str  # in lower case, as nats-py reports it


def parse_denied(error: Exception) -> Denied | None:
    """What the server did not permit, if that is what an error is about."""
    match = _DENIED.search(str(error))
    return Denied(match[1].lower(), match[2]) if match else None


def connect_options(config: BusConfig) -> dict[str, Any]:
    """The arguments of ``Client.connect`` but for its callbacks."""
    options: dict[str, Any] = {
        "servers": list(config.servers),
        "name": config.name,
        "max_reconnect_attempts": -1,
        "connect_timeout": 2,
        "reconnect_time_wait": config.reconnect_wait_s,
        "ping_interval": config.ping_interval_s,
    }
    if config.user is not None:
        options["user"] = config.user
    if config.password is not None:
        options["password"] = config.password.get_secret_value()
    if config.token is not None:
        options["token"] = config.token.get_secret_value()
    if config.nkey_seed is not None:
        options["nkeys_seed_str"] = config.nkey_seed.get_secret_value()
    if config.credentials_file is not None:
        options["user_credentials"] = config.credentials_file
    return options


def server_of(client: Client) -> str:
    """Host and port of the server to which a client is connected; empty if it is not."""
    url = client.connected_url
    return f"{url.hostname}:{url.port}" if url else ""


def without_password(url: str) -> str:
    """A URL without user and password."""
    return re.sub(r"//[^@/]*@", "//", url)
