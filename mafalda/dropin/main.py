"""``mafalda-worker``: what a mediasoup library spawns as its worker.

Before the rest is loaded, settings are read, the library gets the notification that its worker runs, and NATS is looked
for.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

from mafalda.dropin.process.config_file import WrongConfig, read_config
from mafalda.dropin.process.settings import (
    EXIT_SETTINGS,
    EXIT_VERSION,
    LOG_LEVELS,
    WrongSettings,
    read_fleet_timeout,
    read_on_drain,
    read_on_worker_death,
    read_places_ahead,
    read_settings,
    read_tenant,
    read_transports_per_peer,
)
from mafalda.dropin.process.startup import READ_FD, WRITE_FD, log_frame, running_frame, write_frame
from mafalda.mediasoup.versions.choose import CannotServe, choose

EXIT_NO_FLEET = 1
_IGNORED = (signal.SIGPIPE, signal.SIGHUP, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2)


def main() -> None:
    """The console script."""
    code = run()
    with contextlib.suppress(OSError):  # the library may be gone
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def run() -> int:
    """Run the worker until its end; the exit code."""
    if "MEDIASOUP_VERSION" not in os.environ:
        print("you don't seem to be my real father!", file=sys.stderr)
        return EXIT_VERSION
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))  # nothing is there yet that could be closed
    try:
        os.environ.update(read_config(sys.argv[0], os.environ))
        settings = read_settings(sys.argv[1:])
        settings.on_worker_death = read_on_worker_death(os.environ)
        settings.on_drain = read_on_drain(os.environ)
        settings.transports_per_peer = read_transports_per_peer(os.environ)
        settings.places_ahead = read_places_ahead(os.environ)
        settings.tenant = read_tenant(os.environ)
        settings.fleet_timeout_s = read_fleet_timeout(os.environ)
        choice = choose(os.environ.get("MAFALDA_MEDIASOUP_VERSION") or os.environ["MEDIASOUP_VERSION"], os.getcwd())
    except (WrongSettings, WrongConfig) as error:
        print(f"settings error: {error}", file=sys.stderr)
        return EXIT_SETTINGS
    except CannotServe as error:
        return _end(str(error), EXIT_VERSION)
    settings.library_version = "" if choice.is_ours else choice.version
    try:
        # Before NATS is looked for: some libraries wait for no more than a second.
        write_frame(running_frame(os.getpid(), choice.running))
        if choice.warning and LOG_LEVELS[settings.log_level] >= LOG_LEVELS["warn"]:
            write_frame(log_frame(f"Wmafalda-worker: {choice.warning}"))
    except OSError as error:
        print(f"the channel is broken: {error}", file=sys.stderr)
        return EXIT_NO_FLEET
    # Only now, since these load what takes as long as all before.
    from mafalda.dropin.process.reach import REACH_TIMEOUT_S, fleet_urls, is_reachable

    urls = fleet_urls(os.environ)
    if not is_reachable(urls, settings.fleet_timeout_s or REACH_TIMEOUT_S):
        return _end(f"no fleet at {_without_secrets(urls)} (MAFALDA_NATS_URL)", EXIT_NO_FLEET)
    if os.environ.get("MAFALDA_WORKER_FORKSERVER", "1") != "0":
        from mafalda.dropin import forkserver

        control = forkserver.hand_over(settings, (READ_FD, WRITE_FD, 2))
        if control is not None:
            os.close(READ_FD)
            os.close(WRITE_FD)
            return forkserver.await_child(control)
    # structlog would load rich for tracebacks on terminals, which costs as much as everything else together.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
    from mafalda.dropin.lifecycle import serve

    return serve(settings)


def _end(sentence: str, code: int) -> int:
    """Say why, to the library's log and on standard error; the exit code."""
    print(f"mafalda-worker: {sentence}", file=sys.stderr)
    with contextlib.suppress(OSError):  # the library may be gone
        write_frame(log_frame(f"Emafalda-worker: {sentence}"))
    return code


def _without_secrets(urls: list[str]) -> str:
    return ", ".join(url.rpartition("@")[2] for url in urls)
