"""Build a mediasoup-worker with the address and undefined-behaviour sanitizers, for tests, and print its path.

It is built, tested and cached as the usual one is (``mafalda worker install``), under a key of its own. It stops at the
first error, so a test that uses it fails. Used by ``make sanitize``.
"""

from __future__ import annotations

import os
import sys

from mafalda.mediasoup.install import Step, install_worker, pin
from mafalda.mediasoup.install.cache import current_entry
from mafalda.mediasoup.install.locate import ENVIRONMENT_VARIABLE

SANITIZER_OPTIONS = (
    "--buildtype=debugoptimized",
    "-Db_sanitize=address,undefined",
    "-Db_lundef=false",
    "-Dc_args=-fno-sanitize-recover=all",
    "-Dcpp_args=-fno-sanitize-recover=all",
)


def main() -> None:
    """Build it unless it is there."""
    os.environ.pop(ENVIRONMENT_VARIABLE, None)
    # The rest of the options is ours as well; only those that begin like one of the sanitizers' are replaced.
    replaced = tuple(option.partition("=")[0] for option in SANITIZER_OPTIONS if option.startswith("--"))
    kept = tuple(option for option in pin.MESON_OPTIONS if not option.startswith(replaced))
    pin.MESON_OPTIONS = (*kept, *SANITIZER_OPTIONS)
    entry = current_entry()
    if entry.state() != "sound":
        install_worker(_show, force=True)
    print(entry.binary)


def _show(step: Step) -> None:
    if step.done is None or step.done % 20 == 0:
        print(step, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
