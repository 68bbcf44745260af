"""The ends of pipes: how two workers' routers are connected, encrypted or not, and where they listen."""

from __future__ import annotations

from dataclasses import dataclass

from mafalda.contract.messages.payload import Place
from mafalda.contract.messages.queries import PipeEnd
from mafalda.media.rtp import ListenInfo
from mafalda.mediasoup import PipeTransport, Router
from mafalda.workers.config import AgentConfig
from mafalda.workers.core.instructions import RelayKey

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class PipeKey:
    """One pipe: media flows from ``source`` to ``target``."""

    room: str
    source: Place
    target: Place

    @property
    def is_local(self) -> bool:
        """Whether both ends are on one server."""
        return self.source.server == self.target.server

    def at_source(self, producer: str) -> RelayKey:
        """A producer on the pipe's source worker."""
        return RelayKey(self.room, producer, self.source.worker)

    def at_target(self, producer: str) -> RelayKey:
        """A producer on the pipe's target worker."""
        return RelayKey(self.room, producer, self.target.worker)


async def create_end(router: Router, config: AgentConfig, key: PipeKey, *, srtp: bool) -> PipeTransport:
    """Create one end of a pipe, not yet connected. Between servers, lost packets are retransmitted."""
    if key.is_local:
        listen = ListenInfo(ip=LOOPBACK, port_range=config.port_range)
    else:
        listen = ListenInfo(
            ip=config.listen_ip, announced_address=config.announced_address, port_range=config.port_range
        )
    return await router.create_pipe_transport(
        listen_info=listen,
        enable_rtx=not key.is_local,
        enable_srtp=srtp,
        enable_sctp=True,
        app_data={"room": key.room},
    )


def describe(end: PipeTransport) -> PipeEnd:
    """What the other end must know. Has the SRTP key, a secret."""
    return PipeEnd(ip=end.tuple.local_address, port=end.tuple.local_port, srtp_parameters=end.srtp_parameters)


def uses_srtp(config: AgentConfig, key: PipeKey) -> bool:
    """Whether a pipe is encrypted, by the configuration of its target's server."""
    return config.relay_srtp == "always" or (config.relay_srtp == "between-servers" and not key.is_local)


async def connect(end: PipeTransport, other: PipeEnd) -> None:
    """Connect our end to the other."""
    await end.connect(ip=other.ip, port=other.port, srtp_parameters=other.srtp_parameters)
