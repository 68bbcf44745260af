"""The one parser of NATS URLs, and the options of the command line that depend on it."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from mafalda.bus.config import DEFAULT_URL, BusConfig, server_urls
from mafalda.cli.connecting import bus_config
from mafalda.cli.main import main
from mafalda.dropin.process.reach import fleet_urls


@pytest.mark.parametrize("text", [None, "", " , "])
def test_no_url_is_the_embedded_server(text: str | None) -> None:
    assert server_urls(text) == (DEFAULT_URL,)


def test_blanks_are_no_part_of_a_url() -> None:
    assert server_urls("nats://a, nats://b ,") == ("nats://a", "nats://b")
    assert bus_config("nats://a, nats://b").servers == ("nats://a", "nats://b")
    assert BusConfig.from_environment({"MAFALDA_NATS_URL": "nats://a, nats://b"}).servers == ("nats://a", "nats://b")


@pytest.mark.parametrize("text", ["", " , ", "nats://a", "nats://a, nats://b ,"])
def test_the_drop_in_which_may_import_nothing_parses_them_equally(text: str) -> None:
    assert tuple(fleet_urls({"MAFALDA_NATS_URL": text})) == server_urls(text)


@pytest.mark.parametrize("command", ["up", "demo"])
def test_an_unknown_policy_is_refused_before_anything_starts(command: str) -> None:
    result = CliRunner().invoke(main, [command, "--policy", "nonsense"])
    assert result.exit_code == 2
    assert "nonsense" in result.output
