"""Read the log for a command, with what was archived of it if an archive is given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mafalda.bus.protocol import Bus, Delivery
from mafalda.cli.connecting import open_bus
from mafalda.contract.permissions import FleetRole
from mafalda.errors import LogTruncated
from mafalda.monitor.records import Record, record
from mafalda.monitor.replay import snapshot_before
from mafalda.projection.state import State

if TYPE_CHECKING:
    from mafalda.archive.store import Archive


@dataclass(frozen=True, slots=True)
class History:
    """The archive and the log as one."""

    bus: Bus
    archive: Archive | None

    async def first_seq(self) -> int:
        """The first log sequence that may be read; what the archive begins with is not looked up."""
        return (await self.bus.log_usage()).first_seq if self.archive is None else 1

    async def state_before(self, *, seq: int | None, at: datetime | None) -> State:
        """The latest known state that is not later than a sequence or a time: a snapshot's, or the archive's."""
        if state := await snapshot_before(self.bus, seq=seq, at=at):
            return state
        if self.archive is None:
            return State()
        from mafalda.archive.history import state_before

        return await asyncio.to_thread(state_before, self.archive, seq=seq, at=at)

    async def read(
        self,
        *patterns: str,
        after_seq: int = 0,
        up_to_seq: int | None = None,
        since: datetime | None = None,
        whole: bool = False,
    ) -> AsyncIterator[Record]:
        """Records in log order. Arguments and errors as in ``mafalda.archive.history.read_history``.

        With ``whole`` every entry is needed: it is an error if the log begins later, and no archive has the rest.

        Raises:
            LogTruncated: The log begins later, and there is no archive.
        """
        if self.archive is None:
            if whole and after_seq < (first_seq := (await self.bus.log_usage()).first_seq) - 1:
                raise LogTruncated("the log begins later: what is older needs --archive", first_seq=first_seq)
            entries: AsyncIterator[Delivery] = self.bus.read(*patterns, after_seq=after_seq, up_to_seq=up_to_seq)
        else:
            from mafalda.archive.history import read_history

            entries = read_history(
                self.bus, self.archive, *patterns, after_seq=after_seq, up_to_seq=up_to_seq, since=since
            )
        async for delivery in entries:
            yield record(delivery)


@asynccontextmanager
async def open_history(
    nats_url: str | None,
    store: Path | None,
    archive: str | None,
    *,
    stored: bool = True,
    role: FleetRole = "operator",
) -> AsyncIterator[History]:
    """Connect a command that reads the past.

    Args:
        nats_url: URLs of NATS, as in ``open_bus``.
        store: The store folder of an embedded nats-server, as in ``open_bus``.
        archive: The archive's folder or URL; ``None``: the log alone.
        stored: Whether a stopped fleet's log may be used, as in ``open_bus``; not by what runs for long.
        role: As in ``open_bus``.

    Raises:
        BusUnavailable: NATS cannot be reached.
        BadInput: It is not the address of an archive.
    """
    opened = _open_archive(archive) if archive else None
    async with open_bus(nats_url, store=store, stored=stored, role=role) as bus:
        yield History(bus, opened)


def _open_archive(url: str) -> Archive:
    # Arrow takes 0.2 s to import, and is an extra of its own.
    try:
        from mafalda.archive.store import open_archive
    except ImportError as error:
        raise click.UsageError(f"reading an archive needs {error.name}: pip install 'mafalda[archive]'") from None
    return open_archive(url)
