"""Where an application wanted to listen, and where that is on a server."""

from __future__ import annotations

from typing import Any

import pytest

from mafalda.workers.config import AgentConfig
from mafalda.workers.passthrough.addresses import any_port, map_listen_info, map_options

OWN = {"127.0.0.1", "10.0.0.6"}
HERE = AgentConfig(server="s", workers=1, listen_ip="10.0.0.6", announced_address="203.0.113.6")
LOCAL = AgentConfig(server="s", workers=1)


def _info(ip: str, **more: Any) -> dict[str, Any]:
    return {"protocol": "udp", "ip": ip, "port": 0, "portRange": {"min": 0, "max": 0}, **more}


@pytest.mark.parametrize("ip", ["127.0.0.1", "0.0.0.0", "::"])
def test_addresses_that_every_host_has_stay(ip: str) -> None:
    assert map_listen_info(_info(ip), [], OWN, LOCAL) == _info(ip)


def test_the_application_s_announcement_stays_where_a_server_has_none() -> None:
    info = _info("127.0.0.1", announcedAddress="9.9.9.1")
    assert map_listen_info(info, [], OWN, LOCAL) == info


def test_another_server_listens_on_its_own_address() -> None:
    mapped = map_listen_info(_info("10.0.0.5", announcedAddress="203.0.113.5"), ["10.0.0.5"], OWN, HERE)
    assert (mapped["ip"], mapped["announcedAddress"]) == ("10.0.0.6", "203.0.113.6")


def test_the_application_s_own_address_is_never_announced_elsewhere() -> None:
    config = AgentConfig(server="s", workers=1, listen_ip="10.0.0.6")
    mapped = map_listen_info(_info("10.0.0.5", announcedAddress="203.0.113.5"), ["10.0.0.5"], OWN, config)
    assert (mapped["ip"], mapped.get("announcedAddress")) == ("10.0.0.6", None)


def test_nobody_s_address_is_the_worker_s_to_refuse() -> None:
    assert map_listen_info(_info("1.2.3.4"), [], OWN, LOCAL)["ip"] == "1.2.3.4"
    assert map_listen_info(_info("nonsense"), [], OWN, LOCAL)["ip"] == "nonsense"


def test_a_server_s_port_range_wins_but_not_over_a_port() -> None:
    config = AgentConfig(server="s", workers=1, rtc_min_port=20000, rtc_max_port=20100)
    assert map_listen_info(_info("127.0.0.1"), [], OWN, config)["portRange"] == {"min": 20000, "max": 20100}
    assert map_listen_info(_info("127.0.0.1", port=5000), [], OWN, config)["port"] == 5000


def test_every_listen_info_in_the_options_is_mapped() -> None:
    plain = {"listenInfo": _info("10.0.0.5"), "rtcpListenInfo": _info("10.0.0.5"), "comedia": True}
    mapped = map_options(plain, ["10.0.0.5"], OWN, HERE)
    assert (mapped["listenInfo"]["ip"], mapped["rtcpListenInfo"]["ip"]) == ("10.0.0.6", "10.0.0.6")
    webrtc = {"listen": ("ListenIndividual", {"listenInfos": [_info("10.0.0.5"), _info("127.0.0.1")]})}
    kind, listen = map_options(webrtc, ["10.0.0.5"], OWN, HERE)["listen"]
    assert (kind, [info["ip"] for info in listen["listenInfos"]]) == ("ListenIndividual", ["10.0.0.6", "127.0.0.1"])


def test_any_port() -> None:
    assert any_port(_info("::", port=4000, portRange={"min": 1, "max": 2})) == _info("::")
