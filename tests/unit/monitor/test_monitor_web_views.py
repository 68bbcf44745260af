"""What the monitor shows of a state and of log entries, as JSON."""

from __future__ import annotations

from datetime import timedelta

from mafalda.bus.protocol import Delivery
from mafalda.contract.messages.load import ServerLoad, WorkerLoad
from mafalda.monitor.records import Record, read_lines, record
from mafalda.monitor.web.loads import LoadHistory
from mafalda.monitor.web.log_pages import LogFilter, log_row
from mafalda.monitor.web.past import MAX_CHECKPOINTS, Checkpoints
from mafalda.monitor.web.problems import Problems
from mafalda.monitor.web.relay_trees import relay_trees, room_workers
from mafalda.monitor.web.summary import peer_rows, room_rows, server_rows, totals, with_load
from mafalda.projection.state import State
from mafalda.testing.builders import NOON
from mafalda.testing.stories import Story


def a_room_on_three_workers() -> Story:
    """Alice's mic and camera reach Bob and, over Bob's worker, Carol."""
    story = Story("lobby").server_starts("s1", "s1-a", "s1-b").server_starts("s2", "s2-a")
    for peer, worker in (("alice", "s1-a"), ("bob", "s1-b"), ("carol", "s2-a")):
        story.joins(peer, worker).opens_transport(peer)
    for producer in ("camera", "mic"):
        story.produces("alice", producer, worker="s1-a")
        for source, target in (("s1-a", "s1-b"), ("s1-b", "s2-a")):
            story.opens_relay(producer, source, target)
        for peer in ("bob", "carol"):
            story.consumes(peer, f"{peer}-{producer}", producer)
    return story


def a_load(server: str, cpu: float, **workers: float) -> ServerLoad:
    of_workers = [
        WorkerLoad(worker=worker.replace("_", "-"), pid=1, cpu_ratio=it, receive_bps=1000)
        for worker, it in workers.items()
    ]
    return ServerLoad(server=server, incarnation="i1", interval_s=1, cpu_count=2, cpu_ratio=cpu, workers=of_workers)


def records(story: Story) -> list[Record]:
    return list(read_lines(story.lines()))


def test_producers_that_take_the_same_way_are_one_tree() -> None:
    room = a_room_on_three_workers().room
    found = relay_trees(room)
    (tree,) = found["trees"]
    assert [it["producer"] for it in tree["producers"]] == ["camera", "mic"]
    root = tree["root"]
    assert (root["worker"], root["consumers"]) == ("s1-a", 0)
    (middle,) = root["children"]
    assert (middle["worker"], middle["consumers"], middle["status"]) == ("s1-b", 2, "open")
    (end,) = middle["children"]
    assert (end["worker"], end["children"]) == ("s2-a", [])
    assert {it["worker"]: it["peers"] for it in room_workers(room)} == {"s1-a": 1, "s1-b": 1, "s2-a": 1}


def test_a_relay_that_ends_leaves_its_tree() -> None:
    story = a_room_on_three_workers().closes_relay("mic", "s1-b", "s2-a")
    by_producer = {it["producers"][0]["producer"]: it["relays"] for it in relay_trees(story.room)["trees"]}
    assert by_producer == {"camera": 2, "mic": 1}


def test_totals_and_pages_of_a_fleet() -> None:
    state = a_room_on_three_workers().state
    loads = LoadHistory()
    loads.add(NOON, a_load("s1", 0.5, s1_a=0.25, s1_b=0.75))
    found = totals(state, loads, None)
    assert {key: found[key] for key in ("servers", "workers", "rooms", "peers", "unplaced", "producers", "relays")} == {
        "servers": 2, "workers": 3, "rooms": 1, "peers": 3, "unplaced": 0, "producers": 2, "relays": 4,
    }  # fmt: skip
    assert found["cpuRatio"] == 0.5
    assert found["receiveBps"] == 2000
    rows = list(with_load(server_rows(state, loads, None), state, loads, None))
    assert [row.get("worker", row["server"]) for row in rows] == ["s1", "s1-a", "s1-b", "s2", "s2-a"]
    assert rows[1]["load"]["cpuRatio"] == 0.25
    assert rows[4]["load"] is None  # s2 has not reported
    assert [row["server"] for row in server_rows(state, loads, None, "s2")] == ["s2", "s2"]
    assert [room.room for room in room_rows(state, "obb")] == ["lobby"]
    assert [peer.peer for peer in peer_rows(state.rooms["lobby"], "CAR")] == ["carol"]
    assert [peer.peer for peer in peer_rows(state.rooms["lobby"], worker="s1-b")] == ["bob"]


