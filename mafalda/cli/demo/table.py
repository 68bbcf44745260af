"""The live table of the demo: the peers, their workers, the media they send and receive, and the relays."""

from __future__ import annotations

from collections import deque

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mafalda.cli.commands.ls import bitrate
from mafalda.cli.demo.peers import DemoPeer
from mafalda.projection.state import RoomState, State


def picture(state: State, room_id: str, peers: list[DemoPeer], notes: deque[str]) -> RenderableType:
    """Render the whole screen."""
    room = state.rooms.get(room_id)
    title = Text(f"room {room_id}, log sequence {state.seq}. Ctrl-C ends it; kill -9 a worker to see it heal.", "bold")
    parts: list[RenderableType] = [title, Text(), _peers(state, peers), Text(), _relays(room)]
    return Group(*parts, *(Text(note, "yellow") for note in notes))


def _peers(state: State, peers: list[DemoPeer]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in (
        "peer",
        "worker",
        "pid",
        "join",
        "first frame",
        "sent",
        "received",
        "decoded",
        "wrong",
        "tone",
        "flow",
    ):
        table.add_column(column, justify="left" if column in ("peer", "worker") else "right", no_wrap=True)
    for peer in peers:
        server = state.servers.get(peer.room.server)
        worker = server.workers.get(peer.room.worker) if server else None
        report = peer.probe.report if peer.probe else None
        table.add_row(
            peer.room.peer,
            peer.room.worker if peer.room.connected else f"{peer.room.worker} (gone)",
            str(worker.pid) if worker else "-",
            f"{peer.join_s * 1000:.0f} ms",
            f"{peer.first_frame_s * 1000:.0f} ms" if peer.first_frame_s else "-",
            str(peer.video.frames) if peer.video else "-",
            f"{peer.packets} packets" if report else "-",
            str(report.frames_decoded) if report else "-",
            str(report.frames_wrong) if report else "-",
            f"{report.tone_hz:.0f} Hz" if report and report.tone_hz else "-",
            bitrate(peer.bitrate_bps) if report else "-",
        )
    return table


def _relays(room: RoomState | None) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("relayed producer", "from", "to", "status"):
        table.add_column(column)
    for relay in room.relays.values() if room else ():
        table.add_row(relay.producer, relay.source.worker, relay.target.worker, relay.status)
    return table
