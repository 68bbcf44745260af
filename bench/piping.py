"""A producer relayed to another real worker by hand, as an application of mediasoup does it: the relay's baseline."""

from __future__ import annotations

from dataclasses import dataclass

from mafalda.mediasoup import PipeTransport, Producer, Router

LOOPBACK = {"protocol": "udp", "ip": "127.0.0.1"}


@dataclass(frozen=True, slots=True)
class Pipe:
    """A pair of pipe transports, connected."""

    near: PipeTransport
    far: PipeTransport

    async def relay(self, producer: Producer) -> Producer:
        """Make it known in the other router under the same id."""
        carried = await self.near.consume(producer_id=producer.id)
        return await self.far.produce(id=producer.id, kind=producer.kind, rtp_parameters=carried.rtp_parameters)


async def pipe(router: Router, other: Router, *, srtp: bool = False) -> Pipe:
    """Without SRTP, as relays inside one server are, or with, as between servers."""
    near = await router.create_pipe_transport(listen_info=LOOPBACK, enable_srtp=srtp)
    far = await other.create_pipe_transport(listen_info=LOOPBACK, enable_srtp=srtp)
    await _connect(near, far)
    await _connect(far, near)
    return Pipe(near, far)


async def _connect(transport: PipeTransport, to: PipeTransport) -> None:
    ip, port = to.tuple.local_address, to.tuple.local_port
    await transport.connect(ip=ip, port=port, srtp_parameters=to.srtp_parameters)
