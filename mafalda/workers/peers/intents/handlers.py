"""The handler of each kind of intent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from mafalda.contract import subjects
from mafalda.contract.messages import intents
from mafalda.contract.messages.events import PeerDemoted, PeerLeft, PeerUpdated
from mafalda.contract.messages.payload import Payload
from mafalda.contract.subjects import check_reply
from mafalda.errors import StaleGeneration
from mafalda.workers.core.instructions import Entry
from mafalda.workers.peers.intents import consumers, producers, subscriptions, transports
from mafalda.workers.peers.intents.consume import consume, consume_data
from mafalda.workers.peers.intents.withdrawal import apply_grants
from mafalda.workers.peers.session.responses import Outcome, done
from mafalda.workers.peers.session.session import PeerSession


async def handle_intent(session: PeerSession, entry: Entry) -> Outcome | None:
    """Do one intent; ``None`` if it is answered later.

    Raises:
        MafaldaError: The intent cannot be done; its code is the reason that the client gets.
    """
    if entry.reply is not None:
        check_reply(entry.reply)
    handler = _HANDLERS[type(entry.message.data)]
    return await handler(session, entry.message.data, entry)


async def _leave(session: PeerSession, intent: intents.Leave, entry: Entry) -> Outcome:
    """End the membership.

    Raises:
        StaleGeneration: The intent has a result already: it ended an earlier membership, and was stored again.
    """
    leaves = await session.services.log_reader.past_of_peer(
        subjects.result(session.room, session.peer, intent.action), after_seq=0
    )
    if any(result.message.causationid == entry.message.id for result in leaves):
        raise StaleGeneration("this leave has ended an earlier membership", generation=session.generation)
    outcome = done(session.placement, intent, None)
    outcome.events = producers.producers_closed(session, None, "peer-left")
    outcome.events.append(PeerLeft(peer=session.peer, generation=session.generation, cause=intent.cause))
    session.remove_peer()
    return outcome


async def _set_audience(session: PeerSession, intent: intents.SetAudience, _: Entry) -> Outcome:
    """Make the peer one of the audience, or announce it to the room."""
    outcome = done(session.placement, intent, None)
    if intent.audience == session.responder.audience:
        return outcome
    if intent.audience:
        outcome.events = await producers.close_all(session)
        outcome.events.append(PeerDemoted(peer=session.peer, generation=session.generation))
    session.responder.audience = intent.audience
    if not intent.audience:
        session.promoted = True  # NATS lets nobody do that for itself whose token is for the audience only
        outcome.events.append(session.joined_event())
    return outcome


async def _set_app_data(session: PeerSession, intent: intents.SetAppData, _: Entry) -> Outcome:
    """Replace the peer's application data, and tell the room."""
    session.app_data = intent.app_data
    outcome = done(session.placement, intent, None)
    outcome.events.append(PeerUpdated(peer=session.peer, generation=session.generation, app_data=intent.app_data))
    return outcome


_HANDLERS: dict[type[Payload], Callable[[PeerSession, Any, Entry], Awaitable[Outcome | None]]] = {
    intents.Leave: _leave,
    intents.SetAudience: _set_audience,
    intents.SetAppData: _set_app_data,
    intents.ApplyGrants: apply_grants,
    intents.CreateTransport: transports.create_transport,
    intents.ConnectTransport: transports.connect_transport,
    intents.RestartIce: transports.restart_ice,
    intents.CloseTransport: transports.close_transport,
    intents.Produce: producers.produce,
    intents.ProduceData: producers.produce_data,
    intents.Consume: consume,
    intents.ConsumeData: consume_data,
    intents.PauseProducer: producers.pause_producer,
    intents.ResumeProducer: producers.resume_producer,
    intents.CloseProducer: producers.close_producer,
    intents.CloseDataProducer: producers.close_data_producer,
    intents.PauseConsumer: consumers.pause_consumer,
    intents.ResumeConsumer: consumers.resume_consumer,
    intents.CloseConsumer: consumers.close_consumer,
    intents.CloseDataConsumer: consumers.close_data_consumer,
    intents.SetPreferredLayers: consumers.set_preferred_layers,
    intents.SetPriority: consumers.set_priority,
    intents.RequestKeyFrame: consumers.request_key_frame,
    intents.Subscribe: subscriptions.subscribe,
    intents.ChangeSubscription: subscriptions.change_subscription,
    intents.Unsubscribe: subscriptions.unsubscribe,
}
