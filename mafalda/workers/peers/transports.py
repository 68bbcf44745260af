"""What a peer wants of its transports, and what becomes of them when their client goes.

What does not belong here: what they carry (``producers``, ``consuming``).
"""

from __future__ import annotations

import asyncio
from typing import Any

from mafalda.contract.messages import intents
from mafalda.contract.messages.events import TransportClosed
from mafalda.contract.messages.results import TransportResult
from mafalda.errors import AlreadyExists
from mafalda.mediasoup import SctpLimits, WebRtcTransport
from mafalda.workers.core.instructions import Entry
from mafalda.workers.peers.peer import Outcome, PeerActor, done
from mafalda.workers.peers.producers import producers_closed


async def create_transport(actor: PeerActor, intent: intents.CreateTransport, _: Entry) -> Outcome:
    if intent.transport in actor.transports:
        raise AlreadyExists("the peer has such a transport", transport=intent.transport)
    config, server = actor.services.config, actor.live.webrtc_server
    tcp = intent.enable_tcp and config.enable_tcp
    where: dict[str, Any] = (
        {"webrtc_server": server}
        if server is not None
        else {"listen_infos": config.webrtc_listen_infos(slot=None, tcp=tcp)}
    )
    transport = await actor.router.create_webrtc_transport(
        **where,
        enable_tcp=tcp,
        prefer_tcp=intent.prefer_tcp and tcp,
        prefer_udp=not intent.prefer_tcp,
        enable_sctp=intent.enable_sctp,
        sctp_limits=SctpLimits(
            max_receive_message_size=intent.max_sctp_message_size, max_send_message_size=intent.max_sctp_message_size
        ),
        initial_available_outgoing_bitrate=intent.initial_available_outgoing_bitrate,
        app_data={"room": actor.room, "peer": actor.peer, "transport": intent.transport},
    )
    actor.transports[intent.transport] = transport
    _watch(actor, intent.transport, transport)
    return _transport_outcome(actor, intent.transport, transport)


def _watch(actor: PeerActor, id: str, transport: WebRtcTransport) -> None:
    """Notice when its client goes away."""

    def dtls_changed(state: str) -> None:
        if state in ("failed", "closed") and not transport.closed:
            reason = "dtls-failed" if state == "failed" else "dtls-closed"
            actor.post(lambda: _lose_transport(actor, id, transport, reason))

    def ended(_: str) -> None:
        if actor.transports.get(id) is transport:
            del actor.transports[id]
        actor.note_connectedness()

    transport.on(transport.ICE_STATE_CHANGE, lambda _: actor.note_connectedness())
    transport.on(transport.DTLS_STATE_CHANGE, dtls_changed)
    transport.on(transport.CLOSE, ended)


async def _lose_transport(actor: PeerActor, id: str, transport: WebRtcTransport, reason: Any) -> None:
    """A transport ended from its client's side."""
    if actor.transports.get(id) is not transport:
        return
    closed = producers_closed(actor, transport, "transport-closed")
    await transport.close()
    lost = TransportClosed(transport=id, generation=actor.generation, reason=reason)
    await asyncio.gather(*(actor.tell_room(event) for event in closed), actor.tell_peer(lost))


def transport_result(actor: PeerActor, id: str, transport: WebRtcTransport) -> TransportResult:
    """A transport as its client needs it. Holds the ICE password."""
    return TransportResult(
        transport=id,
        generation=actor.generation,
        ice_parameters=transport.ice_parameters,
        ice_candidates=list(transport.ice_candidates),
        dtls_parameters=transport.dtls_parameters,
        sctp_parameters=transport.sctp_parameters,
    )


def _transport_outcome(actor: PeerActor, id: str, transport: WebRtcTransport) -> Outcome:
    full = transport_result(actor, id, transport)
    return Outcome(full.without_secrets(), secret=full)


async def connect_transport(actor: PeerActor, intent: intents.ConnectTransport, _: Entry) -> Outcome:
    await actor.transport(intent.transport).connect(dtls_parameters=intent.dtls_parameters)
    return done(actor, intent, intent.transport)


async def restart_ice(actor: PeerActor, intent: intents.RestartIce, _: Entry) -> Outcome:
    transport = actor.transport(intent.transport)
    await transport.restart_ice()
    return _transport_outcome(actor, intent.transport, transport)


async def close_transport(actor: PeerActor, intent: intents.CloseTransport, _: Entry) -> Outcome:
    transport = actor.transport(intent.transport)
    outcome = done(actor, intent, intent.transport)
    outcome.events += producers_closed(actor, transport, "transport-closed")
    await transport.close()
    return outcome
