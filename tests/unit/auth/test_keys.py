"""Keys per server: who gets one, and that accounts.conf has the keys that the folder has."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from mafalda.auth.keys import KeyFolder, create_keys, ensure_keys
from mafalda.auth.nats_jwt import public_key
from mafalda.bus.config import read_seed
from mafalda.cli.commands.keys import keys as command
from mafalda.errors import BadInput


def is_listed(keys: KeyFolder, file: Path) -> bool:
    """Whether accounts.conf takes the key in a file, as a user and past the auth callout."""
    return keys.accounts_conf.read_text().count(public_key(read_seed(file).get_secret_value())) == 2


def test_with_servers_there_is_no_key_for_all_agents(tmp_path: Path) -> None:
    keys = create_keys(tmp_path, ["fra-1", "fra-2"])
    assert not keys.role("agent").exists()
    assert keys.servers() == ["fra-1", "fra-2"]
    assert all(is_listed(keys, keys.agent(server)) for server in keys.servers())


def test_a_server_that_is_added_gets_its_own_and_keeps_it(tmp_path: Path) -> None:
    keys = create_keys(tmp_path)
    assert keys.agent("fra-1") == keys.role("agent")
    done = CliRunner().invoke(command, ["add-agent", str(tmp_path), "fra-1"])
    assert (done.exit_code, done.stdout) == (0, f"{keys.agent_of('fra-1')}\n")
    seed = keys.agent("fra-1").read_text()
    assert seed != keys.role("agent").read_text()
    ensure_keys(tmp_path, ["fra-1"])
    assert keys.agent("fra-1").read_text() == seed
    assert is_listed(keys, keys.agent_of("fra-1"))
    assert is_listed(keys, keys.role("agent"))


def test_a_key_whose_file_is_deleted_ends_with_the_next_configuration(tmp_path: Path) -> None:
    keys = create_keys(tmp_path)
    shared = public_key(read_seed(keys.role("agent")).get_secret_value())
    ensure_keys(tmp_path, ["fra-1"])
    keys.role("agent").unlink()
    assert CliRunner().invoke(command, ["config", str(tmp_path)]).exit_code == 0
    assert shared not in keys.accounts_conf.read_text()
    assert is_listed(keys, keys.agent("fra-1"))


@pytest.mark.parametrize("server", ["", "a.b", "*", "../x"])
def test_an_illegal_server_id_makes_no_key(tmp_path: Path, server: str) -> None:
    with pytest.raises(BadInput):
        create_keys(tmp_path / "keys", [server])
    assert not (tmp_path / "keys").exists()


def test_a_folder_without_keys_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(command, ["add-agent", str(tmp_path), "fra-1"])
    assert done.exit_code == 1
    assert list(tmp_path.iterdir()) == []
