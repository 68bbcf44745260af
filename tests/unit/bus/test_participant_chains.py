"""What a participant's follower yields, skips and finds missing, by the chain of entries on each subject."""

from __future__ import annotations

from mafalda.bus.participant.chains import Chains, Verdict

RESULT, EVENT = "mafalda.room.r.peer.p.result.join", "mafalda.room.r.event.peer-joined"


def test_entries_that_follow_each_other_are_yielded_once() -> None:
    chains = Chains()
    assert chains.judge(EVENT, 10, 4) is Verdict.YIELD
    assert chains.judge(RESULT, 12, 0) is Verdict.YIELD
    assert chains.judge(EVENT, 11, 10) is Verdict.YIELD, "another subject's entry may come late"
    assert chains.judge(EVENT, 11, 10) is Verdict.SKIP


def test_a_link_that_never_came_is_missing() -> None:
    chains = Chains()
    chains.begin(9)
    assert chains.judge(EVENT, 10, 4) is Verdict.YIELD
    assert chains.judge(EVENT, 14, 12) is Verdict.MISSING
    assert chains.ask_after(subject=EVENT) == 9
    assert not chains.take(EVENT, 10)
    assert chains.take(EVENT, 12)
    assert chains.take(EVENT, 14)
    chains.caught_up(20)
    assert chains.judge(EVENT, 14, 12) is Verdict.SKIP
    assert chains.judge(EVENT, 21, 14) is Verdict.YIELD


def test_what_an_agent_sent_is_not_yielded_again() -> None:
    chains = Chains()
    chains.begin(5)
    assert chains.take(RESULT, 6)
    assert chains.judge(RESULT, 6, 0) is Verdict.SKIP
    chains.caught_up(8)
    assert chains.judge(EVENT, 7, 0) is Verdict.SKIP
    assert chains.judge(EVENT, 9, 7) is Verdict.YIELD


def test_it_asks_for_some_entries_before_the_last_one_and_for_none_before_the_beginning() -> None:
    chains = Chains()
    chains.begin(100)
    chains.judge(EVENT, 150, 0)
    assert chains.ask_after() == 100
    chains.judge(EVENT, 5000, 150)
    assert chains.ask_after() == 4000
    assert chains.ask_after(seq=3000) == 3000
    assert chains.ask_after(subject=RESULT) == 100
    assert chains.ask_after(seq=7) == 100
    chains.begin(1)
    assert chains.ask_after(seq=7) == 100, "the first beginning counts"


def test_what_followed_the_first_message_is_not_passed_over_for_an_entry_that_came_before_its_acknowledgement() -> None:
    chains = Chains()
    assert chains.judge(EVENT, 100, 80) is Verdict.YIELD
    chains.caught_up(120)
    assert chains.begin(90), "what was stored since then may have been skipped"
    assert chains.ask_after(seq=90) == 90
    assert chains.take(RESULT, 95)
    assert not chains.take(EVENT, 100)
    chains.caught_up(120)
    assert not chains.begin(90)
    assert chains.ask_after(seq=90) == 120


def test_an_entry_that_came_before_the_first_message_was_stored_begins_it() -> None:
    chains = Chains()
    assert chains.judge(EVENT, 100, 80) is Verdict.YIELD
    assert not chains.begin(110)
    assert chains.judge(EVENT, 105, 100) is Verdict.YIELD
