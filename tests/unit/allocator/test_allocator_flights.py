"""Intents behind a join, and intents whose place ends: each waits for its agent or is rejected, none is forgotten."""

from __future__ import annotations

from mafalda.allocator.config import AllocatorConfig
from mafalda.allocator.core import work_queue
from mafalda.allocator.core.state.open_intents import MAX_WAITING, OpenIntent
from mafalda.contract import subjects
from mafalda.contract.messages import commands, events, intents, results
from mafalda.contract.messages.batches import BatchedIntent, BatchedResult
from mafalda.contract.messages.payload import Place
from tests.unit.allocator.allocator_world import World, placed, rejection, relay
from tests.unit.allocator.test_allocator_snapshot import restored

TRANSPORT = intents.CreateTransport(transport="send")
PAUSE = intents.PauseProducer(producer="mic")


def small_fleet(workers: int = 2, **config: object) -> World:
    world = World(AllocatorConfig.model_validate({"policy": "spread", **config}))
    world.server("s1", workers)
    return world


def woken(world: World) -> list[OpenIntent]:
    return [found for found in work_queue.woken(world.view) if isinstance(found, OpenIntent)]


def test_what_follows_a_join_waits_for_its_place_and_is_then_its_agent_s() -> None:
    world = small_fleet()
    join = world.intent("lobby", "alice", intents.Join())
    behind = world.intent("lobby", "alice", TRANSPORT)
    assert world.decide(behind).reason == "waiting-for-join"

    decision = world.commit(world.decide(join))

    (append,) = decision.commands
    assert isinstance(append.payload, commands.PlacePeer)
    assert append.payload.join_seq == join.seq
    assert woken(world) == [behind]
    assert world.decide(behind).reason == "for-the-agent"


def test_a_consume_behind_a_join_gets_its_relay_when_the_peer_is_placed() -> None:
    world = small_fleet()
    source = world.joined("lobby", "alice")
    world.produce("lobby", "alice", "mic")
    join = world.intent("lobby", "bob", intents.Join())
    consume = world.consume("lobby", "bob", "mic")

    target = placed(world.commit(world.decide(join)))

    assert woken(world) == [consume]
    ordered = relay(world.decide(consume))
    assert (ordered.source, ordered.target) == (source, target)


def test_what_follows_a_join_that_is_refused_gets_the_join_s_error() -> None:
    world = World()
    join = world.intent("lobby", "alice", intents.Join())
    behind = [world.intent("lobby", "alice", TRANSPORT), world.intent("lobby", "alice", intents.Leave())]

    world.commit(world.decide(join))

    assert woken(world) == behind
    assert [rejection(world.commit(world.decide(it))).error.code for it in behind] == ["no-capacity"] * 2
    assert len(world.view.open_intents) == 0


def test_no_more_than_so_many_wait_for_a_join() -> None:
    world = small_fleet()
    join = world.intent("lobby", "alice", intents.Join())
    waiting = [world.intent("lobby", "alice", PAUSE) for _ in range(MAX_WAITING)]
    assert world.decide(waiting[-2]).reason == "waiting-for-join"
    assert rejection(world.commit(world.decide(waiting[-1]))).error.code == "no-capacity"
    world.commit(world.decide(join))
    assert waiting[-1] not in woken(world)


def test_a_place_that_dies_before_it_has_answered_hands_its_intents_to_the_next() -> None:
    world = small_fleet()
    join = world.intent("lobby", "alice", intents.Join())
    behind = world.intent("lobby", "alice", TRANSPORT)
    first = placed(world.commit(world.decide(join)))
    world.kill_worker(first)
    later = world.intent("lobby", "alice", PAUSE)
    assert [world.decide(it).reason for it in (behind, later)] == ["waiting-for-join"] * 2

    (append,) = world.commit(world.decide(world.unplaced("lobby", "alice"))).commands

    assert isinstance(append.payload, commands.PlacePeer)
    assert (append.payload.generation, append.payload.join_seq) == (2, join.seq)
    assert [world.decide(it).reason for it in (behind, later)] == ["for-the-agent"] * 2
    moved = events.PeerMoved(peer="alice", server="s1", worker="w", generation=2, cause="worker-died")
    world.append(subjects.room_event("lobby", moved.action), moved)
    world.kill_worker(Place(server=append.payload.server, worker=append.payload.worker))
    assert world.decide(world.intent("lobby", "alice", PAUSE)).reason == "rejected-worker-died"


