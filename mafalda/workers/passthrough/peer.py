"""A passthrough peer: the part of a peer's session that serves an application which speaks the worker's channel."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from mafalda.aio.tasks import TaskScope, cancel_and_wait
from mafalda.bus.protocol import Bus, Delivery
from mafalda.contract import subjects
from mafalda.contract.messages.channel_calls import ChannelNotice
from mafalda.contract.messages.notices import ChannelNotices
from mafalda.contract.reading import read_message
from mafalda.errors import BadInput, MafaldaError
from mafalda.mediasoup import Consumer, DataProducer, Producer
from mafalda.mediasoup.base.entity import Entity
from mafalda.mediasoup.codec.channel_json import from_json
from mafalda.mediasoup.transports.direct_transport import DirectTransport
from mafalda.workers.passthrough.application import ApplicationNotices
from mafalda.workers.passthrough.bodies import with_public_ids
from mafalda.workers.passthrough.webrtc_servers import SharedWebRtcServers
from mafalda.workers.peers.intents.relay_demand import withdraw_demand
from mafalda.workers.peers.session.session import PeerSession
from mafalda.workers.relays.direct_data import SEND, send
from mafalda.workers.relays.scores import OriginScores
from mafalda.workers.relays.sideband import RelaySideband

#: Notifications that an application may send to its objects, besides ``SEND``, and the kind of object for each.
_ACCEPTED = {"TRANSPORT_SEND_RTCP": DirectTransport, "PRODUCER_SEND": Producer}
_SCORE = "CONSUMER_SCORE"
log = structlog.get_logger("mafalda.workers")


class PassthroughPeer:
    """The inbox, the notices and the WebRtcServers of one peer session. Closed with the session's objects.

    Args:
        session: The peer's session.
        bus: Where the application publishes notices for its objects.
        tasks: Where those are read.
        notices: Publishes to the application.
        webrtc_servers: Those of all applications.
        sideband: Carries what a pipe between workers cannot.
    """

    def __init__(
        self,
        session: PeerSession,
        bus: Bus,
        tasks: TaskScope,
        notices: ApplicationNotices,
        webrtc_servers: SharedWebRtcServers,
        sideband: RelaySideband,
    ) -> None:
        self.session = session
        self.webrtc_servers = webrtc_servers
        self.inbox: str | None = None
        self.webrtc_server: str | None = None  # id of the WebRtcServer that this peer stands for
        self.leased: dict[str, str] = {}  # ids of transports, and of the WebRtcServer that each one uses
        self._bus = bus
        self._tasks = tasks
        self._notices = notices
        self._sideband = sideband
        self._reading: asyncio.Task[None] | None = None
        session.objects.on_close(self.close)

    # --- from the worker to the application ---------------------------------------------------------

    def forward_notifications(self, entity: Entity, *, but: str = "") -> None:
        """Publish every notification of an object to the application, except one event."""

        def forward(event: str, body: dict[str, Any]) -> None:
            if event != but:
                self._send(event, entity.id, with_public_ids(self.session, body))

        entity.intercept_notifications(forward)

    def forward_relayed_consumer(self, consumer: Consumer, scores: OriginScores) -> None:
        """As ``forward_notifications``, for a consumer of a relay: with its producer's score at the origin."""

        def send_score() -> None:
            self._send(_SCORE, consumer.id, {"score": scores.shown(consumer).to_json_dict()})

        self.forward_notifications(consumer, but=_SCORE)
        consumer.on(consumer.SCORE, lambda _: send_score())
        scores.watch(consumer, send_score)

    def _send(self, event: str, handler: str, body: dict[str, Any]) -> None:
        if self.inbox is not None:
            self._notices.send(self.inbox, event, handler, body)

    # --- from the application to the worker ---------------------------------------------------------

    async def subscribe_notices(self) -> None:
        """Pass on, from now on, the notifications that the application publishes for its objects.

        Raises:
            MafaldaError: The subscription failed.
        """
        if self._reading is not None:
            return
        subscribed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reading = self._tasks.spawn(self._read_notices(subscribed), f"notices of {self.session.peer}")
        await subscribed

    async def _read_notices(self, subscribed: asyncio.Future[None]) -> None:
        subject = subjects.notice(self.session.room, self.session.peer, ChannelNotices.action)
        try:
            async with self._bus.listen(subject) as deliveries:
                subscribed.set_result(None)
                async for delivery in deliveries:
                    self._pass_on_all(delivery)
        except MafaldaError as error:
            if subscribed.done():
                raise
            self._reading = None
            subscribed.set_exception(error)

    def _pass_on_all(self, delivery: Delivery) -> None:
        try:
            _, message = read_message(delivery.subject, delivery.data)
        except BadInput as error:
            self._log_refused(error)
            return
        for notice in message.data.items if isinstance(message.data, ChannelNotices) else ():
            try:
                self._pass_on(notice)
            except MafaldaError as error:
                self._log_refused(error)

    def _pass_on(self, notice: ChannelNotice) -> None:
        session, entity = self.session, self.session.objects.find(notice.handler)
        if notice.event == SEND and isinstance(entity, DataProducer):
            send(self._sideband, session.room, session.place.worker, entity, notice)
        elif entity is not None and isinstance(entity, _ACCEPTED.get(notice.event, ())):
            session.live.worker.notify(notice.event, entity.channel_id, from_json(notice.body))

    def _log_refused(self, error: MafaldaError) -> None:
        log.warning("notice refused", action="notice_refused", peer_id=self.session.peer, reason=str(error))

    # --- the end --------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Withdraw the demand for observed producers, release WebRtcServers, read no more notices."""
        observed = self.session.objects.observed
        for consumer in list(observed):
            withdraw_demand(self.session, observed.pop(consumer).producer, consumer)
        worker = self.session.place.worker
        for transport, server in list(self.leased.items()):
            del self.leased[transport]
            await self.webrtc_servers.release(server, worker, transport)
        if self.webrtc_server is not None:
            server, self.webrtc_server = self.webrtc_server, None
            await self.webrtc_servers.close(server, owner=self)
        if self._reading is not None:
            await cancel_and_wait(self._reading)
