"""Which credential and which NATS a command takes, and where it listens."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from mafalda.auth.keys import create_keys
from mafalda.bus.config import BusConfig, read_seed
from mafalda.bus.nats.bus import connect
from mafalda.bus.nats.server import ServerConfig, run_server
from mafalda.cli.commands.up import up
from mafalda.cli.connecting import bus_config
from mafalda.cli.history import open_history
from mafalda.cli.paths import default_store_dir
from mafalda.cli.serving import listen
from mafalda.errors import BusUnavailable


def test_an_nkey_that_is_named_wins_over_every_credential_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = create_keys(tmp_path / "keys").role("archive")
    monkeypatch.setenv("MAFALDA_NATS_CREDS", str(tmp_path / "other.creds"))
    monkeypatch.setenv("MAFALDA_TOKEN", "other")
    config = bus_config("nats://127.0.0.1:4222", nkey_file=file)
    assert config == BusConfig(servers=config.servers, name=config.name, nkey_seed=read_seed(file))


async def test_what_runs_for_long_never_opens_the_log_of_a_stopped_fleet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fleet that is started later would open the same files."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    default_store_dir().mkdir(parents=True)
    with listen(0, 0) as unused:  # nobody accepts
        monkeypatch.setenv("MAFALDA_NATS_URL", f"nats://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(BusUnavailable):
            async with open_history(None, None, None, stored=False, role="monitor"):
                pass


async def test_the_configuration_beside_the_keys_is_a_whole_one(tmp_path: Path) -> None:
    keys = create_keys(tmp_path / "keys")
    async with run_server(ServerConfig(port=0, conf_file=keys.nats_conf, store_dir=tmp_path / "store")) as server:
        config = BusConfig(servers=(server.url,), nkey_seed=read_seed(keys.role("allocator")))
        async with connect(config) as bus:
            assert await bus.last_seq() == 0


def test_a_page_listens_on_another_port_if_its_own_is_taken_and_on_ipv6() -> None:
    with listen(0, 0) as first:
        port = first.getsockname()[1]
        with listen(None, port) as second:
            assert second.getsockname()[1] != port
    with listen(0, 0, "::1") as listener:
        assert listener.family == socket.AF_INET6


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("--nkey-file", "keys/agent.nk"), "give --keys FOLDER"), (("--keys", "keys"), "--keys goes with --nats-url")],
)
def test_a_fleet_takes_no_credential_that_would_have_no_effect(
    arguments: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    create_keys(Path("keys"))
    refused = CliRunner().invoke(up, ["--nats-url", "", *arguments])
    assert refused.exit_code == 2
    assert said in refused.output
