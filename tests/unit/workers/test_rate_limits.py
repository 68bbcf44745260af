"""Token buckets of a peer's intents and queries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mafalda.contract.limits import PeerLimits
from mafalda.errors import RateLimited
from mafalda.workers.core.rate_limits import MAX_REFUSED, IntentRate, IntentRates, QueryRates, RoomRates


def sent(rate: IntentRate, count: int, now: float, size_bytes: int = 100) -> int:
    """How many of ``count`` intents at one moment are done."""
    done = 0
    for _ in range(count):
        try:
            rate.take(size_bytes, now)
            done += 1
        except RateLimited:
            pass
    return done


@given(st.lists(st.floats(0, 5), min_size=1, max_size=100), st.floats(0.5, 50), st.floats(0.1, 5))
def test_never_more_than_the_burst_and_the_rate_allow(gaps_s: list[float], per_s: float, burst_s: float) -> None:
    rate, now, done = IntentRate(PeerLimits(messages_per_s=per_s), burst_s, 0.0), 0.0, 0
    for gap_s in gaps_s:
        now += gap_s
        done += sent(rate, 20, now)
        assert done <= max(1.0, per_s * burst_s) + per_s * now + 1e-6


def test_after_the_time_that_a_refusal_names_the_intent_is_done() -> None:
    rate = IntentRate(PeerLimits(messages_per_s=4), 1.0, 0.0)
    assert sent(rate, 10, 0.0) == 4
    with pytest.raises(RateLimited) as refused:
        rate.take(100, 0.0)
    assert refused.value.details == {"limit": "messages_per_s", "allowed": 4, "retry_after_s": 0.25}
    assert refused.value.retry_after_s == 0.25
    assert sent(rate, 10, 0.25) == 1


def test_the_peers_of_all_servers_together_have_the_rooms_rate() -> None:
    """A room with two peers here and six elsewhere: of 8 messages a second, 2 are for this server."""
    now, peers = [0.0], {"lobby": (2, 8), "hall": (1, 1)}
    rooms = RoomRates(8.0, 1.0, lambda: now[0], peers.__getitem__)
    alice, bob = IntentRate(PeerLimits(), 1.0, 0.0), IntentRate(PeerLimits(), 1.0, 0.0)
    alice.take(100, 0.0, rooms.of("lobby"))
    bob.take(100, 0.0, rooms.of("lobby"))
    with pytest.raises(RateLimited) as refused:
        alice.take(100, 0.0, rooms.of("lobby"))
    assert refused.value.details == {"limit": "room_messages_per_s", "allowed": 8.0, "retry_after_s": 0.5}
    for _ in range(8):
        alice.take(100, 0.0, rooms.of("hall"))
    peers["lobby"], now[0] = (8, 8), 1.0
    for _ in range(8):
        bob.take(100, 1.0, rooms.of("lobby"))
    assert RoomRates(None, 1.0, lambda: now[0], peers.__getitem__).of("lobby") is None


def test_bytes_are_limited_too_and_a_large_message_is_not_refused_for_ever() -> None:
    rate = IntentRate(PeerLimits(bytes_per_s=1_000), 2.0, 0.0)
    rate.take(500_000, 0.0)  # more than a full bucket
    with pytest.raises(RateLimited) as refused:
        rate.take(1_000, 0.0)
    assert (refused.value.details["limit"], refused.value.details["retry_after_s"]) == ("bytes_per_s", 1.0)
    rate.take(1_000, 1.0)


def test_a_peer_is_flooding_when_it_goes_on_after_refusals() -> None:
    rate = IntentRate(PeerLimits(messages_per_s=10), 1.0, 0.0)
    done, flooding = [], []
    for count, now in ((10 + MAX_REFUSED, 0.0), (1, 0.0), (1, 1.0)):
        done.append(sent(rate, count, now))
        flooding.append(rate.is_flooding)
    assert done == [10, 0, 1]
    assert flooding == [False, True, False], "it may join again after a while"


def test_who_joins_again_goes_on_where_it_was() -> None:
    rates = IntentRates(1.0, lambda: 0.0, max_peers=2)
    limits = PeerLimits(messages_per_s=10)
    assert sent(rates.of("alice", limits), 20, 0.0) == 10
    assert sent(rates.of("alice", limits), 20, 0.0) == 0
    assert sent(rates.of("bob", limits), 20, 0.0) == 10
    assert sent(rates.of("alice", PeerLimits(messages_per_s=5)), 20, 0.0) == 5


def test_a_peer_a_little_above_its_limit_is_not_flooding() -> None:
    rate = IntentRate(PeerLimits(messages_per_s=100), 1.0, 0.0)
    for tick in range(1, 6_000):  # ten minutes at 105 a second
        sent(rate, 10 + tick % 2, tick / 10)
    assert not rate.is_flooding


def test_without_limits_nothing_is_refused() -> None:
    assert sent(IntentRate(PeerLimits(), 1.0, 0.0), 10_000, 0.0) == 10_000


def test_queries_of_one_peer_leave_those_of_others_alone() -> None:
    now = [0.0]
    rates = QueryRates(2.0, lambda: now[0], max_peers=2)
    for _ in range(2):
        rates.take("alice", 1)
    with pytest.raises(RateLimited) as refused:
        rates.take("alice", 1)
    assert refused.value.details["retry_after_s"] == 1.0
    rates.take("bob", 1)
    rates.take("carol", None)
    now[0] = 1.0
    rates.take("alice", 1)


def test_the_stricter_limit_holds() -> None:
    fleet = PeerLimits(messages_per_s=200, consumers=100)
    token = PeerLimits(messages_per_s=500, consumers=4, incoming_bps=1_000_000)
    assert fleet.narrowed(token) == PeerLimits(messages_per_s=200, consumers=4, incoming_bps=1_000_000)
    assert fleet.narrowed(None) == fleet
