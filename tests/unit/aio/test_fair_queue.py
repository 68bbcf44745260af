"""The order of a fair queue: neither many keys nor many items of one key keep an item out, and none waits for ever."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from mafalda.aio.fair_queue import FairQueue
from mafalda.testing.operations import count_operations


def drain(queue: FairQueue[str]) -> list[str]:
    """Everything in the queue, in its order."""
    return [queue.take() for _ in range(len(queue))]


def served(queue: FairQueue[str], left: Counter[str]) -> Iterator[str]:
    """Serve keys that have one item in the queue each, and add their next one as soon as it was taken."""
    while len(queue):
        key = queue.take().split("/")[0]
        yield key
        left[key] -= 1
        if left[key] > 0:
            queue.add(f"{key}/{left[key]}", key)


def test_oldest_and_newest_alternate_among_keys_that_had_no_turn() -> None:
    queue: FairQueue[str] = FairQueue()
    for item in "abcde":
        queue.add(item, item)
    assert drain(queue) == ["a", "e", "b", "d", "c"]


def test_an_item_behind_thousands_of_keys_is_among_the_first() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(10_000):
        queue.add(f"burst-{number}", f"room-{number}")
    queue.add("mine", "mine")
    assert drain(queue).index("mine") < 2


def test_an_item_behind_thousands_of_one_key_is_among_the_first() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(10_000):
        queue.add(f"burst-{number}", "room")
    assert [queue.take() for _ in range(100)].count("mine") == 0
    queue.add("mine", "mine")
    assert drain(queue).index("mine") < 2


@pytest.mark.parametrize("served_before", [0, 1, 250, 499, 500, 777, 4_000])
def test_rooms_that_come_back_for_their_next_turn_keep_nobody_out(served_before: int) -> None:
    """500 rooms with 20 joins each, one of each in the queue at a time; mine comes after some of them."""
    queue: FairQueue[str] = FairQueue()
    left = Counter({f"room-{number}": 20 for number in range(500)})
    for key in left:
        queue.add(f"{key}/{left[key]}", key)
    serving = served(queue, left)
    for _ in range(served_before):
        next(serving)
    left["mine"] = 1
    queue.add("mine/1", "mine")
    assert next(index for index, key in enumerate(serving) if key == "mine") < 3


def test_who_waits_longest_has_every_second_turn_whatever_comes() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(10):
        queue.add(f"old-{number}", "busy")
    taken = []
    for number in range(20):
        queue.add(f"new-{number}", f"room-{number}")
        taken.append(queue.take())
    assert [item for item in taken if item.startswith("old")] == [f"old-{number}" for number in range(10)]


def test_a_removed_item_is_not_taken() -> None:
    queue: FairQueue[str] = FairQueue()
    for item in "abc":
        queue.add(item, item)
    queue.remove("a")
    queue.remove("a")
    assert drain(queue) == ["b", "c"]
    with pytest.raises(IndexError):
        queue.take()


def test_it_forgets_the_keys_that_do_not_wait() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.add("waits", "waits")
    for number in range(30_000):
        queue.add(f"item-{number}", f"room-{number}")
        queue.remove(f"item-{number}")
    assert len(queue._next_round) <= 10_001
    queue.take()
    assert not queue._next_round


def test_the_cost_of_a_turn_does_not_grow_with_what_waits() -> None:
    def cost(waiting: int) -> int:
        queue: FairQueue[str] = FairQueue()
        for number in range(waiting):
            queue.add(f"{number}", f"room-{number % 100}")

        def work() -> None:
            for number in range(200):
                queue.add(f"more-{number}", f"room-{number % 100}")
                queue.take()

        return count_operations(work)

    assert cost(20_000) < 1.5 * cost(1_000)
