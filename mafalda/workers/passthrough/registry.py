"""What the guests of one agent share: the way back to their applications, WebRtcServers, signs of life.

What does not belong here: what a guest asks (``calls``, ``reading``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import Any

import psutil
import structlog

from mafalda.aio.tasks import TaskScope
from mafalda.bus.compose import compose
from mafalda.bus.protocol import Bus
from mafalda.contract.messages.channel_calls import ChannelNotice
from mafalda.contract.messages.notices import ChannelNotices
from mafalda.errors import BusUnavailable, DeadlineExceeded, MafaldaError
from mafalda.mediasoup.codec.channel_json import to_json
from mafalda.workers.config import AgentConfig
from mafalda.workers.log.batcher import NoticeBatcher
from mafalda.workers.passthrough.webrtc_servers import Listeners
from mafalda.workers.peers.peer import PeerActor
from mafalda.workers.relays.sideband import RelaySideband
from mafalda.workers.supervision.supervisor import Supervisor

#: Between two questions whether an application is there, and how long it may take to answer, in seconds.
ASK_EVERY_S, ANSWER_WITHIN_S = 3.0, 3.0
#: An application that did not answer so often is gone.
SILENCES = 4
log = structlog.get_logger("mafalda.workers")


class Guests:
    """One incarnation's."""

    def __init__(
        self, bus: Bus, config: AgentConfig, tasks: TaskScope, supervisor: Supervisor, sideband: RelaySideband
    ) -> None:
        self.bus = bus
        self.config = config
        self.tasks = tasks
        self.sideband = sideband
        self.listeners = Listeners(supervisor)
        self._source = f"/mafalda/agent/{config.server}"
        self._outboxes: dict[str, NoticeBatcher] = {}
        self._silences: dict[str, int] = {}

    def own_addresses(self) -> Collection[str]:
        """This server's addresses, of every interface."""
        return {address.address for found in psutil.net_if_addrs().values() for address in found}

    # --- to the application ---------------------------------------------------------------------------

    def tell(self, inbox: str, event: str, handler: str, body: dict[str, Any]) -> None:
        """Tell an application of one of its objects; in order, and after whatever it was answered before."""
        outbox = self._outboxes.get(inbox)
        if outbox is None:
            self._outboxes = {known: it for known, it in self._outboxes.items() if not it.is_empty}
            outbox = self._outboxes[inbox] = NoticeBatcher(self.tasks, inbox, lambda items: self._publish(inbox, items))
        outbox.put(ChannelNotice(event=event, handler=handler, body=to_json(body) or None))

    async def _publish(self, inbox: str, items: list[ChannelNotice]) -> None:
        await self.bus.publish(inbox, compose(ChannelNotices(items=items), subject=inbox, source=self._source))

    # --- is it still there ----------------------------------------------------------------------------

    async def look_after(
        self, actors: Callable[[], Iterable[PeerActor]], inbox_of: Callable[[PeerActor], str | None]
    ) -> None:
        """Ask each application now and then whether it is there; let its peers go when it is not. For ever."""
        while True:
            await asyncio.sleep(ASK_EVERY_S)
            homes: dict[str, list[PeerActor]] = {}
            for actor in actors():
                if (inbox := inbox_of(actor)) and not actor.is_over:
                    homes.setdefault(inbox, []).append(actor)
            self._silences = {inbox: self._silences.get(inbox, 0) for inbox in homes}
            await asyncio.gather(*(self._ask(inbox, of) for inbox, of in homes.items()))

    async def _ask(self, inbox: str, actors: list[PeerActor]) -> None:
        question = compose(ChannelNotices(items=[]), subject=inbox, source=self._source)
        try:
            await self.bus.request(inbox, question, timeout_s=ANSWER_WITHIN_S)
            self._silences[inbox] = 0
            return
        except DeadlineExceeded:
            pass
        except MafaldaError as error:  # it answers, whatever it says; or it is us who hear nothing
            log.debug("application answers oddly", action="guest_odd", reason=str(error))
            return
        try:
            await self.bus.last_seq()
        except BusUnavailable:
            return
        self._silences[inbox] = self._silences.get(inbox, 0) + 1
        if self._silences[inbox] >= SILENCES:
            for actor in actors:
                actor.leave("the application is gone")
