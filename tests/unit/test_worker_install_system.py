"""What the build needs from the system, and how it is got. The programs are small scripts on a PATH of their own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mafalda.mediasoup.install import system
from mafalda.mediasoup.install.errors import ToolsMissing
from mafalda.mediasoup.install.progress import silent

ALL = ["g++", "gcc", "pkg-config", "libuv1-dev", "libssl-dev", "libsrtp2-dev", "libabsl-dev"]
PKG_CONFIG = '#!/bin/sh\ncase "$2" in {known}) exit 0;; esac\nexit 1\n'


class Machine:
    """A PATH with nothing on it but what a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder
        folder.mkdir()

    def program(self, name: str, script: str = "#!/bin/sh\n") -> None:
        path = self.bin / name
        path.write_text(script)
        path.chmod(0o755)

    def compilers(self) -> None:
        self.program("g++")
        self.program("gcc")

    def libraries(self, *modules: str) -> None:
        self.program("pkg-config", PKG_CONFIG.format(known="|".join(f'"{module}"*' for module in modules)))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(made.bin))
    return made


def test_a_bare_machine_lacks_all(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "_debian_has", lambda package: False)
    assert system.missing_system_packages() == ALL


def test_a_complete_machine_lacks_nothing(machine: Machine) -> None:
    machine.compilers()
    machine.libraries("libuv", "openssl", "libsrtp2", "absl_strings")
    assert system.missing_system_packages() == []


def test_one_missing_library_is_named(machine: Machine) -> None:
    machine.compilers()
    machine.libraries("libuv", "openssl", "absl_strings")
    assert system.missing_system_packages() == ["libsrtp2-dev"]


def test_without_pkg_config_debian_is_asked(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.compilers()
    machine.program("dpkg-query", '#!/bin/sh\ncase "$3" in libssl-dev) echo installed; exit 0;; esac\nexit 1\n')
    assert system.missing_system_packages() == ["pkg-config", "libuv1-dev", "libsrtp2-dev", "libabsl-dev"]


def test_without_apt_the_exact_command_is_said(machine: Machine, tmp_path: Path) -> None:
    machine.compilers()
    machine.libraries("libuv", "openssl")
    with (tmp_path / "log").open("w") as log, pytest.raises(ToolsMissing) as caught:
        system.ensure_system_packages(silent, log)
    assert caught.value.missing == ["libsrtp2-dev", "libabsl-dev"]
    assert "apt-get install -y --no-install-recommends libsrtp2-dev libabsl-dev" in str(caught.value)


def test_who_is_not_root_is_told_to_use_sudo(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.program("apt-get", f"#!/bin/sh\n: > {tmp_path}/apt-was-run\n")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with (tmp_path / "log").open("w") as log, pytest.raises(ToolsMissing) as caught:
        system.ensure_system_packages(silent, log)
    assert caught.value.command.startswith("sudo apt-get install")
    assert not (tmp_path / "apt-was-run").exists()


def test_root_installs_after_one_update(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a fresh image, whose package lists are empty: the first install fails."""
    machine.compilers()
    machine.libraries("libuv", "openssl", "libsrtp2")
    calls = tmp_path / "calls"
    machine.program(
        "apt-get",
        f'#!/bin/sh\necho "$3 $6" >> {calls}\n'
        f'[ "$3" = update ] && {{ : > {tmp_path}/lists; exit 0; }}\n'
        f"[ -e {tmp_path}/lists ] || exit 100\n"
        f"printf '#!/bin/sh\\nexit 0\\n' > {machine.bin}/pkg-config\n",
    )
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with (tmp_path / "log").open("w") as log:
        system.ensure_system_packages(silent, log)
    assert calls.read_text().splitlines() == ["install libabsl-dev", "update ", "install libabsl-dev"]
    assert system.missing_system_packages() == []


def test_an_apt_that_cannot_is_an_error_with_its_log(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.compilers()
    machine.libraries("libuv", "openssl", "libsrtp2")
    machine.program("apt-get", "#!/bin/sh\necho E: no network\nexit 100\n")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with (tmp_path / "log").open("w") as log, pytest.raises(ToolsMissing) as caught:
        system.ensure_system_packages(silent, log)
    assert caught.value.missing == ["libabsl-dev"]
    assert caught.value.command.startswith("apt-get update && apt-get install")
    assert (tmp_path / "log").read_text().count("E: no network") == 3
