"""What the build needs from the system: a compiler, pkg-config and four libraries with their headers.

Asked by what is there (a program, a pkg-config module), not by package names, so that it is right on systems
other than Debian too; named by Debian's packages, since that is what can be installed here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import NamedTuple, TextIO

from mafalda.mediasoup.install.errors import ToolsMissing
from mafalda.mediasoup.install.progress import Progress, Step

_PROBE_TIMEOUT_S = 10.0
_APT_TIMEOUT_S = 900.0


class Need(NamedTuple):
    """A Debian package and what shows that it, or its like, is there."""

    package: str
    programs: tuple[str, ...] = ()
    module: str = ""


NEEDS = (
    Need("g++", programs=("c++", "g++", "clang++")),
    Need("gcc", programs=("cc", "gcc", "clang")),
    Need("pkg-config", programs=("pkg-config", "pkgconf")),
    Need("libuv1-dev", module="libuv >= 1.44"),
    Need("libssl-dev", module="openssl >= 3.0"),
    Need("libsrtp2-dev", module="libsrtp2 >= 2.4"),
    Need("libabsl-dev", module="absl_strings"),
)


def missing_system_packages() -> list[str]:
    """The Debian packages that a build of the worker would lack here, in a fixed order; empty if none."""
    pkg_config = _which(("pkg-config", "pkgconf"))
    missing = []
    for need in NEEDS:
        if need.programs:
            present = _which(need.programs) is not None
        elif pkg_config:
            present = _quiet([pkg_config, "--exists", need.module])
        else:
            present = _debian_has(need.package)
        if not present:
            missing.append(need.package)
    return missing


def ensure_system_packages(progress: Progress, log: TextIO) -> None:
    """Install what is missing if this process may, else say exactly what to install.

    Raises:
        ToolsMissing: something is missing and could not be installed.
    """
    missing = missing_system_packages()
    if not missing:
        return
    apt = _apt_of_root()
    if apt is None:
        raise ToolsMissing("the worker's build needs system packages", command=apt_command(missing), missing=missing)
    progress(Step("packages", f"installing {' '.join(missing)}"))
    if not _apt_install(apt, missing, log):
        progress(Step("packages", "apt-get update"))
        _apt(apt, ["update"], log)
        _apt_install(apt, missing, log)
    still = missing_system_packages()
    if still:
        raise ToolsMissing(
            f"apt-get could not install system packages (log: {log.name})",
            command=f"apt-get update && {apt_command(still)}",
            missing=still,
        )


def update_package_lists(log: TextIO) -> bool:
    """Have apt get its lists of packages, if this process may.

    Returns:
        Whether it did.
    """
    apt = _apt_of_root()
    return apt is not None and _apt(apt, ["update"], log)


def install_if_allowed(package: str, log: TextIO) -> bool:
    """Install what the build can do without, if this process may.

    Returns:
        Whether it did.
    """
    apt = _apt_of_root()
    return apt is not None and _apt_install(apt, [package], log)


def _apt_of_root() -> str | None:
    return shutil.which("apt-get") if os.geteuid() == 0 else None


def apt_command(packages: list[str]) -> str:
    """The command that a person would run."""
    sudo = "" if os.geteuid() == 0 else "sudo "
    return f"{sudo}apt-get install -y --no-install-recommends {' '.join(packages)}"


def _apt_install(apt: str, packages: list[str], log: TextIO) -> bool:
    return _apt(apt, ["install", "-y", "--no-install-recommends", *packages], log)


def _apt(apt: str, arguments: list[str], log: TextIO) -> bool:
    log.write(f"$ apt-get {' '.join(arguments)}\n")
    log.flush()
    try:
        ended = subprocess.run(
            # Another apt may hold the lock for a while: on a fresh machine, unattended upgrades do.
            [apt, "-o", "DPkg::Lock::Timeout=300", *arguments],
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=_APT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        log.write(f"{error}\n")
        return False
    return ended.returncode == 0


def _which(programs: tuple[str, ...]) -> str | None:
    return next((found for name in programs if (found := shutil.which(name))), None)


def _debian_has(package: str) -> bool:
    return _quiet(["dpkg-query", "--show", "--showformat=${db:Status-Status}", package], expect="installed")


def _quiet(command: list[str], expect: str | None = None) -> bool:
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, stdin=subprocess.DEVNULL, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return ended.returncode == 0 and (expect is None or ended.stdout.strip() == expect)
