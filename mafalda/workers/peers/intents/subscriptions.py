"""Intents about a peer's subscriptions."""

from __future__ import annotations

from mafalda.contract.messages import intents
from mafalda.contract.messages.results import SubscribeResult
from mafalda.contract.messages.subscriptions import MAX_SELECTORS, Subscription, change_selection
from mafalda.errors import BadInput, NotFound
from mafalda.workers.core.instructions import Entry
from mafalda.workers.peers.intents.subscribed import close_consumers, keep_rtp_capabilities, look_at_all
from mafalda.workers.peers.session.responses import Outcome, done
from mafalda.workers.peers.session.session import PeerSession


async def subscribe(session: PeerSession, intent: intents.Subscribe, _: Entry) -> Outcome:
    """Let a subscription stand, in place of an earlier one with its id."""
    if intent.rtp_capabilities is not None:
        keep_rtp_capabilities(session, intent.transport, intent.rtp_capabilities)
    return _stand(session, intent.wish())


async def change_subscription(session: PeerSession, intent: intents.ChangeSubscription, _: Entry) -> Outcome:
    """Change what a subscription selects."""
    wish = _find(session, intent.subscription)
    select = change_selection(wish.select, intent.add, intent.remove)
    return _stand(session, wish.model_copy(update={"select": select}))


async def unsubscribe(session: PeerSession, intent: intents.Unsubscribe, _: Entry) -> Outcome:
    """End a subscription, and close its consumers."""
    _find(session, intent.subscription)
    want_no_more(session, session.book.wishes[intent.subscription])
    consumers = session.book.unsubscribe(intent.subscription)
    if not session.book.wishes:
        session.services.subscribers.remove(session)
    await close_consumers(session, consumers)
    return done(session.placement, intent, intent.subscription)


def want_no_more(session: PeerSession, wish: Subscription) -> None:
    """A subscription does not need the room's loudest producers any more, if it did."""
    if wish.loudest is not None:
        session.services.audio_levels.unwant(session.room, wish.loudest)


def _find(session: PeerSession, subscription: str) -> Subscription:
    if found := session.book.wishes.get(subscription):
        return found
    raise NotFound("the peer has no such subscription", subscription=subscription)


def _stand(session: PeerSession, wish: Subscription) -> Outcome:
    """Let a subscription stand.

    Raises:
        BadInput: The peer's subscriptions have too many selectors then.
    """
    others = [it for it in session.book.wishes.values() if it.subscription != wish.subscription]
    if sum(len(it.select) for it in (wish, *others)) + len(others) > MAX_SELECTORS:
        raise BadInput("too many selectors in the peer's subscriptions", limit=MAX_SELECTORS)
    former = session.book.wishes.get(wish.subscription)
    session.book.subscribe(wish)
    session.services.subscribers.add(session)
    if wish.loudest is not None:
        session.services.audio_levels.want(session.room, wish.loudest)
    if former is not None:
        want_no_more(session, former)
    look_at_all(session)
    fields = {name: getattr(wish, name) for name in Subscription.model_fields}
    return Outcome(SubscribeResult(**fields, generation=session.generation))
