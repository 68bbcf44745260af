"""``build.json``: what a cached worker was built of, and what it lacks compared with what we mean to build.

What does not belong here: putting it in place (``cache``).
"""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mafalda.mediasoup.install import pin
from mafalda.mediasoup.install.cache import CacheEntry
from mafalda.mediasoup.install.mends import MENDS

FILE_NAME = "build.json"


@dataclass(frozen=True, slots=True)
class Part:
    """Whether a part of the worker is what it is meant to be, and why if it is not."""

    as_meant: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Lack:
    """What a worker lacks, what that costs, and what mends it."""

    what: str
    mend: str


def description(
    entry: CacheEntry, *, libsrtp: Part, batch: Part, phases_s: Mapping[str, float], self_test: Mapping[str, Any]
) -> str:
    """The file's content.

    Args:
        entry: Where it is going to be.
        libsrtp: Meant is the distribution's source with OpenSSL, linked in.
        batch: Meant is that the worker batches what it sends.
        phases_s: Seconds of each phase of the build.
        self_test: What was seen.
    """
    info = {
        "version": pin.WORKER_VERSION,
        "key": entry.key,
        "source_integrity": pin.SOURCE_INTEGRITY,
        "options": list(entry.options),
        "mends": [{"path": mend.path, "why": mend.why} for mend in MENDS],
        "machine": platform.machine(),
        "compiler": _first_line(["c++", "--version"]),
        "libraries": {
            module: _first_line(["pkg-config", "--modversion", module])
            for module in ("libuv", "openssl", "libsrtp2", "absl_strings")
        },
        "libsrtp": {**asdict(libsrtp), "source": dict(pin.LIBSRTP_SHA256) if libsrtp.as_meant else None},
        "batch": asdict(batch),
        "phases_s": dict(phases_s),
        "self_test": dict(self_test),
    }
    return json.dumps(info, indent=2) + "\n"


def lacks(binary: Path) -> Iterator[Lack]:
    """What this worker lacks, as far as a ``build.json`` beside it tells: nothing is known of a worker without one."""
    try:
        info = json.loads(binary.with_name(FILE_NAME).read_bytes())
        libsrtp, batch = (Part(info[name]["as_meant"], info[name]["reason"]) for name in ("libsrtp", "batch"))
    except (OSError, ValueError, KeyError, TypeError):
        return
    if not libsrtp.as_meant:
        yield Lack(
            f"it uses the distribution's libsrtp, where forwarding SRTP takes a fifth more CPU time ({libsrtp.reason})",
            "let apt reach a Debian archive that has libsrtp2's source, then: mafalda worker install --force",
        )
    if not batch.as_meant:
        yield Lack(
            f"it sends each datagram by itself, which takes up to twice the CPU time ({batch.reason})",
            "see the log of its installation, then: mafalda worker install --force",
        )


def _first_line(command: list[str]) -> str | None:
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=10.0, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ended.stdout.partition("\n")[0] or None
