"""Version numbers as a library gives them in ``MEDIASOUP_VERSION``. Only the standard library's basics are loaded."""

from __future__ import annotations


def parse(version: str) -> tuple[int, int, int]:
    """The three numbers of ``3.27.1``; what follows a dash or plus (``-rc.1``) does not count.

    Raises:
        ValueError: It is no such version.
    """
    parts = version.strip().removeprefix("v").partition("-")[0].partition("+")[0].split(".")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and len(part) <= 6 for part in parts):
        raise ValueError(version)
    major, minor, patch = map(int, parts)
    return major, minor, patch
