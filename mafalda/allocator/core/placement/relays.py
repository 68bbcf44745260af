"""Choose the source of a new relay: the relays of a producer form a tree. Pure.

One pipe goes into a server, and the other workers there get the producer from inside the server. The number of relays
from one worker is bounded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from mafalda.allocator.core.placement import outcomes
from mafalda.contract.messages.commands import Candidate, Explanation
from mafalda.contract.messages.payload import Place
from mafalda.projection.state import ProducerState, RelayState

POLICY = "relay-tree"


@dataclass(frozen=True, slots=True)
class Source:
    """A worker that has the producer.

    ``depth`` is its depth in the tree, ``fan_out`` the number of relays from it, and ``outside`` how many of those
    go to other servers.
    """

    place: Place
    depth: int
    fan_out: int
    outside: int
    region: str | None

    def can_feed(self, target: Place, max_fan_out: int) -> bool:
        """Whether one more relay can start here. One slot is kept for the source's own server."""
        inside = self.place.server == target.server
        return self.fan_out < max_fan_out and (inside or self.outside < max_fan_out - 1)


@dataclass(frozen=True, slots=True)
class Plan:
    """The source of a relay and the explanation. No source: wait for a relay that is being opened."""

    source: Place | None
    explanation: Explanation | None = None


def plan(
    producer: ProducerState,
    relays: Mapping[Place, RelayState],
    target: Place,
    regions: Mapping[str, str | None],
    *,
    max_fan_out: int,
    explained: int,
) -> Plan:
    """Choose the source of a new relay.

    Args:
        producer: What is to be relayed.
        relays: The producer's relays, open or being opened, by target.
        target: A worker that has neither the producer nor a relay of it.
        regions: The region of each server.
        max_fan_out: The greatest number of relays from one worker.
        explained: How many sources the explanation names.

    Returns:
        The source: inside the target's server if the producer is there already, else in its region,
        else anywhere; then the nearest to the origin, then the one with the fewest relays.
    """
    origin = producer.place
    inside = [place for place in (origin, *relays) if place.server == target.server]
    if inside and not any(place == origin or relays[place].status == "open" for place in inside):
        return Plan(None)
    sources = _sources(origin, relays, regions)
    fit = [source for source in sources if source.can_feed(target, max_fan_out)]
    if inside:
        fit = [source for source in fit if source.place.server == target.server]
    if not fit:
        return Plan(None)
    target_region = regions.get(target.server)

    def nearness(source: Source) -> tuple[bool, bool, int, int, str, str]:
        return (
            source.place.server != target.server,
            source.region != target_region,
            source.depth,
            source.fan_out,
            source.place.server,
            source.place.worker,
        )

    chosen = min(fit, key=nearness)
    return Plan(chosen.place, _explain(chosen, sources, relays, target, max_fan_out, explained))


def _sources(origin: Place, relays: Mapping[Place, RelayState], regions: Mapping[str, str | None]) -> list[Source]:
    """Every worker that has the producer now: the origin and the targets of open relays."""
    fan_out = Counter(relay.source for relay in relays.values())
    outside = Counter(relay.source for relay in relays.values() if relay.source.server != relay.target.server)
    places = [origin, *(place for place, relay in relays.items() if relay.status == "open")]
    return [
        Source(place, _depth(place, relays), fan_out[place], outside[place], regions.get(place.server))
        for place in places
    ]


def _depth(place: Place, relays: Mapping[Place, RelayState]) -> int:
    depth = 0
    while (relay := relays.get(place)) and depth <= len(relays):
        place, depth = relay.source, depth + 1
    return depth


def _explain(
    chosen: Source,
    sources: list[Source],
    relays: Mapping[Place, RelayState],
    target: Place,
    max_fan_out: int,
    explained: int,
) -> Explanation:
    found = [(chosen.place, outcomes.CHOSEN)]
    for source in sources:
        if source is not chosen:
            fit = source.can_feed(target, max_fan_out)
            found.append((source.place, outcomes.FARTHER if fit else outcomes.FAN_OUT_FULL))
    found += [(place, outcomes.STILL_OPENING) for place, relay in relays.items() if relay.status == "opening"]
    counts = Counter(outcome for _, outcome in found[1:])
    return Explanation(
        policy=POLICY,
        summary=(
            f"from {chosen.place.server}/{chosen.place.worker}, {chosen.depth} hops from the origin, "
            f"which feeds {chosen.fan_out} of at most {max_fan_out}"
        ),
        candidates=[
            Candidate(server=place.server, worker=place.worker, outcome=outcome) for place, outcome in found[:explained]
        ],
        passed_over={reason: counts[reason] for reason in sorted(counts)},
    )
