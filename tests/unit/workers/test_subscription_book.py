"""Which consumers a peer's subscriptions need, without any worker."""

from __future__ import annotations

import pytest

from mafalda.contract.messages.commands import Explanation, PlacePeer
from mafalda.contract.messages.payload import Place
from mafalda.contract.messages.results import Done, SubscribeResult
from mafalda.contract.messages.subscriptions import ConsumerKind, ProducerSelector, Subscription, change_selection
from mafalda.projection.state import ProducerState, RoomState
from mafalda.testing.media import OPUS_PARAMETERS, VP8_SIMULCAST_PARAMETERS
from mafalda.workers.core.subscriptions import Plan, SubscriptionBook, carried_over

HERE = Place(server="s1", worker="w1")
EVERYTHING = Subscription(subscription="all")


def room(*producers: tuple[str, str, ConsumerKind]) -> RoomState:
    """A room with these producers: peer, id and kind."""
    found = RoomState("lobby")
    for peer, id, kind in producers:
        media = None if kind == "data" else kind
        found.producers[id] = ProducerState(id, peer, "send", HERE, 1, kind == "data", media)
    return found


def planned(
    book: SubscriptionBook, state: RoomState | None, limit: int = 100
) -> tuple[list[str], dict[str, list[str]]]:
    plan: Plan = book.plan(state, limit)
    return [it.producer.producer for it in plan.open], plan.close


@pytest.mark.parametrize(
    ("select", "wanted"),
    [
        ([ProducerSelector()], True),
        ([], False),
        ([ProducerSelector(kind="audio")], True),
        ([ProducerSelector(kind="video")], False),
        ([ProducerSelector(peer="bob"), ProducerSelector(producer="cam")], False),
        ([ProducerSelector(peer="alice", kind="audio")], True),
        ([ProducerSelector(), ProducerSelector(peer="alice", exclude=True)], False),
        ([ProducerSelector(peer="alice", exclude=True), ProducerSelector(producer="mic")], True),
    ],
)
def test_the_last_selector_that_fits_decides(select: list[ProducerSelector], wanted: bool) -> None:
    assert Subscription(subscription="s", select=select).wants("audio", "alice", "mic") is wanted


def test_changes_leave_no_selectors_that_decide_nothing() -> None:
    bob, mic = ProducerSelector(peer="bob"), ProducerSelector(producer="mic")
    without_mic = change_selection([ProducerSelector()], [], [mic])
    assert without_mic == [ProducerSelector(), ProducerSelector(producer="mic", exclude=True)]
    assert change_selection(without_mic, [mic], []) == [ProducerSelector(), mic]
    assert change_selection(without_mic, [ProducerSelector()], []) == [ProducerSelector()]
    assert change_selection([bob, mic], [], [bob]) == [mic, ProducerSelector(peer="bob", exclude=True)]
    assert change_selection([mic], [], [mic]) == []
    assert change_selection([bob], [mic], [mic]) == [bob, mic], "what is added counts"


def test_everything_of_others_is_opened_once() -> None:
    book = SubscriptionBook("me", 1)
    state = room(("alice", "mic", "audio"), ("me", "mine", "audio"), ("alice", "chat", "data"))
    book.subscribe(EVERYTHING)
    book.look_at_all(state)
    assert planned(book, state) == (["mic", "chat"], {})
    assert book.is_settled
    book.opened("c1-1", "all", "mic")
    book.look_at_all(state)
    assert planned(book, state) == (["chat"], {})


def test_a_change_costs_only_what_changes() -> None:
    book = SubscriptionBook("me", 1)
    state = room(*((f"p{number}", f"mic-{number}", "audio") for number in range(50)))
    book.subscribe(EVERYTHING)
    book.look_at("mic-7", "mic-8")
    assert planned(book, state, limit=1) == (["mic-7"], {})
    assert not book.is_settled
    assert planned(book, state, limit=1) == (["mic-8"], {})


