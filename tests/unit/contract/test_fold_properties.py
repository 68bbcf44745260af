"""The fold over any log: total, deterministic, and its invariants hold after every entry.

The messages are drawn from a world so small that they hit each other all the time: stale generations, ids that are
taken, dead places, duplicates, orders in the wrong order.
"""

from __future__ import annotations

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from mafalda.contract.messages import commands, events, results
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.contract.messages.payload import Payload, Place
from mafalda.contract.subjects import parse
from mafalda.projection.codec import add_room, add_server, room_to_json, server_to_json
from mafalda.projection.fold import fold
from mafalda.projection.state import State
from mafalda.testing.builders import EXAMPLES, example, subject_of
from mafalda.testing.stories import Story, place, violations

Published = tuple[str, Payload]
"""A subject and the payload on it."""

rooms = st.sampled_from(["r1", "r2"])
peers = st.sampled_from(["p1", "p2", "p3"])
workers = st.sampled_from(["a-0", "a-1", "b-0"])
places = workers.map(place)
generations = st.sampled_from([1, 1, 2, 3])
things = st.sampled_from(["x", "y"])
transports = st.sampled_from(["t", "u"])
incarnations = st.sampled_from(["i1", "i1", "i2"])
flags = st.booleans()
no = ErrorInfo(code="relay-failed", message="no")
why = commands.Explanation(policy="any", summary="any")


def at(found: Place) -> dict[str, str]:
    return {"server": found.server, "worker": found.worker}


def server_events() -> st.SearchStrategy[Payload]:
    servers = st.sampled_from(["a", "b"])
    info = workers.map(lambda worker: events.WorkerInfo(worker=worker, pid=1, slot=0))
    named = {"server": servers, "incarnation": incarnations}
    return st.one_of(
        st.builds(
            events.ServerStarted, **named, workers=st.lists(info, max_size=3), announced_address=st.just("192.0.2.1")
        ),
        st.builds(events.ServerStopped, **named),
        st.builds(events.ServerLost, **named),
        st.builds(events.ServerDraining, **named, draining=flags, force=flags),
        st.builds(events.WorkerStarted, **named, worker=info),
        st.builds(events.WorkerDied, **named, worker=workers),
    )


def placements() -> st.SearchStrategy[Payload]:
    return st.one_of(
        st.builds(
            lambda room, peer, where, generation: commands.PlacePeer(
                room=room, peer=peer, **at(where), generation=generation, join="j", explanation=why
            ),
            rooms,
            peers,
            places,
            generations,
        ),
        st.builds(
            lambda peer, where, generation: events.PeerJoined(peer=peer, **at(where), generation=generation),
            peers,
            places,
            generations,
        ),
        st.builds(events.PeerLeft, peer=peers, generation=generations),
    )


def producers() -> st.SearchStrategy[Payload]:
    opened = st.fixed_dictionaries({"peer": peers, "transport": transports, "generation": generations})
    return st.one_of(
        st.builds(
            lambda known, thing, where: example(events.ProducerOpened).model_copy(
                update={**known, **at(where), "producer": thing}
            ),
            opened,
            things,
            places,
        ),
        st.builds(
            lambda known, thing, where: example(events.DataProducerOpened).model_copy(
                update={**known, **at(where), "data_producer": thing}
            ),
            opened,
            things,
            places,
        ),
        st.builds(events.ProducerPaused, peer=peers, producer=things),
        st.builds(events.ProducerResumed, peer=peers, producer=things),
        st.builds(events.ProducerClosed, peer=peers, producer=things, generation=generations, reason=st.just("closed")),
    )


def results_and_peer_events() -> st.SearchStrategy[Payload]:
    ended = st.sampled_from(
        ["close-transport", "close-consumer", "close-data-consumer", "pause-consumer", "resume-consumer", "leave"]
    )
    return st.one_of(
        st.builds(
            lambda transport, generation: example(results.TransportResult).model_copy(
                update={"transport": transport, "generation": generation}
            ),
            transports,
            generations,
        ),
        st.builds(
            lambda consumer, producer, transport, generation: example(results.ConsumeResult).model_copy(
                update={
                    "consumer": consumer,
                    "producer": producer,
                    "transport": transport,
                    "generation": generation,
                }
            ),
            things,
            things,
            transports,
            generations,
        ),
        st.builds(
            lambda consumer, producer, transport, generation: example(results.ConsumeDataResult).model_copy(
                update={
                    "data_consumer": consumer,
                    "data_producer": producer,
                    "transport": transport,
                    "generation": generation,
                }
            ),
            things,
            things,
            transports,
            generations,
        ),
        st.builds(results.Done, intent=ended, target=st.none() | things | transports, generation=generations),
        st.builds(events.TransportClosed, transport=transports, generation=generations, reason=st.just("timed-out")),
        st.builds(
            events.ConsumerClosed, consumer=things, producer=things, generation=generations, reason=st.just("closed")
        ),
    )


