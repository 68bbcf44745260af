"""A producer relayed to another real worker by hand, as an application of mediasoup does it: the relay's baseline."""

from __future__ import annotations

from dataclasses import dataclass

from mafalda.mediasoup import PipeTransport, Producer, Router


@dataclass(frozen=True, slots=True)
class Pipe:
    """A pair of pipe transports, connected."""

    near: PipeTransport
    far: PipeTransport

    async def relay(self, producer: Producer) -> Producer:
        """Make it known in the other router under the same id."""
        carried = await self.near.consume(producer_id=producer.id)
        return await self.far.produce(id=producer.id, kind=producer.kind, rtp_parameters=carried.rtp_parameters)


async def pipe(
    router: Router, other: Router, *, srtp: bool = False, ips: tuple[str, str] = ("127.0.0.1", "127.0.0.1")
) -> Pipe:
    """Connect two routers.

    Args:
        router: One of them.
        other: The other.
        srtp: Encrypt, as relays between servers do and those inside one server do not.
        ips: Where each of them listens.
    """
    near, far = [
        await one.create_pipe_transport(listen_info={"protocol": "udp", "ip": ip}, enable_srtp=srtp)
        for one, ip in zip((router, other), ips, strict=True)
    ]
    await _connect(near, far)
    await _connect(far, near)
    return Pipe(near, far)


async def _connect(transport: PipeTransport, to: PipeTransport) -> None:
    ip, port = to.tuple.local_address, to.tuple.local_port
    await transport.connect(ip=ip, port=port, srtp_parameters=to.srtp_parameters)
