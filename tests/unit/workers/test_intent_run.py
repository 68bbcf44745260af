"""Which intents of a peer are done together, and that an intent is done once, whichever batch it comes in."""

from __future__ import annotations

from mafalda.contract import subjects
from mafalda.contract.ids import derived_id
from mafalda.contract.messages.batches import BatchedIntent
from mafalda.contract.messages.commands import PlacePeer
from mafalda.contract.messages.intents import Consume, Intent, IntentBatch, Join, PauseConsumer
from mafalda.media.rtp import RtpCapabilities
from mafalda.testing.builders import example
from mafalda.workers.core.instructions import Entry, HandleIntent
from mafalda.workers.core.placed_peer import PlacedPeer
from mafalda.workers.peers.session.intent_run import consume_groups

from .machine_run import entry

ROOM, PEER = "lobby", "alice"


def consume(name: str) -> Consume:
    return Consume(consumer=name, producer="mic", transport="t", rtp_capabilities=RtpCapabilities())


def batch(seq: int, *intents: Intent) -> Entry:
    """An entry with a batch; an intent has the same id wherever it is."""
    items = [
        BatchedIntent(id=derived_id(it.model_dump_json()), type=it.type_name(), data=it.to_json_dict())
        for it in intents
    ]
    return entry(seq, subjects.intent(ROOM, PEER, "batch"), IntentBatch(items=items))


def single(seq: int, intent: Intent) -> Entry:
    return entry(seq, subjects.intent(ROOM, PEER, intent.action), intent)


def groups(*entries: Entry) -> list[list[object]]:
    return [[it.message.data for it in group] for group in consume_groups(entries)]


def placed() -> PlacedPeer:
    command = example(PlacePeer)
    peer = PlacedPeer(command, entry(1, subjects.command(command.room, command.server, command.action), command))
    peer.ready([])
    return peer


def handled(peer: PlacedPeer, found: Entry) -> list[Entry]:
    return [it.entry for it in peer.intent(found) if isinstance(it, HandleIntent)]


def test_consumes_that_follow_one_another_are_one_group() -> None:
    a, b, c, pause = consume("a"), consume("b"), consume("c"), PauseConsumer(consumer="a")
    assert groups(*batch(1, a, b, pause, c).unbatched()) == [[a, b], [pause], [c]]


def test_a_consume_of_an_id_that_is_taken_in_its_group_begins_another() -> None:
    a, b = consume("a"), consume("b")
    assert groups(*batch(1, a, b, a).unbatched()) == [[a, b], [a]]


def test_batches_and_intents_by_themselves_are_never_in_one_group() -> None:
    a, b, c = consume("a"), consume("b"), consume("c")
    entries = [*batch(1, a).unbatched(), *batch(2, b).unbatched(), single(3, c)]
    assert groups(*entries) == [[a], [b], [c]]


def test_each_intent_of_a_batch_is_handled_once() -> None:
    peer = placed()
    a, b, c = consume("a"), consume("b"), consume("c")
    assert [it.message.data for it in handled(peer, batch(2, a, b))] == [a, b]
    assert [it.message.data for it in handled(peer, batch(3, b, c))] == [c]
    assert handled(peer, batch(3, consume("d"))) == [], "read a second time"


def test_what_may_not_be_in_a_batch_is_handled_as_an_error() -> None:
    found = handled(placed(), batch(2, consume("a"), Join()))
    assert [it.error is None for it in found] == [True, False]
    assert found[1].error is not None
    assert found[1].error.code == "malformed-message"


def test_what_of_a_batch_is_answered_is_left_out() -> None:
    a, b = consume("a"), consume("b")
    whole = batch(2, a, b)
    first, second = whole.unbatched()
    left = whole.without({first.message.id})
    assert left is not None
    assert [it.message.id for it in left.unbatched()] == [second.message.id]
    assert whole.without({first.message.id, second.message.id}) is None
    assert whole.without({"another"}) is whole
