"""Choose the source of a new relay: the relays of a producer form a tree. Pure.

One pipe goes into a region and one into a server; the other servers of the region, and the other workers of the server,
get the producer from inside. The number of relays from one worker is bounded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass

from mafalda.allocator.core.placement import outcomes
from mafalda.contract.messages.commands import Candidate, Explanation
from mafalda.contract.messages.payload import Place
from mafalda.projection.state import ProducerState, RelayState

POLICY = "relay-tree"


@dataclass(frozen=True, slots=True)
class Source:
    """A worker that has the producer.

    ``depth`` is its depth in the tree, ``fan_out`` the number of relays from it, ``outside`` how many of those go to
    other servers, and ``abroad`` how many of these to other regions.
    """

    place: Place
    depth: int
    fan_out: int
    outside: int
    abroad: int
    region: str | None

    def can_feed(self, target: Place, region: str | None, max_fan_out: int) -> bool:
        """Whether one more relay can start here; one slot is kept for its own server, and one for its own region."""
        if self.fan_out >= max_fan_out:
            return False
        if self.place.server == target.server:
            return True
        is_near = self.region == region
        return self.outside < max_fan_out - 1 and (is_near or self.abroad < max(1, max_fan_out - 2))


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
        The source: inside the target's server if the producer is there already or about to be, else in its region,
        else anywhere; then the nearest to the origin, then the one with the fewest relays.
    """
    origin, target_region = producer.place, regions.get(target.server)
    sources = _sources(origin, relays, regions)
    fit = [source for source in sources if source.can_feed(target, target_region, max_fan_out)]
    fitting = {source.place for source in fit}
    places = (origin, *relays)
    # The same server, else the same region, whichever has the producer, even if its relay is still being opened.
    if any(place.server == target.server for place in places):
        fit = [source for source in fit if source.place.server == target.server]
    elif target_region is not None:
        there = [place for place in places if regions.get(place.server) == target_region]
        near = [source for source in fit if source.region == target_region]
        is_opening = any(place in relays and relays[place].status == "opening" for place in there)
        fit = near if near or is_opening else fit
    if not fit:
        return Plan(None)

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
    return Plan(chosen.place, _explain(chosen, sources, relays, fitting, max_fan_out, explained))


def _sources(origin: Place, relays: Mapping[Place, RelayState], regions: Mapping[str, str | None]) -> list[Source]:
    """Every worker that has the producer now: the origin and the targets of open relays."""
    fan_out = Counter(relay.source for relay in relays.values())
    leaving = [relay for relay in relays.values() if relay.source.server != relay.target.server]
    outside = Counter(relay.source for relay in leaving)
    abroad = Counter(
        relay.source for relay in leaving if regions.get(relay.source.server) != regions.get(relay.target.server)
    )
    places = [origin, *(place for place, relay in relays.items() if relay.status == "open")]
    return [
        Source(place, _depth(place, relays), fan_out[place], outside[place], abroad[place], regions.get(place.server))
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
    fitting: Set[Place],
    max_fan_out: int,
    explained: int,
) -> Explanation:
    found = [(chosen.place, outcomes.CHOSEN)]
    for source in sources:
        if source is not chosen:
            found.append((source.place, outcomes.FARTHER if source.place in fitting else outcomes.FAN_OUT_FULL))
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