def test_a_lost_server_is_listed_first_and_its_peers_are_without_a_place() -> None:
    state = a_room_on_three_workers().server_is_lost("s2").state
    assert totals(state, LoadHistory(), None)["unplaced"] == 1
    first = server_rows(state, LoadHistory(), None)[0]
    assert (first["server"], first["status"]) == ("s2", "lost")


def test_a_server_that_is_gone_for_longer_than_its_samples_reach_back_is_forgotten() -> None:
    loads = LoadHistory()
    loads.add(NOON, a_load("s1", 0.1))
    loads.add(NOON + timedelta(minutes=59), a_load("s2", 0.1))
    assert loads.at("s1", None) is not None
    loads.add(NOON + timedelta(minutes=61), a_load("s3", 0.1))
    assert (loads.at("s1", None), loads.at("s2", None) is None) == (None, False)


def test_loads_have_a_history_by_which_a_past_moment_has_its_own_load() -> None:
    loads = LoadHistory()
    for second in range(0, 60, 5):
        loads.add(NOON + timedelta(seconds=second), a_load("s1", 0.1, s1_a=second / 100))
    loads.add(NOON, a_load("s1", 0.9))  # late: ignored
    then = loads.at("s1", NOON + timedelta(seconds=12))
    assert then is not None
    assert then.workers[0].cpu_ratio == 0.1
    assert loads.at("s1", NOON - timedelta(seconds=1)) is None
    assert loads.at("s1", NOON + timedelta(hours=1)) is None
    assert loads.cpu_of("s1", "s1-a", until=NOON + timedelta(seconds=10)) == [0.0, 0.05, 0.1]
    assert loads.cpu_of("s1", "s1-a", until=None, samples=2) == [0.5, 0.55]


def test_problems_are_counted_by_their_cause() -> None:
    story = a_room_on_three_workers()
    story.fails_relay("mic", "s1-a", "s2-a").fails_relay("camera", "s1-a", "s2-a").worker_dies("s1-b")
    garbage = record(Delivery("mafalda.room.lobby.event.peer-joined", b"{", 99))
    found = {(it["kind"], it["cause"]): it for it in Problems([*records(story), garbage]).to_json_list()}
    assert set(found) == {("failed", "relay-failed"), ("died", "worker-died"), ("unreadable", "malformed-message")}
    assert found["failed", "relay-failed"]["count"] == 2
    assert found["died", "worker-died"]["server"] == "s1"
    assert found["unreadable", "malformed-message"]["lastSeq"] == 99


def test_the_log_is_filtered_by_what_an_entry_is_about() -> None:
    entries = records(a_room_on_three_workers().worker_dies("s1-b"))

    def found(selected: LogFilter) -> set[str]:
        return {log_row(entry)["action"] for entry in entries if selected.holds(entry)}

    assert found(LogFilter(peer="bob", kind="result")) >= {"consume"}
    assert found(LogFilter(kind="command")) == {"place-peer", "open-relay"}
    assert found(LogFilter(problems=True)) == {"worker-died"}
    assert found(LogFilter(text="GENERATION 1, JOIN")) == {"place-peer"}
    assert found(LogFilter(room="elsewhere")) == set()
    assert "mafalda.command.lobby.*.*" in LogFilter(room="lobby").patterns()


def test_a_checkpoint_is_the_state_that_it_was_made_of() -> None:
    story = a_room_on_three_workers()
    checkpoints = Checkpoints(every=1)
    checkpoints.note(story.state)
    seq, expected = story.state.seq, story.state.to_json_dict()
    story.leaves("carol")
    assert checkpoints.before(seq - 1) is None
    found = checkpoints.before(seq + 100)
    assert found is not None
    assert found.to_json_dict() == expected


def test_there_are_never_too_many_checkpoints() -> None:
    checkpoints = Checkpoints(every=1)
    for seq in range(1, 10_000):
        checkpoints.note(State(seq=seq))
        assert len(checkpoints.seqs) <= MAX_CHECKPOINTS
    assert checkpoints.seqs[0] == 1
    assert len(checkpoints.seqs) >= MAX_CHECKPOINTS / 4
