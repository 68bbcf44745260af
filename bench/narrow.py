"""Bandwidth estimation over a narrow link: what a worker takes it to be with its batch, without, and in another build.

A publisher with three simulcast layers, and a viewer behind a link that carries the second layer and not the third.
What does not belong here: the viewer (``narrow_viewer``).
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import defaultdict
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field

import click

from bench.figures import Figure, p50
from bench.media import BATCH_VARIABLE, Contender, contenders
from bench.media_sinks import LOOPBACK, Network, namespaces_allowed, veth
from bench.media_streams import CODECS, Sender, Stream
from bench.narrow_viewer import Viewer
from mafalda.mediasoup import Router, create_worker

LINK_BPS = 1_200_000
LAYERS = (Stream("video", (600,), 30), Stream("video", (1000,) * 2, 30), Stream("video", (1150,) * 9, 30))
"""144, 480 and 2,484 kbit/s."""
_SSRCS = (5001, 5002, 5003)


@dataclass(slots=True)
class Seen:
    """What one contender did: samples of its estimate, and what came of its packets."""

    estimates_bps: list[float] = field(default_factory=list)
    layers: list[int] = field(default_factory=list)
    received: int = 0
    lost: int = 0


async def measure(quick: bool) -> list[Figure]:
    """Each contender in turns."""
    if why := namespaces_allowed():
        click.echo(f"  no network namespaces: {why}", err=True)
        return []
    turns, seconds = (1, 10) if quick else (4, 30)
    seen: dict[str, list[Seen]] = defaultdict(list)
    for _ in range(turns):
        for contender in contenders():
            with veth(offloads=True, rate_bps=LINK_BPS) as network:
                seen[contender.name].append(await _watch(contender, network, seconds))
    return _figures(seen)


def _figures(seen: dict[str, list[Seen]]) -> list[Figure]:
    (baseline, before), *others = seen.items()
    figures = []
    for name, after in others:
        rows = (
            ("estimate, kbit/s", lambda it: p50(it.estimates_bps) / 1000),
            ("highest layer, mean", lambda it: sum(it.layers) / len(it.layers)),
            ("lost, %", lambda it: 100 * it.lost / (it.lost + it.received)),
            ("received, packets", lambda it: it.received),
        )
        for what, value in rows:
            ours, theirs = (p50([value(it) for it in them]) for them in (after, before))
            figures.append(Figure("narrow", f"{name}: {what}", ours, "", theirs, baseline))
    return figures


async def _watch(contender: Contender, network: Network, seconds: int) -> Seen:
    environment = {**os.environ, BATCH_VARIABLE: contender.batch}
    async with AsyncExitStack() as stack:
        worker = await stack.enter_async_context(create_worker(bin=contender.binary, environment=environment))
        router = await worker.create_router(media_codecs=CODECS)
        source = stack.enter_context(closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)))
        source.bind((LOOPBACK.near, 0))
        senders, producer_id = await _publish(router, source)
        viewer = await stack.enter_async_context(Viewer.watch(router, network, producer_id))
        seen = Seen()
        for second in range(seconds):
            await asyncio.gather(*(sender.send(1.0) for sender in senders))
            if second == seconds // 2:  # it has converged
                before = viewer.counts
            elif second > seconds // 2:
                seen.estimates_bps.append(await viewer.estimate_bps())
                seen.layers.append(viewer.layer)
        seen.received, seen.lost = (after - earlier for after, earlier in zip(viewer.counts, before, strict=True))
        return seen


async def _publish(router: Router, source: socket.socket) -> tuple[list[Sender], str]:
    transport = await router.create_plain_transport(listen_info={"protocol": "udp", "ip": LOOPBACK.near})
    ip, port = source.getsockname()
    await transport.connect(ip=ip, port=port)
    parameters = LAYERS[0].parameters(*_SSRCS)
    producer = await transport.produce(kind="video", rtp_parameters=parameters)
    address = (transport.tuple.local_address, transport.tuple.local_port)
    senders = [
        Sender(layer, ssrc, address, source, None, is_layer=True) for layer, ssrc in zip(LAYERS, _SSRCS, strict=True)
    ]
    return senders, producer.id
