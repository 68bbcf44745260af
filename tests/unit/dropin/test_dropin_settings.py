"""The command line, read as the worker reads it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mafalda.bus.config import DEFAULT_URL
from mafalda.dropin.process import reach
from mafalda.dropin.process.settings import (
    WrongSettings,
    read_fleet_timeout,
    read_on_drain,
    read_on_worker_death,
    read_places_ahead,
    read_settings,
    read_tenant,
    read_transports_per_peer,
)


def test_what_a_library_passes() -> None:
    settings = read_settings(
        ["--logLevel=DEBUG", "--logTag=ice", "--logTag=dtls", "--rtcMinPort=0", "--rtcMaxPort=9999"]
    )
    assert (settings.log_level, settings.log_tags) == ("debug", ("ice", "dtls"))
    assert settings.port_range == {"min": 0, "max": 9999}


def test_nothing_is_enough_and_leaves_ports_to_the_servers() -> None:
    settings = read_settings([])
    assert (settings.log_level, settings.port_range) == ("error", None)


def test_one_port_takes_the_other_from_the_worker_s_defaults() -> None:
    assert read_settings(["--rtcMinPort=20000"]).port_range == {"min": 20000, "max": 59999}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--logLevel=chicken"],
        ["--logLevel"],
        ["--rtcMinPort=1000", "--rtcMaxPort=999"],
        ["--rtcMinPort=1000", "--rtcMaxPort=65536"],  # 16 bits: 0
        ["--rtcMinPort=many"],
        ["--dtlsCertificateFile=/notfound/cert.pem"],
        ["--dtlsPrivateKeyFile=/notfound/key.pem"],
        ["--unknown=1"],
        ["--rtcM=1"],  # the beginning of two
    ],
)
def test_what_the_worker_refuses(arguments: list[str]) -> None:
    with pytest.raises(WrongSettings):
        read_settings(arguments)


def test_certificates_are_read_but_the_servers_have_their_own(tmp_path: Path) -> None:
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_text("PEM")
    both = [f"--dtlsCertificateFile={tmp_path / 'cert.pem'}", f"--dtlsPrivateKeyFile={tmp_path / 'key.pem'}"]
    read_settings(both)
    with pytest.raises(WrongSettings):
        read_settings(both[:1])


def test_what_is_loaded_first_needs_the_standard_library_alone() -> None:
    """Applications wait for their workers to start: the rest is loaded when the library knows that its worker runs."""
    command = "import sys; import mafalda.dropin.main; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-I", "-c", command], capture_output=True, text=True, check=True).stdout
    packages = {name.partition(".")[0] for name in loaded.split()}
    foreign = {"asyncio", "nats", "opentelemetry", "orjson", "pydantic", "structlog", "tenacity", "uvloop"}
    assert packages & foreign == set()
    own = {name for name in loaded.split() if name.startswith("mafalda.") and ".dropin" not in name}
    versions = "mafalda.mediasoup.versions"  # which version the library is of, and how it is told that its worker runs
    assert own == {"mafalda.mediasoup", versions, f"{versions}.choose", f"{versions}.numbers"}
    slow = {"dataclasses", "inspect", "pathlib", "socket", "subprocess", "tempfile", "urllib"}
    assert packages & slow == set()


def test_nats_is_looked_for_where_every_component_connects() -> None:
    assert reach.DEFAULT_URL == DEFAULT_URL
    assert reach.fleet_urls({}) == [DEFAULT_URL]
    assert reach.fleet_urls({"MAFALDA_NATS_URL": "nats://a:1, nats://b:2"}) == ["nats://a:1", "nats://b:2"]


def test_what_ends_when_a_worker_dies() -> None:
    assert read_on_worker_death({}) == "transports"
    assert read_on_worker_death({"MAFALDA_ON_WORKER_DEATH": "die"}) == "die"
    with pytest.raises(WrongSettings, match="'restart', not one of transports, router, die"):
        read_on_worker_death({"MAFALDA_ON_WORKER_DEATH": "restart"})


def test_a_drain_ends_no_more_than_its_transports_unless_that_is_set() -> None:
    assert read_on_drain({"MAFALDA_ON_WORKER_DEATH": "die"}) == "transports"
    assert read_on_drain({"MAFALDA_ON_DRAIN": "router"}) == "router"
    with pytest.raises(WrongSettings, match="MAFALDA_ON_DRAIN is 'never'"):
        read_on_drain({"MAFALDA_ON_DRAIN": "never"})


def test_which_application_it_is() -> None:
    assert read_tenant({}) is None
    assert read_tenant({"MAFALDA_TENANT": "web-shop"}) == "web-shop"
    for text in ("a.b", "with space", "x" * 65, "*"):
        with pytest.raises(WrongSettings, match="MAFALDA_TENANT"):
            read_tenant({"MAFALDA_TENANT": text})


def test_how_many_transports_a_participant_has() -> None:
    assert read_transports_per_peer({}) == 2
    assert (read_places_ahead({}), read_places_ahead({"MAFALDA_PLACES_AHEAD": "0"})) == (1, 0)
    with pytest.raises(WrongSettings, match="MAFALDA_PLACES_AHEAD is '9', not a number from 0 to 8"):
        read_places_ahead({"MAFALDA_PLACES_AHEAD": "9"})
    assert read_transports_per_peer({"MAFALDA_TRANSPORTS_PER_PEER": "1"}) == 1
    for text in ("0", "17", "-1", "two", "1.5"):
        with pytest.raises(WrongSettings, match="MAFALDA_TRANSPORTS_PER_PEER"):
            read_transports_per_peer({"MAFALDA_TRANSPORTS_PER_PEER": text})


def test_how_long_the_log_may_not_answer() -> None:
    assert read_fleet_timeout({}) is None
    assert read_fleet_timeout({"MAFALDA_FLEET_TIMEOUT_S": "60"}) == 60
    for text in ("0", "soon", "nan", "inf", "-1"):
        with pytest.raises(WrongSettings, match="MAFALDA_FLEET_TIMEOUT_S"):
            read_fleet_timeout({"MAFALDA_FLEET_TIMEOUT_S": text})
