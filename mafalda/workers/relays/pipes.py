"""The ends of pipes: how two workers' routers are joined, encrypted or not, and where they listen.

What does not belong here: what crosses them (``sources``, ``mirrors``).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakValueDictionary

from mafalda.contract.messages.payload import Place
from mafalda.contract.messages.queries import (
    CarryProducer,
    ClosePipe,
    ConnectPipe,
    Ok,
    PipeConnected,
    PipeEnd,
    ProducerCarried,
    SetCarried,
)
from mafalda.media.rtp import ListenInfo
from mafalda.mediasoup import PipeTransport, Router
from mafalda.workers.config import AgentConfig

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


class SourcePort(Protocol):
    """What a target asks of the source, wherever it is."""

    async def connect_pipe(self, request: ConnectPipe) -> PipeConnected: ...

    async def carry(self, request: CarryProducer) -> ProducerCarried: ...

    async def set_carried(self, request: SetCarried) -> Ok: ...

    async def close_pipe(self, request: ClosePipe) -> Ok: ...


class Locks:
    """A lock for each key, for as long as somebody holds or awaits it."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[PipeKey, asyncio.Lock] = WeakValueDictionary()

    def of(self, key: PipeKey) -> asyncio.Lock:
        """The key's lock; keep hold of it while it is used."""
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        return lock


async def make_end(router: Router, config: AgentConfig, key: PipeKey, *, srtp: bool) -> PipeTransport:
    """One end of a pipe, not yet connected. Between servers what is lost is sent again."""
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
    """What the other end must know. Holds a secret."""
    return PipeEnd(ip=end.tuple.local_address, port=end.tuple.local_port, srtp_parameters=end.srtp_parameters)


def wants_srtp(config: AgentConfig, key: PipeKey) -> bool:
    """Whether a pipe is to be encrypted, by the target's policy."""
    return config.relay_srtp == "always" or (config.relay_srtp == "between-servers" and not key.is_local)


async def join(end: PipeTransport, other: PipeEnd) -> None:
    """Connect our end with the other."""
    await end.connect(ip=other.ip, port=other.port, srtp_parameters=other.srtp_parameters)
