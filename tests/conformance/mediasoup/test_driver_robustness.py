"""Nothing that an application passes in kills the worker: valid calls, with something in them replaced by nonsense."""

from __future__ import annotations

import copy
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from mafalda.errors import DeadlineExceeded, MafaldaError
from mafalda.mediasoup import Router, Worker
from tests.conformance.mediasoup.driver_samples import LOOPBACK, MEDIA_CODECS, audio, h264_simulcast, vp8, vp9_svc
from tests.conformance.mediasoup.test_driver_consumer import DEVICE

ROUNDS = 400
NONSENSE: list[Any] = [None, True, 0, 1, -1, 255, 65535, 2**31, 2**32 - 1, 2**32, 2**64, 1.5, float("inf")]
NONSENSE += ["", "0", "chicken", "x" * 300, "\0", "ü", "\ud800", "127.0.0.1", "video/VP8", b"x"]
NONSENSE += [[], {}, [None], [{}], {"a": None}]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON-like value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def spoiled(rng: random.Random, options: dict[str, Any]) -> dict[str, Any]:
    """The options with one to three places replaced, removed or doubled."""
    options = copy.deepcopy(options)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        *parents, last = rng.choice(list(places(options)))
        holder: Any = options
        for key in parents:
            holder = holder[key]
        action = rng.random()
        if action < 0.7:
            holder[last] = copy.deepcopy(rng.choice(NONSENSE))
        elif action < 0.85 and isinstance(holder, dict) and parents:
            del holder[last]
        elif isinstance(holder, list):
            holder.append(copy.deepcopy(holder[last]))
    return options


async def calls(router: Router) -> list[tuple[Callable[..., Awaitable[Any]], dict[str, Any]]]:
    """Methods with options that they take."""
    webrtc = await router.create_webrtc_transport(listen_infos=[LOOPBACK], enable_sctp=True)
    plain = await router.create_plain_transport(listen_info=LOOPBACK, enable_sctp=True)
    srtp = await router.create_plain_transport(listen_info=LOOPBACK, enable_srtp=True)
    pipe = await router.create_pipe_transport(listen_info=LOOPBACK, enable_sctp=True)
    direct = await router.create_direct_transport()
    producer, video = await direct.produce(**audio()), await direct.produce(**h264_simulcast())
    consumer = await plain.consume(producer_id=video.id, rtp_capabilities=router.rtp_capabilities)
    data = await direct.produce_data()
    data_consumer = await webrtc.consume_data(data_producer_id=data.id)
    listen = {**LOOPBACK, "portRange": {"min": 0, "max": 0}, "flags": {"ipv6Only": False}, "sendBufferSize": 1}
    fingerprint = {"algorithm": "sha-256", "value": ":".join(["AB"] * 32)}
    key = {"cryptoSuite": "AEAD_AES_128_GCM", "keyBase64": "A" * 38 + "=="}
    layers = {"spatialLayer": 1, "temporalLayer": 1}
    produced = [(webrtc.produce, options) for options in (audio(7), h264_simulcast(), vp8(1, 2), vp9_svc())]
    return [
        *produced,
        (pipe.produce, vp8(5, 6)),
        (router.create_webrtc_transport, {"listen_infos": [listen], "ice_consent_timeout": 1, "enable_sctp": True}),
        (router.create_plain_transport, {"listen_info": listen, "rtcp_mux": True, "comedia": False}),
        (router.create_pipe_transport, {"listen_info": listen, "enable_rtx": True, "id": "x"}),
        (router.create_audio_level_observer, {"max_entries": 1, "threshold": -50, "interval": 300}),
        (router.create_active_speaker_observer, {"interval": 300}),
        (webrtc.connect, {"dtls_parameters": {"role": "client", "fingerprints": [fingerprint]}}),
        (srtp.connect, {"ip": "127.0.0.1", "port": 9, "srtp_parameters": key}),
        (pipe.connect, {"ip": "127.0.0.1", "port": 9}),
        (plain.consume, {"producer_id": video.id, "rtp_capabilities": DEVICE, "preferred_layers": layers}),
        (pipe.consume, {"producer_id": producer.id, "paused": True}),
        (webrtc.produce_data, {"sctp_stream_parameters": {"streamId": 3, "maxRetransmits": 1}, "label": "l"}),
        (webrtc.consume_data, {"data_producer_id": data.id, "max_retransmits": 2, "subchannels": [1, 2]}),
        (consumer.set_preferred_layers, {"spatial_layer": 1, "temporal_layer": 1}),
        (data_consumer.set_subchannels, {"subchannels": [1, 2, 3]}),
        (plain.enable_trace_event, {"types": ["bwe"]}),
    ]


async def test_malformed_parameters_are_refused_or_survived(worker: Worker) -> None:
    rng = random.Random(20240607)
    refused = accepted = 0
    for _ in range(ROUNDS // 20):
        router = await worker.create_router(media_codecs=MEDIA_CODECS)
        for method, options in await calls(router):
            try:
                await method(**spoiled(rng, options))
                accepted += 1
            except DeadlineExceeded:
                raise
            except MafaldaError:
                refused += 1
            assert worker.died is None, (method, worker.died)
        await router.dump()
        await router.close()
    assert refused > accepted > 0
    assert (await worker.dump())["routerIds"] == []
