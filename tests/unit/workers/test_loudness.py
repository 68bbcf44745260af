"""Who is loudest, with hysteresis; and which consumers flow then."""

from __future__ import annotations

from mafalda.contract.messages.subscriptions import ProducerSelector, Subscription
from mafalda.workers.core.loudness import HOLD_S, RoomLoudness
from mafalda.workers.core.subscriptions import MUTED_FOR_EACH_LOUD, Plan, SubscriptionBook
from tests.unit.workers.test_subscription_book import room

LOUD, NORMAL, QUIET, NOTHING = -20, -35, -50, -127


def measured(ranking: RoomLoudness, levels: dict[str, int], *, at: float, times: int = 10) -> None:
    for number in range(times):
        ranking.measure(levels, at + number * 0.3)


def test_nobody_is_loud_in_silence() -> None:
    ranking = RoomLoudness()
    assert ranking.loudest(2) == frozenset()
    measured(ranking, {"ana": NOTHING, "bob": -80}, at=0)
    assert ranking.loudest(2) == frozenset()


def test_who_speaks_is_in_at_once_while_there_is_room() -> None:
    ranking = RoomLoudness()
    ranking.loudest(2)
    ranking.measure({"ana": NORMAL}, 0)
    ranking.measure({"bob": LOUD}, 0.1)
    assert ranking.loudest(2) == {"ana", "bob"}
    assert ranking.loudest(1) == frozenset(), "it was not asked for before; the next measurement fills it"
    ranking.measure({"bob": LOUD}, 0.4)
    assert ranking.loudest(1) == {"bob"}


def test_a_place_is_taken_only_by_a_louder_one_and_after_a_while() -> None:
    ranking = RoomLoudness()
    ranking.loudest(1)
    measured(ranking, {"ana": NORMAL}, at=0, times=3)
    ranking.measure({"ana": NORMAL, "bob": LOUD}, 1.0)
    ranking.measure({"ana": NORMAL, "bob": LOUD}, HOLD_S - 0.1)
    assert ranking.loudest(1) == {"ana"}, "it has its place for a while"
    ranking.measure({"ana": NORMAL, "bob": LOUD}, HOLD_S + 0.1)
    assert ranking.loudest(1) == {"bob"}
    measured(ranking, {"ana": LOUD + 3, "bob": LOUD}, at=10)
    assert ranking.loudest(1) == {"bob"}, "hardly louder is not louder"


def test_a_short_pause_costs_no_place() -> None:
    ranking = RoomLoudness()
    ranking.loudest(1)
    measured(ranking, {"ana": NORMAL, "bob": QUIET}, at=0)
    ranking.measure({"ana": NOTHING, "bob": QUIET}, 10)
    assert ranking.loudest(1) == {"ana"}
    measured(ranking, {"ana": NOTHING, "bob": QUIET}, at=10.3)
    assert ranking.loudest(1) == {"bob"}


def test_who_is_reported_silent_once_loses_the_place_to_one_that_is_not_louder() -> None:
    ranking = RoomLoudness()
    ranking.loudest(1)
    measured(ranking, {"ana": LOUD}, at=0)
    ranking.measure({"ana": NOTHING}, 10)
    ranking.measure({"bob": QUIET}, 20)
    assert ranking.loudest(1) == {"ana"}, "the first measurement of a rise counts less than the whole of it"
    ranking.measure({"bob": QUIET}, 20.3)
    assert ranking.loudest(1) == {"bob"}


def test_who_leaves_makes_room() -> None:
    ranking = RoomLoudness()
    ranking.loudest(1)
    measured(ranking, {"ana": LOUD, "bob": NORMAL}, at=0)
    ranking.retain({"bob"})
    ranking.measure({"bob": NORMAL}, 5)
    assert ranking.loudest(1) == {"bob"}


def planned(book: SubscriptionBook, *loud: str) -> Plan:
    """What is to be done when these are loud, in a room with Ana, Bob and Carl."""
    state = room(*((peer, f"{peer}-mic", "audio") for peer in ("ana", "bob", "carl")), ("ana", "ana-cam", "video"))
    book.look_at_all(state)
    plan = book.plan(state, 100, lambda _: frozenset(loud))
    for wanted in plan.open:
        book.opened(wanted.producer.producer, wanted.subscription.subscription, wanted.producer.producer)
    for consumers in plan.close.values():
        for consumer in consumers:
            book.closed(consumer)
    return plan


