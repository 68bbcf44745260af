"""What forwarding media costs: this worker with its batch, without it, and another build, in turns.

The other build is named by ``MAFALDA_BENCH_WORKER`` (for example one of an older release in the cache); without it,
the worker without its batch is what it is compared with. What does not belong here: sending (``media_streams``),
watching (``media_sinks``, ``media_viewers``) and counting (``media_load``).
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from bench.figures import Figure, latency, p50
from bench.media_load import Audience, Forwarded, Source, Stage, stage
from bench.media_sinks import LOOPBACK, Network, namespaces_allowed, veth
from bench.media_streams import CODECS, Stream, Suite, video
from mafalda.mediasoup import create_worker
from mafalda.mediasoup.install import find_worker_bin

OTHER_VARIABLE = "MAFALDA_BENCH_WORKER"
BATCH_VARIABLE = "MAFALDA_UDP_BATCH"
OPUS = Stream("audio", (100,), 50)
BURSTS = Stream("video", (1200,) * 3, 1000 / 3)
MEETING = [video(6, 25)] * 20 + [OPUS] * 20
UNIT = "packets/CPU-s"


@dataclass(frozen=True, slots=True)
class Contender:
    """A way to forward: a binary and whether it batches."""

    name: str
    binary: Path
    batch: str


@dataclass(frozen=True, slots=True)
class Scene:
    """What is forwarded to whom.

    Attributes:
        name: As it is printed.
        streams: What is sent.
        viewers: How many; each gets every stream.
        suite: SRTP's crypto suite; ``None``: plain RTP.
        server: Whether they are WebRTC endpoints on one WebRtcServer's socket.
        listeners: How many note times of arrival; with one stream only.
        workers: More than one: the others are on the far side of the network, and the viewers are spread over all.
        srtp_pipes: Whether pipes are encrypted, as between hosts.
        network: ``loopback``, or a link to a network namespace ``with`` or ``without`` offloads.
    """

    name: str
    streams: Sequence[Source]
    viewers: int
    suite: Suite | None = "AEAD_AES_256_GCM"
    server: bool = False
    listeners: int = 8
    workers: int = 1
    srtp_pipes: bool = False
    network: str = "loopback"


SCENES = (
    Scene("bursts of 3, plain RTP", [BURSTS], 80, suite=None),
    Scene("bursts of 3, GCM-128", [BURSTS], 80, suite="AEAD_AES_128_GCM"),
    Scene("bursts of 3, GCM-256", [BURSTS], 80),
    Scene("video in frames of 8", [video(8, 30)], 80),
    Scene("simulcast, three layers", [(video(1, 30), video(3, 30), video(8, 30))], 120, listeners=0),
    Scene("broadcast 1 to 400", [video(8, 30)], 400),
    Scene("audio to 400, own sockets", [OPUS], 400, suite="AEAD_AES_128_GCM"),
    Scene("audio to 400, WebRtcServer", [OPUS], 400, suite="AEAD_AES_128_GCM", server=True),
    Scene("meeting of 20, WebRtcServer", MEETING, 20, server=True, listeners=0),
    Scene("saturation, 7,000 packets/s", [Stream("video", (1200,) * 3, 7000 / 3)], 80, listeners=0),
    Scene("pipe inside a host", [video(8, 30)] * 20, 2, suite=None, workers=2, listeners=0),
    Scene("encrypted pipe inside a host", [video(8, 30)] * 20, 2, suite=None, workers=2, srtp_pipes=True, listeners=0),
    Scene("pipe between hosts", [video(8, 30)] * 20, 2, None, workers=2, srtp_pipes=True, listeners=0, network="with"),
    Scene("bursts of 3, veth with offloads", [BURSTS], 80, network="with"),
    Scene("meeting of 20, veth with offloads", MEETING, 20, server=True, listeners=0, network="with"),
    Scene("bursts of 3, veth without offloads", [BURSTS], 80, network="without"),
)


async def measure(quick: bool) -> list[Figure]:
    """Each scene with each contender, in turns: the machine's other work comes and goes."""
    figures: list[Figure] = []
    with _networks() as networks:
        for scene in SCENES:
            if scene.network not in networks:
                continue
            pushed = await _play(scene, networks[scene.network], 1.0 if quick else 2.0, 2 if quick else 6)
            figures += _figures(scene, pushed)
    return figures


