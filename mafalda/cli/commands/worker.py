"""``mafalda worker``: install the mediasoup-worker, and print its path.

Progress goes to standard error and the result to standard output, so that scripts can use it.
"""

from __future__ import annotations

import json
import sys
from typing import NoReturn

import click

from mafalda.mediasoup.install import (
    WORKER_VERSION,
    Found,
    Installed,
    Step,
    WorkerInstallError,
    find_worker,
    install_worker,
)

_ORIGINS = {
    "environment": "named by MEDIASOUP_WORKER_BIN",
    "cache": "from the cache",
    "npm": "from a mediasoup in node_modules",
    "built": "built just now",
}
_COUNTER_LINES = 20
_WIDTH = 100


@click.group()
def worker() -> None:
    """Install or find the mediasoup-worker that agents run."""


@worker.command()
@click.option("--force", is_flag=True, help="Build again, even if a worker is installed.")
@click.option("--sanitize", is_flag=True, help="One with sanitizers instead, for tests: see docs/worker.md.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def install(force: bool, sanitize: bool, as_json: bool, quiet: bool) -> None:
    """Find a mediasoup-worker, or build, test and cache one.

    A build takes five to six minutes on two cores; a worker in the cache takes milliseconds.
    """
    try:
        if force or sanitize or find_worker() is None:
            _log_to_stderr()
        progress = _quiet if quiet else InstallProgress(sys.stderr.isatty())
        installed = install_worker(progress, force=force, sanitize=sanitize)
    except WorkerInstallError as error:
        _fail(error, as_json)
    click.echo(json.dumps(installed.to_json()) if as_json else _sentence(installed))


@worker.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def path(as_json: bool) -> None:
    """Print the path of the worker that agents run. Exit code 1: none."""
    try:
        found = find_worker()
    except WorkerInstallError as error:
        _fail(error, as_json)
    if found is None:
        _fail(WorkerInstallError("no mediasoup-worker yet. Run: mafalda worker install"), as_json)
    click.echo(_described(found) if as_json else str(found.path))


def _log_to_stderr() -> None:
    """Log to standard error: the self-test logs, and standard output is for the result."""
    import structlog

    if not structlog.is_configured():
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))


def _described(found: Found) -> str:
    return json.dumps({"path": str(found.path), "origin": found.origin, "version": WORKER_VERSION})


def _sentence(installed: Installed) -> str:
    sentence = f"{installed.path}\nmediasoup-worker {installed.version}, {_ORIGINS[installed.origin]}"
    return f"{sentence} in {installed.took_s:.0f} s" if installed.origin == "built" else sentence


def _fail(error: WorkerInstallError, as_json: bool) -> NoReturn:
    if as_json:
        details = {key: value for key, value in error.details.items() if value is not None}
        click.echo(json.dumps({"error": {"code": error.code, "message": error.reason, "details": details}}))
    click.echo(f"mafalda worker: {error}", err=True)
    sys.exit(1)


def _quiet(_: Step) -> None:
    """Show nothing."""


class InstallProgress:
    """Prints progress to standard error: one updated line on a terminal, about twenty lines elsewhere."""

    def __init__(self, terminal: bool) -> None:
        self._terminal = terminal
        self._counting = False
        self._shown = -1

    def __call__(self, step: Step) -> None:
        if step.total is None or step.done is None:
            self._line(str(step))
        elif self._terminal:
            click.echo(f"\r{str(step)[:_WIDTH]:<{_WIDTH}}", nl=False, err=True)
            self._counting = True
        elif (share := step.done * _COUNTER_LINES // step.total) != self._shown:
            self._shown = share
            self._line(str(step))

    def _line(self, text: str) -> None:
        if self._counting:
            click.echo(err=True)
            self._counting = False
        click.echo(text, err=True)
