"""Read the log for a command, with what was archived of it if an archive is given."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mafalda.bus.protocol import Bus
from mafalda.cli.connecting import open_bus
from mafalda.monitor.records import Record, record

if TYPE_CHECKING:
    from mafalda.archive.store import Archive


@dataclass(frozen=True, slots=True)
class History:
    """The archive and the log as one."""

    bus: Bus
    archive: Archive | None

    async def read(
        self, *patterns: str, after_seq: int = 0, up_to_seq: int | None = None, since: datetime | None = None
    ) -> AsyncIterator[Record]:
        """Records in log order. Arguments and errors as in ``mafalda.archive.history.read_history``."""
        if self.archive is None:
            entries = self.bus.read(*patterns, after_seq=after_seq, up_to_seq=up_to_seq)
        else:
            from mafalda.archive.history import read_history

            entries = read_history(
                self.bus, self.archive, *patterns, after_seq=after_seq, up_to_seq=up_to_seq, since=since
            )
        async for delivery in entries:
            yield record(delivery)


@asynccontextmanager
async def open_history(nats_url: str | None, store: Path | None, archive: str | None) -> AsyncIterator[History]:
    """Connect a command that reads the past.

    Args:
        nats_url: URLs of NATS, as in ``open_bus``.
        store: The store folder of an embedded nats-server, as in ``open_bus``.
        archive: The archive's folder or URL; ``None``: the log alone.

    Raises:
        BusUnavailable: NATS cannot be reached.
        BadInput: It is not the address of an archive.
    """
    opened = _open_archive(archive) if archive else None
    async with open_bus(nats_url, store=store) as bus:
        yield History(bus, opened)


def _open_archive(url: str) -> Archive:
    # Arrow takes 0.2 s to import, and is an extra of its own.
    try:
        from mafalda.archive.store import open_archive
    except ImportError as error:
        raise click.UsageError(f"reading an archive needs {error.name}: pip install 'mafalda[archive]'") from None
    return open_archive(url)
