"""WebRtcServer: shared ports, the transports on them, closing."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from mafalda.errors import InvalidParameters, WorkerRequestFailed
from mafalda.mediasoup import Router, Worker
from mafalda.mediasoup.errors import ObjectClosed
from tests.conformance.mediasoup.driver_samples import LOOPBACK, MEDIA_CODECS

Recorder = Callable[..., list[tuple[str, Any]]]


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_listens_on_its_listen_infos(worker: Worker, record: Recorder) -> None:
    udp, tcp = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_STREAM)
    seen = record(worker, "newwebrtcserver")
    server = await worker.create_webrtc_server(
        listen_infos=[
            {"protocol": "udp", "ip": "127.0.0.1", "port": udp},
            {"protocol": "tcp", "ip": "127.0.0.1", "announcedAddress": "foo.bar.org", "port": tcp},
        ],
        app_data={"foo": 123},
    )
    assert seen == [("newwebrtcserver", server)]
    assert server.app_data == {"foo": 123}
    assert (await worker.dump())["webRtcServerIds"] == [server.id]
    assert await server.dump() == {
        "id": server.id,
        "udpSockets": [{"ip": "127.0.0.1", "port": udp}],
        "tcpServers": [{"ip": "127.0.0.1", "port": tcp}],
        "webRtcTransportIds": [],
        "localIceUsernameFragments": [],
    }
    await worker.close()
    assert server.closed
    assert worker.webrtc_servers == {}


async def test_port_range_and_any_port(worker: Worker) -> None:
    port = free_port(socket.SOCK_DGRAM)
    ranged = await worker.create_webrtc_server(listen_infos=[{**LOOPBACK, "portRange": {"min": port, "max": port}}])
    assert (await ranged.dump())["udpSockets"] == [{"ip": "127.0.0.1", "port": port}]
    anywhere = await worker.create_webrtc_server(listen_infos=[LOOPBACK])
    assert (await anywhere.dump())["udpSockets"][0]["port"] > 0


@pytest.mark.parametrize(
    "listen_infos",
    [
        [],
        ["127.0.0.1"],
        {},
        [{"protocol": "udp"}],
        [{"protocol": "chicken", "ip": "127.0.0.1"}],
        [{"protocol": "udp", "ip": "no address"}],
        [{"protocol": "udp", "ip": "127.0.0.1", "port": 70000}],
        [{"protocol": "udp", "ip": "127.0.0.1", "portRange": {"min": 2, "max": 1}}],
    ],
)
async def test_wrong_listen_infos_are_refused(worker: Worker, listen_infos: Any) -> None:
    with pytest.raises(InvalidParameters):
        await worker.create_webrtc_server(listen_infos=listen_infos)
    assert (await worker.dump())["webRtcServerIds"] == []


async def test_cannot_listen(worker: Worker, other_worker: Worker) -> None:
    with pytest.raises(WorkerRequestFailed):
        await worker.create_webrtc_server(listen_infos=[{"protocol": "udp", "ip": "8.8.8.8"}])
    port = free_port(socket.SOCK_DGRAM)
    busy = [{**LOOPBACK, "port": port}]
    await worker.create_webrtc_server(listen_infos=busy)
    for again in (worker, other_worker):
        with pytest.raises(WorkerRequestFailed):
            await again.create_webrtc_server(listen_infos=busy)
    with pytest.raises(WorkerRequestFailed):
        await worker.create_webrtc_server(listen_infos=[LOOPBACK, *busy])


async def test_two_can_share_a_port_if_both_have_the_flag(worker: Worker, other_worker: Worker) -> None:
    shared = [{**LOOPBACK, "port": free_port(socket.SOCK_DGRAM), "flags": {"udpReusePort": True}}]
    await worker.create_webrtc_server(listen_infos=shared)
    await other_worker.create_webrtc_server(listen_infos=shared)


async def test_transports_on_it(router: Router, worker: Worker, record: Recorder) -> None:
    server = await worker.create_webrtc_server(listen_infos=[LOOPBACK, {"protocol": "tcp", "ip": "127.0.0.1"}])
    seen = record(server, "webrtctransporthandled", "webrtctransportunhandled")
    transport = await router.create_webrtc_transport(webrtc_server=server)
    ports = [item["port"] for key in ("udpSockets", "tcpServers") for item in (await server.dump())[key]]
    assert [(candidate.protocol, candidate.port) for candidate in transport.ice_candidates] == [
        ("udp", ports[0]),
        ("tcp", ports[1]),
    ]
    only_udp = await router.create_webrtc_transport(webrtc_server=server, enable_tcp=False)
    assert [candidate.protocol for candidate in only_udp.ice_candidates] == ["udp"]
    dump = await server.dump()
    assert sorted(dump["webRtcTransportIds"]) == sorted([transport.id, only_udp.id])
    assert {item["localIceUsernameFragment"] for item in dump["localIceUsernameFragments"]} == {
        transport.ice_parameters.username_fragment,
        only_udp.ice_parameters.username_fragment,
    }
    await transport.close()
    assert (await server.dump())["webRtcTransportIds"] == [only_udp.id]
    assert server.transports == {only_udp.id: only_udp}
    assert seen == [
        ("webrtctransporthandled", transport),
        ("webrtctransporthandled", only_udp),
        ("webrtctransportunhandled", transport),
    ]
    await router.close()
    assert server.transports == {}
    assert (await server.dump())["webRtcTransportIds"] == []


async def test_one_of_server_and_listen_infos(router: Router, worker: Worker) -> None:
    server = await worker.create_webrtc_server(listen_infos=[LOOPBACK])
    with pytest.raises(InvalidParameters):
        await router.create_webrtc_transport(webrtc_server=server, listen_infos=[LOOPBACK])
    with pytest.raises(InvalidParameters):
        await router.create_webrtc_transport()


async def test_close_ends_its_transports(worker: Worker, record: Recorder) -> None:
    server = await worker.create_webrtc_server(listen_infos=[LOOPBACK])
    routers = [await worker.create_router(media_codecs=MEDIA_CODECS) for _ in range(2)]
    transports = [await router.create_webrtc_transport(webrtc_server=server) for router in routers]
    seen = [record(transport, "listenserverclose", "close") for transport in transports]
    of_server = record(server, "webrtctransportunhandled", "close")
    await server.close()
    assert seen == [[("listenserverclose", None), ("close", "listenserverclose")]] * 2
    assert of_server == [("webrtctransportunhandled", transport) for transport in transports] + [("close", "close")]
    for router, transport in zip(routers, transports, strict=True):
        assert (transport.ice_state, transport.dtls_state) == ("closed", "closed")
        assert router.transports == {}
        assert (await router.dump())["transportIds"] == []
    assert (await worker.dump())["webRtcServerIds"] == []
    with pytest.raises(ObjectClosed):
        await server.dump()


async def test_ends_with_its_worker(worker: Worker, record: Recorder) -> None:
    server = await worker.create_webrtc_server(listen_infos=[LOOPBACK])
    router = await worker.create_router()
    transport = await router.create_webrtc_transport(webrtc_server=server)
    seen, of_transport = record(server, "webrtctransportunhandled", "workerclose", "close"), record(transport, "close")
    await worker.close()
    assert seen == [("webrtctransportunhandled", transport), ("workerclose", None), ("close", "workerclose")]
    assert of_transport == [("close", "routerclose")]
