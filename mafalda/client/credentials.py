"""Which bus a client gets: with a participant's token one that needs nothing else, otherwise one that reads the log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pydantic import SecretStr

from mafalda.bus.config import BusConfig, server_urls
from mafalda.bus.nats.bus import connect as connect_bus
from mafalda.bus.participant.bus import connect as connect_participant
from mafalda.bus.protocol import PeerBus
from mafalda.contract.grants import Grants
from mafalda.contract.ids import check_id
from mafalda.contract.participant_token import read_participant_token
from mafalda.errors import BadInput, NotGranted


@dataclass(frozen=True, slots=True)
class ClientBus:
    """A bus, and what the client's token grants; ``None``: it has another credential, or none."""

    bus: PeerBus
    grants: Grants | None = None


@asynccontextmanager
async def open_client_bus(url: str | None, token: str | None) -> AsyncIterator[ClientBus]:
    """Connect with ``token``, else with the credential in the environment. It never makes streams: the fleet does.

    Raises:
        BadToken: The token's grants cannot be read.
        BusUnavailable: There is no NATS.
        PermissionDenied: NATS refused the credential.
    """
    config = BusConfig.from_environment(name="mafalda-client")
    own: dict[str, object] = {"servers": server_urls(url) if url else config.servers, "ensure_streams": False}
    if token is not None:
        own |= {"token": SecretStr(token), "nkey_seed": None, "credentials_file": None}
    config = config.model_copy(update=own)
    participant = read_participant_token(config.token.get_secret_value()) if config.token else None
    if participant is None:
        async with connect_bus(config) as bus:
            yield ClientBus(bus)
    else:
        async with connect_participant(config, participant) as participant_bus:
            yield ClientBus(participant_bus, participant.grants)


def choose_room(room: str | None, grants: Grants | None) -> str:
    """The room to join: the one named, else the token's only one.

    Raises:
        BadInput: No room is named, and the token does not name just one.
        NotGranted: The token is not for this room.
    """
    if room is None:
        if grants is None or len(grants.rooms) != 1:
            raise BadInput("name the room: there is no token, or it is for several rooms")
        return grants.rooms[0]
    if grants is not None and check_id("room", room) not in grants.rooms:
        raise NotGranted("the token is not for this room", room=room)
    return check_id("room", room)


def choose_peer(peer: str | None, grants: Grants | None) -> str | None:
    """The peer to be: the one named, else the token's; ``None``: any.

    Raises:
        NotGranted: The token is for another peer.
    """
    if grants is None:
        return peer
    if peer not in (None, grants.peer):
        raise NotGranted("the token is for another peer", peer=peer, granted=grants.peer)
    return grants.peer