def relays() -> st.SearchStrategy[Payload]:
    ends = {"producer": things, "data": flags, "source": places, "target": places}
    return st.one_of(
        st.builds(commands.OpenRelay, room=rooms, **ends, generation=generations, explanation=st.just(why)),
        st.builds(events.RelayOpened, **ends),
        st.builds(events.RelayFailed, **ends, error=st.just(no)),
        st.builds(events.RelayClosed, **ends, reason=st.just("unused")),
    )


payloads = st.one_of(server_events(), placements(), producers(), results_and_peer_events(), relays())
published = st.builds(
    lambda payload, room, peer: (subject_of(payload, room=room, peer=peer), payload), payloads, rooms, peers
)
misplaced = st.tuples(
    st.sampled_from(sorted({subject_of(payload) for payload in EXAMPLES.values()} - {"_INBOX.alice.1"})), payloads
)


def beginnings() -> st.SearchStrategy[list[Published]]:
    """So that more than one log in a thousand gets to a relay: a fleet, and a few peers that produce and consume."""

    def publish_all(moves: list[str]) -> list[Published]:
        story = Story("r1").server_starts("a", "a-0", "a-1").server_starts("b", "b-0")
        story.joins("p1", "a-0").joins("p2", "b-0").joins("p3", "a-1").produces("p1", "x", worker="a-0", transport="t")
        for move in moves:
            match move:
                case "relay":
                    story.opens_relay("x", "a-0", "b-0").consumes("p2", "x", "x", transport="t")
                case "twig":
                    story.opens_relay("x", "b-0", "a-1").consumes("p3", "y", "x", transport="u")
                case "data":
                    story.produces_data("p2", "y", worker="b-0", transport="t").consumes_data("p2", "y", "y")
                case "other room":
                    story.room_id = "r2"
                    story.joins("p1", "b-0").produces("p1", "x", worker="b-0")
                    story.room_id = "r1"
        return [(subject, payload) for _, subject, payload in story.entries]

    return st.lists(st.sampled_from(["relay", "twig", "data", "other room"]), max_size=4, unique=True).map(publish_all)


logs = st.tuples(beginnings(), st.lists(published | published | published | misplaced, max_size=40)).map(
    lambda log: log[0] + log[1]
)


def folded(log: list[Published], state: State | None = None) -> State:
    state = state or State()
    for seq, (subject, payload) in enumerate(log, start=state.seq + 1):
        address = parse(subject)
        assert address is not None
        fold(state, seq, address, payload)
    return state


@settings(max_examples=400, deadline=None)
@given(logs)
def test_invariants_hold_after_every_entry(log: list[Published]) -> None:
    state = State()
    for entry in log:
        folded([entry], state)
        assert violations(state) == [], entry
    assert state.seq == len(log)


@settings(max_examples=200, deadline=None)
@given(logs)
def test_the_same_log_gives_the_same_state(log: list[Published]) -> None:
    once, again = folded(log), folded(log)
    assert once == again
    assert orjson.dumps(once.to_json_dict()) == orjson.dumps(again.to_json_dict())


@settings(max_examples=200, deadline=None)
@given(logs, st.data())
def test_any_order_and_any_repetition_is_survived(log: list[Published], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(log + log[: len(log) // 2]))
    assert violations(folded(shuffled)) == []


@settings(max_examples=200, deadline=None)
@given(logs, st.integers(0, 60))
def test_reading_on_is_reading_from_the_start(log: list[Published], cut: int) -> None:
    assert folded(log[cut:], folded(log[:cut])) == folded(log)


@settings(max_examples=200, deadline=None)
@given(logs)
def test_an_entry_read_twice_counts_once(log: list[Published]) -> None:
    state = State()
    for seq, (subject, payload) in enumerate(log, start=1):
        address = parse(subject)
        assert address is not None
        fold(state, seq, address, payload)
        before = orjson.dumps(state.to_json_dict())
        fold(state, seq, address, payload)
        assert orjson.dumps(state.to_json_dict()) == before


def through_json(state: State) -> State:
    """What a reader of a snapshot has."""
    found = State(seq=state.seq)
    for server in orjson.loads(orjson.dumps([server_to_json(it) for it in state.servers.values()])):
        add_server(found, server)
    for room in orjson.loads(orjson.dumps([room_to_json(it) for it in state.rooms.values()])):
        add_room(found, room)
    return found


@settings(max_examples=400, deadline=None)
@given(logs, st.integers(0, 60))
def test_a_snapshot_and_the_rest_are_the_whole_log(log: list[Published], cut: int) -> None:
    """``==`` compares the indexes too."""
    before = folded(log[:cut])
    read = through_json(before)
    assert read == before
    assert folded(log[cut:], read) == folded(log)


@settings(max_examples=400, deadline=None)
@given(logs, st.integers(0, 60))
def test_a_room_can_be_read_into_a_later_state(log: list[Published], cut: int) -> None:
    """Into servers of the log's end, with what was there of the room: every invariant holds."""
    old, late = folded(log[:cut]), folded(log)
    for room in orjson.loads(orjson.dumps([room_to_json(it) for it in old.rooms.values()])):
        add_room(late, room)
        assert violations(late) == []
