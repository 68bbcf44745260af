"""Intents about a peer's transports, and what happens when the client at the other end of one goes away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from mafalda.contract.messages import intents
from mafalda.contract.messages.events import TransportClosed
from mafalda.contract.messages.results import ChannelAnswer, TransportResult
from mafalda.errors import AlreadyExists
from mafalda.mediasoup import SctpLimits, Transport, WebRtcTransport, ortc
from mafalda.workers.core.instructions import Entry
from mafalda.workers.peers.intents.producers import producers_closed
from mafalda.workers.peers.intents.subscribed import keep_rtp_capabilities, look_at_all
from mafalda.workers.peers.session.responses import Outcome, done
from mafalda.workers.peers.session.session import PeerSession

#: Makes a transport on the worker; returns it with the whole result, secrets included.
MakeTransport = Callable[[], Awaitable[tuple[Transport, TransportResult | ChannelAnswer]]]


async def open_transport(session: PeerSession, id: str, make: MakeTransport) -> Outcome:
    """Create a transport for a peer, however it is made on the worker.

    Args:
        session: Of the peer.
        id: The client's id of the transport.
        make: Makes it on the worker.

    Raises:
        AlreadyExists: The peer has a transport with this id.
        MafaldaError: Whatever ``make`` raises.
    """
    if id in session.objects.transports:
        raise AlreadyExists("the peer has such a transport", transport=id)
    transport, full = await make()
    session.objects.add_transport(id, transport)
    return Outcome(full.without_secrets(), private=full)


async def create_transport(session: PeerSession, intent: intents.CreateTransport, _: Entry) -> Outcome:
    """Create a WebRTC transport that listens as this agent's configuration says."""

    async def make() -> tuple[WebRtcTransport, TransportResult]:
        transport = await _create_webrtc_transport(session, intent)
        return transport, transport_result(session, intent.transport, transport)

    if intent.rtp_capabilities:
        ortc.validate_rtp_capabilities(intent.rtp_capabilities)  # before anything is made
    outcome = await open_transport(session, intent.transport, make)
    _watch_client(session, intent.transport)
    if intent.rtp_capabilities:
        keep_rtp_capabilities(session, intent.transport, intent.rtp_capabilities)
    if intent.direction != "send":
        session.objects.add_receiver(intent.transport, session.objects.webrtc_transport(intent.transport))
        look_at_all(session)
    return outcome


async def _create_webrtc_transport(session: PeerSession, intent: intents.CreateTransport) -> WebRtcTransport:
    config, server = session.services.config, session.live.webrtc_server
    tcp = intent.enable_tcp and config.enable_tcp
    listen: dict[str, Any] = (
        {"webrtc_server": server}
        if server is not None
        else {"listen_infos": config.webrtc_listen_infos(slot=None, tcp=tcp)}
    )
    transport = await session.router.create_webrtc_transport(
        **listen,
        enable_tcp=tcp,
        prefer_tcp=intent.prefer_tcp and tcp,
        prefer_udp=not intent.prefer_tcp,
        enable_sctp=intent.enable_sctp,
        sctp_limits=SctpLimits(
            max_receive_message_size=intent.max_sctp_message_size, max_send_message_size=intent.max_sctp_message_size
        ),
        initial_available_outgoing_bitrate=intent.initial_available_outgoing_bitrate,
        app_data={"room": session.room, "peer": session.peer, "transport": intent.transport},
    )
    if session.limits.incoming_bps is not None:
        try:
            await transport.set_max_incoming_bitrate(session.limits.incoming_bps)
        except BaseException:
            await session.objects.close_one(transport)
            raise
    return transport


def _watch_client(session: PeerSession, id: str) -> None:
    """Close a transport when its DTLS ends, and update the peer's liveness when its ICE state changes."""
    transport = session.objects.webrtc_transport(id)

    def dtls_changed(state: str) -> None:
        if state in ("failed", "closed") and not transport.closed:
            reason: Literal["dtls-failed", "dtls-closed"] = "dtls-failed" if state == "failed" else "dtls-closed"
            session.jobs.add(lambda: _close_lost_transport(session, id, transport, reason))

    transport.on(transport.ICE_STATE_CHANGE, lambda _: session.update_connectedness())
    transport.on(transport.DTLS_STATE_CHANGE, dtls_changed)
    transport.on(transport.CLOSE, lambda _: session.update_connectedness())


async def _close_lost_transport(
    session: PeerSession, id: str, transport: WebRtcTransport, reason: Literal["dtls-failed", "dtls-closed"]
) -> None:
    if session.objects.transports.get(id) is not transport:
        return
    closed = producers_closed(session, transport, "transport-closed")
    await transport.close()
    lost = TransportClosed(transport=id, generation=session.generation, reason=reason)
    await asyncio.gather(
        *(session.responder.append_room_event(event) for event in closed), session.responder.append_peer_event(lost)
    )


def transport_result(session: PeerSession, id: str, transport: WebRtcTransport) -> TransportResult:
    """The parameters that a client needs to use a transport. Contains the ICE password."""
    return TransportResult(
        transport=id,
        generation=session.generation,
        ice_parameters=transport.ice_parameters,
        ice_candidates=list(transport.ice_candidates),
        dtls_parameters=transport.dtls_parameters,
        sctp_parameters=transport.sctp_parameters,
    )


async def connect_transport(session: PeerSession, intent: intents.ConnectTransport, _: Entry) -> Outcome:
    """Give a transport the client's DTLS parameters."""
    await session.objects.webrtc_transport(intent.transport).connect(dtls_parameters=intent.dtls_parameters)
    return done(session.placement, intent, intent.transport)


async def restart_ice(session: PeerSession, intent: intents.RestartIce, _: Entry) -> Outcome:
    """Give a transport new ICE parameters."""
    transport = session.objects.webrtc_transport(intent.transport)
    await transport.restart_ice()
    full = transport_result(session, intent.transport, transport)
    return Outcome(full.without_secrets(), private=full)


async def close_transport(session: PeerSession, intent: intents.CloseTransport, _: Entry) -> Outcome:
    """Close a transport, and report that the producers on it are closed."""
    transport = session.objects.webrtc_transport(intent.transport)
    outcome = done(session.placement, intent, intent.transport)
    outcome.events += producers_closed(session, transport, "transport-closed")
    await transport.close()
    return outcome
