"""Finding a worker that is already there: no network, no building, well under 50 ms.

The order: ``MEDIASOUP_WORKER_BIN``, the cache, a mediasoup of the same version in a ``node_modules`` upward from
the working directory. What does not belong here: getting one that is not there (``installer``).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mafalda.mediasoup.install import cache, pin
from mafalda.mediasoup.install.errors import WorkerBinInvalid

Origin = Literal["environment", "cache", "npm", "built"]

ENVIRONMENT_VARIABLE = "MEDIASOUP_WORKER_BIN"
DROP_IN_NAME = "mafalda-worker"
"""Our own stand-in for a worker: an application's variable may name it, but a fleet cannot be made of it."""

_EXIT_NO_VERSION = 41
_PROBE_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Found:
    """A worker binary and where it came from."""

    path: Path
    origin: Origin


def find_worker_bin() -> Path | None:
    """The worker binary to run, or ``None`` if there is none yet (``mafalda worker install`` gets one).

    Raises:
        WorkerBinInvalid: ``MEDIASOUP_WORKER_BIN`` is set to something that cannot be run.
    """
    found = find_worker()
    return found.path if found else None


def find_worker(environ: Mapping[str, str] = os.environ, cwd: Path | None = None) -> Found | None:
    """As ``find_worker_bin``, with the origin.

    Args:
        environ: The environment to look into.
        cwd: Where the search for ``node_modules`` starts; ``None`` means the working directory.

    Raises:
        WorkerBinInvalid: ``MEDIASOUP_WORKER_BIN`` is set to something that cannot be run.
    """
    named = _from_environment(environ)
    if named:
        return Found(named, "environment")
    entry = cache.current_entry(environ)
    if entry.state() == "sound":
        return Found(entry.binary, "cache")
    nearby = _from_npm(cwd or Path.cwd())
    return Found(nearby, "npm") if nearby else None


def _from_environment(environ: Mapping[str, str]) -> Path | None:
    value = environ.get(ENVIRONMENT_VARIABLE, "")
    if not value or Path(value).name == DROP_IN_NAME:
        return None
    resolved = shutil.which(value, path=environ.get("PATH"))
    if resolved is None:
        raise WorkerBinInvalid(
            f"{ENVIRONMENT_VARIABLE} names no executable file: correct it, or unset it to use the installed worker",
            value=value,
        )
    path = Path(resolved).absolute()
    return None if path.resolve().name == DROP_IN_NAME else path


def _from_npm(start: Path) -> Path | None:
    for folder in (start, *start.parents):
        package = folder / "node_modules" / "mediasoup"
        binary = package / "worker" / "out" / "Release" / cache.BINARY_NAME
        if os.access(binary, os.X_OK) and _npm_version(package) == pin.WORKER_VERSION and starts(binary):
            return binary
    return None


def _npm_version(package: Path) -> str | None:
    try:
        content = json.loads((package / "package.json").read_bytes())
    except (OSError, ValueError):
        return None
    version = content.get("version") if isinstance(content, dict) else None
    return version if isinstance(version, str) else None


def starts(binary: Path) -> bool:
    """Whether the file is a mediasoup-worker that this system can load.

    Without ``MEDIASOUP_VERSION`` a worker leaves with its own exit code, before it does anything else.
    """
    environment = {name: value for name, value in os.environ.items() if name != "MEDIASOUP_VERSION"}
    try:
        ended = subprocess.run(
            [binary],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_PROBE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return ended.returncode == _EXIT_NO_VERSION
