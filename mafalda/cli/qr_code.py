"""A link as a QR code on the terminal."""

from __future__ import annotations

import sys

import segno


def print_qr_code(link: str) -> None:
    """Print a link as a QR code, if standard output is a terminal."""
    if sys.stdout.isatty():
        segno.make(link, error="l", micro=False).terminal(compact=True, border=2)