def test_an_intent_whose_agent_did_not_answer_before_the_place_ended_is_rejected_a_little_later() -> None:
    world = small_fleet()
    place = world.joined("lobby", "alice")
    intent = world.intent("lobby", "alice", PAUSE)
    assert world.decide(intent).reason == "for-the-agent"
    world.kill_worker(place)
    assert world.decide(intent).appends == (), "its agent may be about to answer it"
    world.now += world.config.overdue_s
    assert intent in work_queue.due(world.view, world.now)
    assert rejection(world.commit(world.decide(intent))).error.code == "worker-died"
    assert len(world.view.open_intents) == 0


def test_what_was_behind_a_leave_is_rejected_and_a_leave_is_done() -> None:
    world = small_fleet()
    world.joined("lobby", "alice")
    leave, behind = world.intent("lobby", "alice", intents.Leave()), world.intent("lobby", "alice", PAUSE)
    world.leave("lobby", "alice")
    world.now += world.config.overdue_s
    (append,) = world.commit(world.decide(leave)).results
    assert isinstance(append.payload, results.Done)
    assert rejection(world.commit(world.decide(behind))).error.code == "not-joined"
    assert len(world.view.open_intents) == 0


def test_a_peer_that_its_first_worker_refuses_has_all_its_intents_rejected() -> None:
    world = small_fleet()
    join = world.intent("lobby", "alice", intents.Join(), id="j1")
    behind = world.intent("lobby", "alice", TRANSPORT)
    world.commit(world.decide(join))
    assert woken(world) == [behind]
    world.leave("lobby", "alice")
    error = {"code": "worker-request-failed", "message": "no router"}
    rejected = results.Rejected.model_validate({"intent": "join", "error": error})
    world.append(subjects.result("lobby", "alice", "join"), rejected, cause="place")
    assert woken(world) == [behind]
    assert rejection(world.commit(world.decide(behind))).error.code == "worker-request-failed"


def two_pauses() -> intents.IntentBatch:
    return intents.IntentBatch(
        items=[
            BatchedIntent(id=id, type=PAUSE.type_name(), data={"producer": producer})
            for id, producer in (("a", "mic"), ("b", "cam"))
        ]
    )


def done(cause: str) -> BatchedResult:
    data = results.Done(intent="pause-producer", generation=1).to_json_dict()
    return BatchedResult(intent="pause-producer", causationid=cause, type=results.Done.type_name(), data=data)


def test_a_batch_is_open_until_each_of_its_intents_has_a_result() -> None:
    world = small_fleet()
    world.joined("lobby", "alice")
    batch = world.intent("lobby", "alice", two_pauses())
    assert world.decide(batch).reason == "for-the-agent"

    world.append(subjects.result("lobby", "alice", "batch"), results.ResultBatch(items=[done("a")]), cause=batch.id)
    world.view = restored(world.view)
    assert [it.items for it in world.view.open_intents] == [{"b"}]

    last = results.Done(intent="pause-producer", generation=1)
    world.append(subjects.result("lobby", "alice", "pause-producer"), last, cause="b")
    assert len(world.view.open_intents) == 0


def test_a_batch_without_a_place_is_refused_as_a_whole() -> None:
    world = small_fleet()
    batch = world.intent("lobby", "alice", two_pauses())
    (append,) = world.commit(world.decide(batch)).results
    assert isinstance(append.payload, results.Rejected)
    assert (append.payload.intent, append.payload.error.code) == ("batch", "not-joined")
    assert append.causation == batch.id
    assert len(world.view.open_intents) == 0


def test_what_a_batch_opens_is_in_the_state_and_reserved() -> None:
    world = small_fleet()
    world.joined("lobby", "alice")
    opened = results.ChannelAnswer(intent="create-transport", target="t", generation=1, accepted=True)
    item = BatchedResult(
        intent="create-transport", causationid="x", type=opened.type_name(), data=opened.to_json_dict()
    )
    world.append(subjects.result("lobby", "alice", "batch"), results.ResultBatch(items=[item]))
    peer = world.view.peer(("lobby", "alice"))
    assert peer is not None
    assert "t" in peer.transports
