"""Batches of intents on a real worker: order, one answer, errors of their own, secrets, grants, relays."""

from __future__ import annotations

from mafalda.bus.protocol import Inbox
from mafalda.contract import subjects
from mafalda.contract.batches import read_results
from mafalda.contract.grants import Grants
from mafalda.contract.ids import derived_id
from mafalda.contract.messages import events, intents, results
from mafalda.contract.messages.batches import BatchedIntent
from mafalda.contract.messages.envelope import Message, decode
from mafalda.contract.messages.payload import Payload
from tests.component.workers.agent_world import DEADLINE_S, Client, Fleet
from tests.component.workers.test_agent_grants import joined
from tests.component.workers.test_agent_peers import pair


async def send(client: Client, *wanted: intents.Intent, inbox: Inbox | None = None) -> list[str]:
    """Send intents as one batch; their ids."""
    items = [
        BatchedIntent(id=derived_id(client.peer, number), type=it.type_name(), data=it.to_json_dict())
        for number, it in enumerate(wanted)
    ]
    await client.send(intents.IntentBatch(items=items), inbox=inbox)
    return [item.id for item in items]


def each(message: Message, client: Client) -> dict[str | None, Payload]:
    """The results of a batch, by the ids of their intents."""
    address = subjects.parse(subjects.result(client.room, client.peer, "batch"))
    assert address is not None
    return {it.causationid: it.data for _, it in read_results(address, message)}


async def results_of(client: Client) -> dict[str | None, Payload]:
    """Those of the only batch of results in the log."""
    fleet = client.fleet
    await fleet.wait_appended(results.ResultBatch)
    (found,) = [message for _, message in fleet.entries() if isinstance(message.data, results.ResultBatch)]
    return each(found, client)


async def test_a_batch_is_done_in_order_and_answered_once(fleet: Fleet) -> None:
    _, bob = await pair(fleet)
    consume = bob.consume_intent
    async with fleet.bus.inbox() as inbox:
        ids = await send(
            bob,
            intents.CreateTransport(transport="more", direction="receive"),
            consume("a", "mic", "more"),
            consume("b", "mic", "more"),
            consume("c", "nothing", "more"),
            intents.ResumeConsumer(consumer="a"),
            intents.CloseConsumer(consumer="b"),
            inbox=inbox,
        )
        found = await results_of(bob)
        private = each(decode((await inbox.next(DEADLINE_S)).data), bob)
    assert list(found) == ids
    kinds = [type(found[id]) for id in ids]
    consumed, done = results.ConsumeResult, results.Done
    assert kinds == [results.TransportResult, consumed, consumed, results.Rejected, done, done]
    refused, transport, full = found[ids[3]], found[ids[0]], private[ids[0]]
    assert isinstance(refused, results.Rejected)
    assert refused.error.code == "not-found"
    assert isinstance(transport, results.TransportResult)
    assert isinstance(full, results.TransportResult)
    assert (transport.ice_parameters, full.without_secrets()) == (None, transport)
    assert full.ice_parameters is not None
    assert set(fleet.state().rooms["lobby"].peers["bob"].consumers) == {"a"}
    await fleet.equals_the_log()


async def test_what_is_produced_in_a_batch_is_announced_before_it_is_answered(fleet: Fleet) -> None:
    alice, _ = await pair(fleet)
    await send(alice, alice.produce_intent("cam", "send", kind="video"), intents.PauseProducer(producer="cam"))
    await results_of(alice)
    kinds = [type(message.data) for _, message in fleet.entries()][-3:]
    assert kinds == [events.ProducerOpened, events.ProducerPaused, results.ResultBatch]


async def test_what_the_token_does_not_permit_is_not_permitted_in_a_batch(fleet: Fleet) -> None:
    alice = await joined(fleet, Grants(rooms=["lobby"], peer="alice", subscribe=False))
    ids = await send(alice, alice.consume_intent("a", "mic", "send"), intents.CreateTransport(transport="more"))
    found = await results_of(alice)
    refused = found[ids[0]]
    assert isinstance(refused, results.Rejected)
    assert refused.error.code == "not-granted"
    assert isinstance(found[ids[1]], results.TransportResult)


async def test_a_consume_that_waits_for_a_relay_is_answered_later(fleet: Fleet) -> None:
    await fleet.start("s1", workers=2)
    here, there = fleet.places("s1")
    alice, bob = await fleet.join("lobby", "alice", here), await fleet.join("lobby", "bob", there)
    await alice.transport("send")
    await alice.produce("mic", "send")
    await bob.transport("receive")

    ids = await send(bob, bob.consume_intent("a", "mic", "receive"), intents.SetAppData(app_data={"n": 1}))

    assert list(await results_of(bob)) == [ids[1]]
    wanted = await fleet.wait_appended(events.RelaysRequested)
    assert (wanted.worker, wanted.producers) == (there.worker, ["mic"])
    await fleet.relay("lobby", "mic", here, there)
    received = await fleet.wait_appended(results.ConsumeResult)
    assert (received.consumer, received.relayed) == ("a", True)
    await fleet.equals_the_log()