def contenders() -> list[Contender]:
    """The first is the baseline.

    Raises:
        RuntimeError: there is no worker yet.
    """
    binary = find_worker_bin()
    if binary is None:
        raise RuntimeError("no mediasoup-worker yet. Run: mafalda worker install")
    ours = [Contender("without batch", binary, "off"), Contender("with batch", binary, "on")]
    other = os.environ.get(OTHER_VARIABLE)
    return [Contender("other build", Path(other), "on"), *ours] if other else ours


@contextmanager
def _networks() -> Iterator[dict[str, Network]]:
    """Those that can be had here; why not, on standard error."""
    found = {"loopback": LOOPBACK}
    with ExitStack() as stack:
        if why := namespaces_allowed():
            click.echo(f"  no network namespaces: {why}", err=True)
        else:
            for name in ("with", "without"):
                try:
                    found[name] = stack.enter_context(veth(offloads=name == "with"))
                except (RuntimeError, OSError) as error:
                    click.echo(f"  no veth {name} offloads: {error}", err=True)
        yield found


async def _play(scene: Scene, network: Network, seconds: float, turns: int) -> dict[str, list[Forwarded]]:
    pushed: dict[str, list[Forwarded]] = defaultdict(list)
    async with AsyncExitStack() as stack:
        stages = [(it.name, await stack.enter_async_context(staged(scene, network, it))) for it in contenders()]
        has_layers = any(isinstance(it, tuple) for it in scene.streams)
        for _, made in stages:
            await made.push(3.0 if has_layers else 0.2)  # until layers are chosen; what is slow the first time
        for _ in range(turns):
            for name, made in stages:
                pushed[name].append(await made.push(seconds))
            stages = [*stages[1:], stages[0]]
    return pushed


@asynccontextmanager
async def staged(scene: Scene, network: Network, contender: Contender) -> AsyncIterator[Stage]:
    """A contender's workers with the scene's senders and viewers."""
    environment = {**os.environ, BATCH_VARIABLE: contender.batch}
    async with AsyncExitStack() as stack:
        far = stack.enter_context(network.far_program(contender.binary))
        workers = [
            await stack.enter_async_context(create_worker(bin=binary, environment=environment))
            for binary in [contender.binary, *[far] * (scene.workers - 1)]
        ]
        routers = [await worker.create_router(media_codecs=CODECS) for worker in workers]
        server = None
        if scene.server:
            server = await workers[0].create_webrtc_server(listen_infos=[{"protocol": "udp", "ip": network.near}])
        audience = Audience(scene.viewers, scene.suite, server, network, scene.listeners)
        pids = [worker.pid for worker in workers]
        yield await stack.enter_async_context(
            stage(routers, pids, scene.streams, audience, srtp_pipes=scene.srtp_pipes)
        )


def _figures(scene: Scene, pushed: dict[str, list[Forwarded]]) -> list[Figure]:
    """Beside the baseline: cost, what was forwarded, and the times on the way."""
    (baseline, before), *others = pushed.items()
    figures = []
    for name, after in others:
        values = [p50([it.per_cpu_s for it in them]) for them in (after, before)]
        figures.append(Figure("media", f"{scene.name}: {name}", values[0], UNIT, values[1], baseline))
        shares = [100 * sum(it.packets for it in them) / sum(it.wanted for it in them) for them in (after, before)]
        figures.append(Figure("media", "  forwarded", shares[0], "%", shares[1], baseline))
        delays = [[delay for it in them for delay in it.delays_s] for them in (after, before)]
        if scene.listeners and all(delays):
            figures.append(latency("media", "  on the way", delays[0], delays[1], baseline))
    return figures
