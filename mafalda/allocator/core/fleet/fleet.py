"""All servers and workers with their loads, obstacles and reservations, and the sorted orders of the workers. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from mafalda.allocator.config import AllocatorConfig
from mafalda.allocator.core.fleet import obstacles
from mafalda.allocator.core.fleet.candidates import Order, Rule, ServerView, WorkerKey, WorkerView
from mafalda.allocator.core.fleet.newcomers import CostScale, NewcomerCosts
from mafalda.contract.messages.load import ServerLoad, WorkerLoad
from mafalda.contract.messages.payload import Place
from mafalda.projection.state import ServerState


@dataclass(frozen=True, slots=True)
class Hold:
    """What is reserved for a decision that is not in the log yet.

    Args:
        costs: What it adds to each worker, in millionths of a core; not empty.
        since_s: When it was decided, in monotonic seconds.
        room: Of the decision.
        peer: Whom it places; ``None``: it opens relays.
        is_audience: That peer is audience.
    """

    costs: tuple[tuple[Place, int], ...]
    since_s: float
    room: str
    peer: str | None = None
    is_audience: bool = False


class FleetView:
    """All servers that the log knows, by id, and their living workers.

    ``obstacles`` counts, by reason, the workers on which no peer can be placed. ``newcomers`` and ``scale`` learn what
    peers and objects cost, ``holds`` has the decisions that are not in the log yet, by id. Every change of a worker
    ends in ``touch``, which moves it in each order.
    """

    def __init__(self, config: AllocatorConfig) -> None:
        self.config = config
        self.servers: dict[str, ServerView] = {}
        self.workers: dict[WorkerKey, WorkerView] = {}
        self.obstacles: Counter[str] = Counter()
        self.newcomers = NewcomerCosts(config)
        self.scale = CostScale()
        self._orders: dict[Rule, Order] = {}
        self.holds: dict[str, Hold] = {}
        #: Whether other allocators place peers in it at the same time.
        self.is_shared = False
        self._silent_peer = config.micro(config.costs.silent_peer)
        self._silent_audience = config.micro(config.costs.silent_audience)

    def order(self, rule: Rule) -> Order:
        """The order by a rule; built at its first use and kept up to date from then on."""
        found = self._orders.get(rule)
        if found is None:
            found = self._orders[rule] = Order(rule)
            for key in sorted(self.workers):
                found.update(self.workers[key])
        return found

    def orders(self) -> list[Order]:
        """Every order that has been used."""
        return list(self._orders.values())

    def at(self, place: Place) -> WorkerView | None:
        """The living worker at a place."""
        return self.workers.get((place.server, place.worker))

    # --- log entries -----------------------------------------------------------------------------

    def sync(self, state: ServerState, now: float, *, watched: bool) -> Iterator[WorkerView]:
        """Take over the state of one server after a log entry changed it.

        Args:
            state: The server after the fold.
            now: Seconds, monotonic.
            watched: Whether the entry is new, rather than from the log's past.

        Yields:
            The workers that ended; their peers are still in their ``state``.
        """
        server = self.servers.get(state.server)
        known = server.workers if server else {}
        ended = [worker for name, worker in known.items() if state.workers.get(name) is not worker.state]
        for worker in ended:
            self._remove(worker)
        if server is None or server.incarnation != state.incarnation:
            server = ServerView(state.server, state.incarnation, state.region, last_report_s=now, seen_starting=watched)
            self.servers[state.server] = server
        server.up = state.status in ("up", "draining")
        draining = state.status == "draining"
        if draining != server.draining:
            server.draining = server.reports_draining = draining
        for name, worker_state in state.workers.items():
            if name not in server.workers:
                worker = WorkerView(worker_state.place, server, worker_state)
                server.workers[name] = self.workers[worker.key] = worker
        self._touch_all(server)
        yield from sorted(ended, key=lambda worker: worker.key)

    def forget(self, server: str) -> None:
        """Forget a server that has ended; it has no workers."""
        self.servers.pop(server, None)

    def _remove(self, worker: WorkerView) -> None:
        del self.workers[worker.key]
        del worker.server.workers[worker.place.worker]
        for order in self._orders.values():
            order.discard(worker)
        self._count_obstacle(worker, None)
        if worker.used:
            worker.used = False
            worker.server.used -= 1

    # --- load reports ----------------------------------------------------------------------------

    def report(self, load: ServerLoad, now: float, *, live: bool = True) -> bool:
        """Take in a load report.

        Args:
            load: It counts only if it is from the incarnation that the log knows.
            now: Seconds, monotonic.
            live: ``False`` for a sample out of the log, which counts until the first live report.

        Returns:
            Whether it counted.
        """
        server = self.servers.get(load.server)
        if server is None or server.incarnation != load.incarnation or (server.reported and not live):
            return False
        if live:
            server.reported, server.silent, server.last_report_s = True, False, now
        server.cpu_ratio, server.memory_ratio = load.cpu_ratio, load.memory_used_ratio
        server.event_loop_lag_s, server.ports_left = load.event_loop_lag_s, load.ports_left
        server.reports_draining = load.draining
        server.obstacle = obstacles.server_obstacle(server, self.config)
        for figures in load.workers:
            if worker := server.workers.get(figures.worker):
                worker.measured = self.config.micro(figures.cpu_ratio)
                worker.channel_latency_s = figures.channel_latency_s
                worker.unresponsive = figures.state == "unresponsive"
                settle_s = self.config.settle_s
                worker.reservations.report(load.as_of_seq, load.interval_s, settle_s, self.newcomers)
                self.scale.learn(worker.measured, self._configured_cost(figures), worker.reservations.opened)
        for worker in server.workers.values():
            self.touch(worker)
        return True

    def _configured_cost(self, figures: WorkerLoad) -> int:
        """What the objects of a worker cost by the configuration."""
        costs = self.config.costs
        return self.config.micro(
            figures.transports * costs.transport
            + figures.producers * costs.producer
            + figures.consumers * costs.consumer
            + (figures.data_producers + figures.data_consumers) * costs.data
            + (figures.relays_in + figures.relays_out) * costs.relay
        )

    def set_silent(self, server: ServerView, silent: bool) -> None:
        """Set whether load reports of a server are missing."""
        if silent != server.silent:
            server.silent = silent
            self._touch_all(server)

    # --- decisions that are not in the log yet ---------------------------------------------------

    def hold(self, key: str, hold: Hold) -> None:
        """Reserve for a decision until it is in the log."""
        self.holds[key] = hold
        for worker, cost in self._held(hold):
            is_peer = hold.peer is not None
            worker.reservations.hold(key, cost, is_peer=is_peer, is_audience=hold.is_audience)
            self.touch(worker)

    def release(self, key: str | None) -> None:
        """End the reservation of a decision: it is in the log, or was not appended."""
        if key and (hold := self.holds.pop(key, None)):
            for worker, _ in self._held(hold):
                worker.reservations.release(key)
                self.touch(worker)

    def _held(self, hold: Hold) -> list[tuple[WorkerView, int]]:
        return [(worker, cost) for place, cost in hold.costs if (worker := self.at(place))]

    # --- orders ----------------------------------------------------------------------------------

    def touch(self, worker: WorkerView) -> None:
        """Compute the load of a worker that changed, and move it to its position in each order."""
        if self.workers.get(worker.key) is not worker:
            return
        headcount, audience = worker.headcount, worker.audience
        reserved = round(worker.reservations.total * self.scale.value)
        silent = (headcount - audience) * self._silent_peer + audience * self._silent_audience
        worker.settled_load = max(worker.measured, silent)
        worker.load = max(worker.measured + reserved, worker.settled_load)
        used = headcount > 0
        if used != worker.used:
            worker.used = used
            server = worker.server
            server.used += 1 if used else -1
            if server.used == (1 if used else 0):
                self._touch_all(server)
        self._update_orders(worker)

    def _touch_all(self, server: ServerView) -> None:
        server.obstacle = obstacles.server_obstacle(server, self.config)
        for worker in server.workers.values():
            self._update_orders(worker)

    def _update_orders(self, worker: WorkerView) -> None:
        self._count_obstacle(worker, worker.server.obstacle or obstacles.worker_obstacle(worker, self.config))
        for order in self._orders.values():
            order.update(worker)

    def _count_obstacle(self, worker: WorkerView, found: str | None) -> None:
        if found == worker.obstacle:
            return
        if worker.obstacle:
            self.obstacles[worker.obstacle] -= 1
        if found:
            self.obstacles[found] += 1
        worker.obstacle = found
