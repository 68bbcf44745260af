"""The fleet: servers and workers, what they carry, and the orders over them. Pure.

Whatever changes a worker ends in ``touch``, which moves it where it belongs. What does not belong
here: rooms, peers and intents (``view``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from mafalda.allocator.config import AllocatorConfig
from mafalda.allocator.core.placement import filters
from mafalda.allocator.core.state.candidates import Order, Rule, ServerView, WorkerKey, WorkerView
from mafalda.contract.messages.load import ServerLoad
from mafalda.contract.messages.payload import Place
from mafalda.projection.state import ServerState


class Fleet:
    """All servers that the log knows, by id, and their living workers.

    ``obstacles`` counts the workers that cannot be taken, by reason.
    """

    def __init__(self, config: AllocatorConfig) -> None:
        self.config = config
        self.servers: dict[str, ServerView] = {}
        self.workers: dict[WorkerKey, WorkerView] = {}
        self.obstacles: Counter[str] = Counter()
        self._orders: dict[Rule, Order] = {}
        self._holds: dict[str, list[WorkerView]] = {}
        self._silent_peer = config.micro(config.costs.silent_peer)

    def order(self, rule: Rule) -> Order:
        """The order by a rule: built when first asked for, kept from then on."""
        found = self._orders.get(rule)
        if found is None:
            found = self._orders[rule] = Order(rule)
            for key in sorted(self.workers):
                found.update(self.workers[key])
        return found

    def at(self, place: Place) -> WorkerView | None:
        """The living worker at a place."""
        return self.workers.get((place.server, place.worker))

    # --- what the log says -----------------------------------------------------------------------

    def sync(self, state: ServerState, now: float, *, watched: bool) -> Iterator[WorkerView]:
        """Follow what the log said of one server.

        Args:
            state: The server after the fold.
            now: Seconds, monotonic.
            watched: Whether this is news, rather than the log's past.

        Yields:
            The workers that are no more; their peers are still in their ``state``.
        """
        server = self.servers.get(state.server)
        known = server.workers if server else {}
        ended = [worker for name, worker in known.items() if state.workers.get(name) is not worker.state]
        for worker in ended:
            self._remove(worker)
        if server is None or server.incarnation != state.incarnation:
            server = ServerView(state.server, state.incarnation, state.region, heard_s=now, seen_starting=watched)
            self.servers[state.server] = server
        server.up = state.status in ("up", "draining")
        draining = state.status == "draining"
        if draining != server.draining:
            server.draining = server.says_draining = draining
        for name, worker_state in state.workers.items():
            if name not in server.workers:
                worker = WorkerView(worker_state.place, server, worker_state)
                server.workers[name] = self.workers[worker.key] = worker
        self._touch_all(server)
        yield from sorted(ended, key=lambda worker: worker.key)

    def _remove(self, worker: WorkerView) -> None:
        del self.workers[worker.key]
        del worker.server.workers[worker.place.worker]
        for order in self._orders.values():
            order.discard(worker)
        self._count_obstacle(worker, None)
        if worker.used:
            worker.used = False
            worker.server.used -= 1

    # --- what agents report ----------------------------------------------------------------------

    def report(self, load: ServerLoad, now: float, *, live: bool = True) -> bool:
        """Take in a load report.

        Args:
            load: It counts only if it is of the incarnation that the log knows.
            now: Seconds, monotonic.
            live: ``False`` for a sample out of the log, which counts until a live one came.

        Returns:
            Whether it counted.
        """
        server = self.servers.get(load.server)
        if server is None or server.incarnation != load.incarnation or (server.reported and not live):
            return False
        if live:
            server.reported, server.silent, server.heard_s = True, False, now
        server.cpu_ratio, server.memory_ratio = load.cpu_ratio, load.memory_used_ratio
        server.event_loop_lag_s, server.ports_left = load.event_loop_lag_s, load.ports_left
        server.says_draining = load.draining
        server.obstacle = filters.server_obstacle(server, self.config)
        for figures in load.workers:
            if worker := server.workers.get(figures.worker):
                worker.measured = self.config.micro(figures.cpu_ratio)
                worker.channel_latency_s = figures.channel_latency_s
                worker.ledger.report(load.as_of_seq, load.interval_s, self.config.settle_s)
        for worker in server.workers.values():
            self.touch(worker)
        return True

    # --- time ------------------------------------------------------------------------------------

    def hear_again(self, now: float) -> None:
        """Nobody could have been heard until now; all begin anew."""
        for server in self.servers.values():
            server.heard_s = now

    def tick(self, now: float) -> None:
        """Mark the servers of which too many reports are missing."""
        limit = self.config.silent_reports * self.config.report_interval_s
        for server in self.servers.values():
            silent = server.up and now - server.heard_s > limit
            if silent != server.silent:
                server.silent = silent
                self._touch_all(server)

    def lost(self, now: float) -> list[ServerView]:
        """The servers that have been silent for so long that they are held to be gone."""
        limit = max(self.config.lost_reports * self.config.report_interval_s, self.config.lost_after_s)
        return [self.servers[key] for key in sorted(self.servers) if self._is_lost(self.servers[key], now, limit)]

    @staticmethod
    def _is_lost(server: ServerView, now: float, limit: float) -> bool:
        return server.up and now - server.heard_s > limit

    # --- what is under way -----------------------------------------------------------------------

    def hold(self, key: str, costs: list[tuple[Place, int]]) -> None:
        """Count a decision until the log has it."""
        workers = [(worker, cost) for place, cost in costs if (worker := self.at(place))]
        self._holds[key] = [worker for worker, _ in workers]
        for worker, cost in workers:
            worker.ledger.hold(key, cost)
            self.touch(worker)

    def release(self, key: str | None) -> None:
        """The log has it, or never will."""
        for worker in self._holds.pop(key or "", ()):
            worker.ledger.release(key or "")
            self.touch(worker)

    # --- keeping order ---------------------------------------------------------------------------

    def touch(self, worker: WorkerView) -> None:
        """A worker changed: work out its load, and move it to its place in each order."""
        if self.workers.get(worker.key) is not worker:
            return
        headcount = worker.headcount
        worker.load = max(worker.measured, headcount * self._silent_peer) + worker.ledger.total
        used = headcount > 0
        if used != worker.used:
            worker.used = used
            server = worker.server
            server.used += 1 if used else -1
            if server.used == (1 if used else 0):
                self._touch_all(server)
        self._settle(worker)

    def _touch_all(self, server: ServerView) -> None:
        server.obstacle = filters.server_obstacle(server, self.config)
        for worker in server.workers.values():
            self._settle(worker)

    def _settle(self, worker: WorkerView) -> None:
        self._count_obstacle(worker, worker.server.obstacle or filters.worker_obstacle(worker, self.config))
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
