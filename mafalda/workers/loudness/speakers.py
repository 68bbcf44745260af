"""Who speaks in a room: sent to the inboxes of those who asked, when it changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mafalda.aio.tasks import TaskScope
from mafalda.contract.messages.queries import Speaker, Speakers
from mafalda.projection.state import RoomState
from mafalda.workers.log.publisher import Publisher
from mafalda.workers.loudness.levels import AudioLevelExchange

#: How often a change is looked for, and for how long an inbox is sent changes without asking again, in seconds.
INTERVAL_S, LEASE_S = 0.3, 60.0
#: So many speakers are named.
MAX_SPEAKERS = 8


class RoomSpeakers:
    """The speakers of the rooms whose peers here ask for them.

    Args:
        levels: Ranks the producers of these rooms.
        tasks: Runs what takes time.
        publisher: Sends to inboxes.
        room: The fold of a room.
    """

    def __init__(
        self,
        levels: AudioLevelExchange,
        tasks: TaskScope,
        publisher: Publisher,
        *,
        room: Callable[[str], RoomState | None],
    ) -> None:
        self._levels = levels
        self._tasks = tasks
        self._publisher = publisher
        self._room = room
        self._leases: dict[str, dict[str, float]] = {}  # of each room: until when, by inbox
        self._told: dict[str, list[Speaker]] = {}

    def listen(self, room: str, inbox: str) -> Speakers:
        """Send changes to an inbox for a while; returns who speaks now."""
        if room not in self._leases:
            self._leases[room], self._told[room] = {}, []
            self._levels.want(room, MAX_SPEAKERS)
            self._levels.want(room, 1)  # the dominant one
        self._leases[room][inbox] = asyncio.get_running_loop().time() + LEASE_S
        return Speakers(room=room, speakers=self._told[room])

    async def run(self) -> None:
        """Send changes, until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            for room in list(self._leases):
                self._update(room)

    def _update(self, room: str) -> None:
        now = asyncio.get_running_loop().time()
        leases = {inbox: until for inbox, until in self._leases[room].items() if until > now}
        if not leases:
            del self._leases[room], self._told[room]
            self._levels.unwant(room, MAX_SPEAKERS)
            self._levels.unwant(room, 1)
            return
        self._leases[room] = leases
        state = self._room(room)
        producers = state.producers if state else {}
        speakers = [
            Speaker(peer=producers[id].peer, producer=id)
            for id in self._levels.speaking(room, MAX_SPEAKERS)
            if id in producers and not producers[id].paused
        ]
        if speakers != self._told[room]:
            self._told[room] = speakers
            told = Speakers(room=room, speakers=speakers)
            for inbox in leases:
                self._tasks.spawn(self._publisher.publish(told, inbox), f"speakers of {room}")