def opened(plan: Plan) -> set[str]:
    return {wanted.producer.producer for wanted in plan.open}


def test_only_the_loudest_flow_and_those_that_were_named_and_everything_else() -> None:
    book = SubscriptionBook("me", 1)
    pinned = [ProducerSelector(), ProducerSelector(producer="carl-mic")]
    book.subscribe(Subscription(subscription="s", select=pinned, loudest=1))
    assert opened(planned(book, "ana-mic")) == {"ana-mic", "ana-cam", "carl-mic"}

    plan = planned(book, "bob-mic")
    assert (opened(plan), plan.mute, plan.unmute) == ({"bob-mic"}, ["ana-mic"], [])
    plan = planned(book, "ana-mic")
    assert (opened(plan), plan.mute, plan.unmute) == (set(), ["bob-mic"], ["ana-mic"])
    assert planned(book, "ana-mic") == Plan()


def test_of_many_that_are_quiet_all_but_a_few_are_closed_once() -> None:
    book = SubscriptionBook("me", 1)
    names = [f"mic-{number:02}" for number in range(60)]
    state = room(*((f"p-{name}", name, "audio") for name in names))
    book.subscribe(Subscription(subscription="s"))
    for name in names:
        book.opened(name, "s", name)
    book.subscribe(Subscription(subscription="s", loudest=2))
    book.look_at_all(state)
    plan = book.plan(state, 100, lambda _: frozenset())
    kept = names[-2 * MUTED_FOR_EACH_LOUD :]
    assert (plan.close, plan.mute) == ({"s": names[: -len(kept)]}, kept)


def test_what_is_loud_again_before_it_closes_flows() -> None:
    book = SubscriptionBook("me", 1)
    book.subscribe(Subscription(subscription="s", loudest=1))
    names = [f"mic-{number}" for number in range(MUTED_FOR_EACH_LOUD + 1)]
    state = room(*((f"p-{name}", name, "audio") for name in names))
    for name in names:
        book.opened(name, "s", name)
    book.look_at(*names[:-1])
    assert book.plan(state, 100).mute == names[:-1]
    book.look_at(names[-1], names[0])
    plan = book.plan(state, 100, lambda _: frozenset(names[:1]))
    assert (plan.close.get("s", []), plan.mute, plan.unmute) == ([], names[-1:], names[:1])


def test_few_muted_ones_are_kept() -> None:
    book = SubscriptionBook("me", 1)
    book.subscribe(Subscription(subscription="s", loudest=1))
    names = [f"mic-{number}" for number in range(MUTED_FOR_EACH_LOUD + 3)]
    state = room(*((f"p-{name}", name, "audio") for name in names))
    closed: list[str] = []
    for name in names:
        book.look_at_all(state)
        plan = book.plan(state, 100, lambda _, loud=name: frozenset((loud,)))  # type: ignore[misc]
        for wanted in plan.open:
            book.opened(wanted.producer.producer, "s", wanted.producer.producer)
        for consumer in plan.close.get("s", ()):
            book.closed(consumer)
            closed.append(consumer)
    assert closed == names[:2]


def test_speakers_are_those_that_are_heard_the_dominant_one_first() -> None:
    ranking = RoomLoudness()
    ranking.loudest(1), ranking.loudest(3)
    assert ranking.speaking(3, 0) == []
    measured(ranking, {"ana": NORMAL, "bob": QUIET, "cem": NOTHING}, at=0)
    assert ranking.speaking(3, 3.0) == ["ana", "bob"]
    measured(ranking, {"ana": NORMAL, "bob": NORMAL + 3}, at=3.1)
    assert ranking.speaking(3, 6) == ["ana", "bob"], "hardly louder is not louder"
    measured(ranking, {"ana": NORMAL, "bob": LOUD}, at=6.2)
    assert ranking.speaking(3, 9) == ["bob", "ana"]
    assert ranking.speaking(1, 9) == ["bob"]


def test_who_falls_silent_speaks_no_more_although_nothing_is_measured_any_more() -> None:
    ranking = RoomLoudness()
    ranking.loudest(1), ranking.loudest(3)
    measured(ranking, {"ana": NORMAL}, at=0)
    ranking.measure({"ana": NOTHING}, 3)
    assert ranking.speaking(3, 3) == ["ana"], "a short pause is bridged"
    assert ranking.speaking(3, 6) == []