def test_what_is_not_wanted_any_more_is_closed_and_what_has_gone_closes_by_itself() -> None:
    book = SubscriptionBook("me", 1)
    state = room(("alice", "mic", "audio"), ("alice", "cam", "video"))
    book.subscribe(EVERYTHING)
    book.opened("c1-1", "all", "mic")
    book.opened("c1-2", "all", "cam")
    book.subscribe(Subscription(subscription="all", select=[ProducerSelector(kind="audio")]))
    book.look_at_all(state)
    assert planned(book, state) == ([], {"all": ["c1-2"]})
    book.look_at("mic", "cam")
    assert planned(book, room()) == ([], {})
    assert planned(book, None) == ([], {})


def test_a_closed_consumer_is_opened_again_while_it_is_wanted() -> None:
    book = SubscriptionBook("me", 1)
    state = room(("alice", "mic", "audio"))
    book.subscribe(EVERYTHING)
    book.opened("c1-1", "all", "mic")
    book.closed("c1-1")
    book.look_at("mic")
    assert planned(book, state) == (["mic"], {})
    book.opened("c1-2", "all", "mic")
    assert book.unsubscribe("all") == ["c1-2"]
    book.look_at("mic")
    assert planned(book, state) == ([], {})


def test_a_refused_one_is_tried_when_its_producer_is_opened_again() -> None:
    book = SubscriptionBook("me", 1)
    state = room(("alice", "cam", "video"))
    book.subscribe(EVERYTHING)
    book.refuse("all", "cam")
    book.look_at_all(state)
    assert planned(book, state) == ([], {})
    book.opened_again("cam")
    assert planned(book, state) == (["cam"], {})


def test_a_refused_one_is_tried_when_the_client_can_receive_something_else() -> None:
    book = SubscriptionBook("me", 1)
    state = room(("alice", "cam", "video"))
    book.subscribe(EVERYTHING)
    book.refuse("all", "cam")
    book.forget_refusals()
    book.look_at_all(state)
    assert planned(book, state) == (["cam"], {})


def test_a_failure_is_told_once_until_the_consumer_is_made() -> None:
    book = SubscriptionBook("me", 1)
    book.subscribe(EVERYTHING)
    assert [book.fail("all", "cam"), book.fail("all", "cam")] == [True, False]
    book.opened("c1-1", "all", "cam")
    assert book.fail("all", "cam")
    book.opened_again("cam")
    assert book.fail("all", "cam")


def test_each_subscription_is_told_each_format_once() -> None:
    book = SubscriptionBook("me", 1)
    book.subscribe(EVERYTHING)
    assert [book.format_of(it) for it in (OPUS_PARAMETERS, VP8_SIMULCAST_PARAMETERS, OPUS_PARAMETERS)] == [0, 1, 0]
    assert [it.format for it in book.take_new_formats("all")] == [0, 1]
    assert book.take_new_formats("all") == []
    assert [it.format for it in book.take_new_formats("other")] == [0, 1]


def test_ids_are_new_at_each_place() -> None:
    first, second = SubscriptionBook("me", 1), SubscriptionBook("me", 2)
    assert (first.new_id(), first.new_id(taken={"c1-2"}), second.new_id()) == ("c1-1", "c1-3", "c2-1")


def test_what_the_former_place_answered_after_the_decision_goes_along() -> None:
    command = PlacePeer(
        room="lobby",
        peer="me",
        server="s1",
        worker="w1",
        generation=2,
        cause="drain",
        join="j",
        subscriptions=[EVERYTHING, Subscription(subscription="ended")],
        subscriptions_seq=7,
        explanation=Explanation(policy="test", summary="the test says so"),
    )
    later = [
        SubscribeResult(subscription="new", generation=1),
        SubscribeResult(subscription="all", select=[], generation=1),
        Done(intent="unsubscribe", target="ended", generation=1),
        Done(intent="close-consumer", target="all", generation=1),
    ]
    assert carried_over(command, later) == [
        Subscription(subscription="all", select=[]),
        Subscription(subscription="new"),
    ]
