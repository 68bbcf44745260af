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


async def pipe(router: Router, other: Router) -> Pipe:
    """Without SRTP, as relays inside one server are."""
    near = await router.create_pipe_transport(listen_info=LOOPBACK)
    far = await other.create_pipe_transport(listen_info=LOOPBACK)
    await near.connect(ip=far.tuple.local_address, port=far.tuple.local_port)
    await far.connect(ip=near.tuple.local_address, port=near.tuple.local_port)
    return Pipe(near, far)
