"""A connection to a JetStream cluster that exists only in memory: its consumers live on a replica that may lag."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg

from mafalda.bus.config import BusConfig
from mafalda.bus.connection.connection import Connection
from mafalda.bus.connection.subscriptions import Sink, Subscription
from mafalda.bus.log.patterns import PatternSet, matches


class ScriptedJetStream(Connection):
    """Answers the API calls of a reader.

    Args:
        log: The subject of each entry, from sequence 1; all that the leader has.
        replica_seqs: The last sequence that the replica has, for each consumer in turn; the last one holds on.
        is_clustered: Whether consumers report a cluster.
        config: Of the connection.
    """

    def __init__(
        self, log: list[str], replica_seqs: list[int], *, is_clustered: bool = True, config: BusConfig | None = None
    ) -> None:
        super().__init__(config or BusConfig())
        self.log = log
        self.calls: list[str] = []
        self._replica_seqs = replica_seqs
        self._cluster = is_clustered
        self._consumers: dict[str, tuple[list[int], int]] = {}
        self._sinks: dict[str, Sink] = {}

    def count(self, call: str) -> int:
        """How often an API call was made."""
        return sum(made.startswith(call) for made in self.calls)

    def let_the_replica_catch_up(self) -> None:
        """New consumers have all that the leader has."""
        self._replica_seqs = [len(self.log)]

    async def subscribe(self, pattern: str, sink: Sink, *, queue: str = "") -> Subscription:
        self._sinks[pattern] = sink
        return Subscription(pattern, sink, queue)

    async def unsubscribe(self, *subscriptions: Subscription) -> None:
        for subscription in subscriptions:
            self._sinks.pop(subscription.pattern, None)

    async def request(
        self, subject: str, data: bytes, *, headers: Mapping[str, str] | None = None, timeout_s: float
    ) -> Msg:
        await asyncio.sleep(0)
        call = subject.removeprefix("$JS.API.")
        self.calls.append(call)
        return Msg(Client(), data=orjson.dumps(self._answer(call, orjson.loads(data) if data else {})))

    async def publish(
        self, subject: str, data: bytes, *, reply: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        call = subject.removeprefix("$JS.API.")
        self.calls.append(call)
        if call.startswith("CONSUMER.MSG.NEXT."):
            name = call.rsplit(".", 1)[1]
            seqs, delivered = self._consumers[name]
            batch = seqs[delivered : delivered + orjson.loads(data)["batch"]]
            self._consumers[name] = seqs, delivered + len(batch)
            for number, seq in enumerate(batch, delivered + 1):
                position = f"$JS.ACK.MAFALDA_LOG.{name}.1.{seq}.{number}.0.{len(seqs) - number}"
                self._sinks[reply].deliver(Msg(Client(), self.log[seq - 1], position, b"%d" % seq), reply)

    def _answer(self, call: str, body: dict[str, Any]) -> dict[str, Any]:
        if call.startswith("STREAM.INFO."):
            return {"state": {"first_seq": 1, "last_seq": len(self.log)}}
        if call.startswith("STREAM.MSG.GET."):
            later = range(body["seq"], len(self.log) + 1)
            seq = next((seq for seq in later if matches(body["next_by_subj"], self.log[seq - 1])), 0)
            if not seq:
                return {"error": {"code": 404, "err_code": 10037, "description": "no message found"}}
            return {"message": {"subject": self.log[seq - 1], "seq": seq, "data": b64encode(b"%d" % seq).decode()}}
        assert call.startswith("CONSUMER.CREATE.")
        wanted = PatternSet(body["config"]["filter_subjects"] or [">"])
        has = self._replica_seqs.pop(0) if len(self._replica_seqs) > 1 else self._replica_seqs[0]
        start = body["config"]["opt_start_seq"]
        seqs = [seq for seq in range(start, has + 1) if wanted.takes(self.log[seq - 1])]
        name = f"c{len(self._consumers)}"
        self._consumers[name] = seqs, 0
        made: dict[str, Any] = {"name": name, "num_pending": len(seqs)}
        return made | ({"cluster": {"leader": "n3"}} if self._cluster else {})
