"""A bus in memory for components' tests. The conformance suite of the bus runs on it and on NATS.

``MemoryBroker`` stands for a NATS server: it has the log and the subscriptions. Several ``MemoryBus`` may share one, as
several processes share a server.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from itertools import count

from mafalda.aio.clock import PausableClock
from mafalda.aio.tasks import background, open_tasks
from mafalda.bus.log.append import check_captured, is_captured, message_headers
from mafalda.bus.log.patterns import PatternSet, check_pattern, matches
from mafalda.bus.protocol import (
    LOG_FULL,
    MESSAGE_ID,
    Appended,
    Delivery,
    Expect,
    Follower,
    Handler,
    Inbox,
    LogUsage,
    SnapshotObject,
)
from mafalda.bus.replies import may_be_served, read_reply, refuse_unserved, reply_to
from mafalda.contract.grants import Grants
from mafalda.contract.messages.envelope import Message, encode
from mafalda.contract.subjects import LOAD_SUBJECTS
from mafalda.errors import BusUnavailable, Conflict, DeadlineExceeded, LogFull, LogTruncated, NotFound

_LOADS = PatternSet(LOAD_SUBJECTS)


class MemorySubscription:
    """Messages for one subscriber, in order; unbounded."""

    def __init__(self, patterns: Iterable[str], group: str = "") -> None:
        self._patterns = PatternSet(patterns)
        self.group = group
        self._items: deque[Delivery] = deque()
        self._filled = asyncio.Event()

    def takes(self, subject: str) -> bool:
        return self._patterns.takes(subject)

    def put(self, delivery: Delivery) -> None:
        self._items.append(delivery)
        self._filled.set()

    def waiting(self) -> list[Delivery]:
        """What nobody has taken yet."""
        return list(self._items)

    def __aiter__(self) -> AsyncIterator[Delivery]:
        return self

    async def __anext__(self) -> Delivery:
        while not self._items:
            self._filled.clear()
            await self._filled.wait()
        return self._items.popleft()


class MemoryBroker:
    """The log and its subscribers. ``entries[seq - 1]`` is entry ``seq``."""

    def __init__(self) -> None:
        self.entries: list[Delivery] = []
        self.stored_at: list[datetime] = []
        self.loads: dict[str, Delivery] = {}
        self.clock = PausableClock()
        self.is_up = True
        self.is_full = False
        self.released: asyncio.Event | None = None  # set at the end of ``silent``
        self.first_seq = 1
        self.snapshots: dict[str, SnapshotObject] = {}
        self.grants: dict[tuple[str, str], Grants] = {}  # of peers with a token
        self._versions = count(1)
        self._ids: dict[str, int] = {}
        self._subscriptions: list[MemorySubscription] = []
        self._turns: defaultdict[str, count[int]] = defaultdict(count)
        self._grown = asyncio.Event()

    def store(self, subject: str, data: bytes, headers: Mapping[str, str]) -> Appended:
        """Store a message unless its id is stored already. ``data`` may be anything, as with NATS."""
        known = self._ids.get(headers.get(MESSAGE_ID, ""))
        if known is not None:
            return Appended(known, duplicate=True)
        entry = Delivery(subject, data, len(self.entries) + 1, None, dict(headers))
        self.entries.append(entry)
        self.stored_at.append(datetime.now(UTC))
        if MESSAGE_ID in headers:
            self._ids[headers[MESSAGE_ID]] = entry.seq
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()
        self._share(entry)
        return Appended(entry.seq, duplicate=False)

    def forget_ids(self) -> None:
        """As when the duplicate window has passed: a message with a stored id is stored again."""
        self._ids.clear()

    def last_seq_of(self, pattern: str) -> int:
        """The last sequence on a subject or pattern, 0 if there is none."""
        kept = reversed(self.entries[self.first_seq - 1 :])
        return next((entry.seq for entry in kept if matches(pattern, entry.subject)), 0)

    def purge(self, *, before_seq: int) -> None:
        """Discard the entries before a sequence, as a stream's purge does."""
        self.first_seq = max(self.first_seq, min(before_seq, len(self.entries) + 1))

    def put_snapshot(self, name: str, data: bytes, last_version: int | None) -> int:
        """Store the next version of an object."""
        known = self.snapshots.get(name)
        actual = known.version if known else 0
        if last_version is not None and last_version != actual:
            raise Conflict("another writer was first", name=name, expected=last_version, actual=actual)
        self.snapshots[name] = SnapshotObject(name, data, next(self._versions))
        return self.snapshots[name].version

    def send(self, delivery: Delivery) -> int:
        """Deliver a message outside the log to its subscribers (one of each group), and return how many those are."""
        if _LOADS.takes(delivery.subject):
            self.loads[delivery.subject] = delivery
        listeners = [one for one in self._subscriptions if not one.group and one.takes(delivery.subject)]
        for one in listeners:
            one.put(delivery)
        return len(listeners) + self._share(delivery)

    async def wait_beyond(self, seq: int) -> None:
        """Return once the log has more than ``seq`` entries, and is up."""
        while len(self.entries) <= seq or not self.is_up:
            await self._grown.wait()

    @contextmanager
    def open(self, subscription: MemorySubscription) -> Iterator[MemorySubscription]:
        """Subscribe while the block runs."""
        self._subscriptions.append(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.remove(subscription)

    @contextmanager
    def down(self) -> Iterator[None]:
        """Be unreachable while the block runs: appends and requests fail at once, followers receive nothing."""
        self.is_up = False
        self.clock.stop("down")
        try:
            yield
        finally:
            self.is_up = True
            self.clock.resume("down")
            grown, self._grown = self._grown, asyncio.Event()
            grown.set()

    @contextmanager
    def full(self) -> Iterator[None]:
        """Refuse appends while the block runs; all else works."""
        self.is_full = True
        try:
            yield
        finally:
            self.is_full = False

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Leave appends unanswered while the block runs, as a log without quorum does; all else works."""
        self.released = released = asyncio.Event()
        self.clock.stop("silent")
        try:
            yield
        finally:
            self.released = None
            self.clock.resume("silent")
            released.set()

    def _share(self, delivery: Delivery) -> int:
        """Deliver to one member of each group of subscribers; returns how many groups there are."""
        groups: defaultdict[str, list[MemorySubscription]] = defaultdict(list)
        for one in self._subscriptions:
            if one.group and one.takes(delivery.subject):
                groups[one.group].append(one)
        for group, members in groups.items():
            members[next(self._turns[group]) % len(members)].put(delivery)
        return len(groups)


class MemoryFollower:
    """See ``protocol.Follower``; it reads the log itself, so it misses nothing."""

    def __init__(self, broker: MemoryBroker, seq: int) -> None:
        self._broker = broker
        self._seq = seq
        self._bases: dict[str, int] = {}

    @property
    def seq(self) -> int:
        return self._seq

    def begin(self, patterns: Iterable[str], base: int) -> None:
        for pattern in patterns:
            self._bases.setdefault(check_pattern(pattern), base)

    async def add(self, *patterns: str) -> None:
        await asyncio.sleep(0)
        self.begin(patterns, len(self._broker.entries))

    async def remove(self, *patterns: str) -> None:
        await asyncio.sleep(0)
        for pattern in patterns:
            self._bases.pop(pattern, None)

    def __aiter__(self) -> AsyncIterator[Delivery]:
        return self

    async def __anext__(self) -> Delivery:
        while True:
            await self._broker.wait_beyond(self._seq)
            if 0 < self._seq < self._broker.first_seq - 1:
                reason = "entries were discarded before they were read"
                raise LogTruncated(reason, after_seq=self._seq, first_seq=self._broker.first_seq)
            self._seq = max(self._seq, self._broker.first_seq - 1)
            await self._broker.wait_beyond(self._seq)
            entry = self._broker.entries[self._seq]
            self._seq = entry.seq
            if any(base < entry.seq and matches(pattern, entry.subject) for pattern, base in self._bases.items()):
                return entry


class MemorySnapshots:
    """See ``protocol.Snapshots``."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker

    async def put(self, name: str, data: bytes, *, last_version: int | None = None) -> int:
        await self._reach()
        return self._broker.put_snapshot(name, data, last_version)

    async def get(self, name: str) -> SnapshotObject | None:
        await self._reach()
        return self._broker.snapshots.get(name)

    async def names(self) -> list[str]:
        await self._reach()
        return sorted(self._broker.snapshots)

    async def delete(self, name: str) -> None:
        await self._reach()
        self._broker.snapshots.pop(name, None)

    async def _reach(self) -> None:
        await asyncio.sleep(0)
        if not self._broker.is_up:
            raise BusUnavailable("snapshots cannot be reached")


class MemoryInbox:
    """See ``protocol.Inbox``."""

    def __init__(self, subject: str, subscription: MemorySubscription) -> None:
        self._subject = subject
        self._subscription = subscription

    @property
    def subject(self) -> str:
        return self._subject

    async def next(self, timeout_s: float) -> Delivery:
        try:
            async with asyncio.timeout(timeout_s):
                return await anext(self._subscription)
        except TimeoutError:
            raise DeadlineExceeded("no answer came to an inbox", timeout_s=timeout_s) from None


class MemoryBus:
    """A ``Bus`` over a broker; without one it makes its own. Needs no opening and no closing."""

    def __init__(self, broker: MemoryBroker | None = None, *, name: str = "memory") -> None:
        self.broker = broker or MemoryBroker()
        self.snapshots = MemorySnapshots(self.broker)
        self._name = name
        self._inboxes = count(1)

    @property
    def clock(self) -> PausableClock:
        return self.broker.clock

    async def append(
        self, subject: str, message: Message, *, expect: Expect | None = None, headers: Mapping[str, str] | None = None
    ) -> Appended:
        check_captured(subject)
        raw = encode(message)
        await asyncio.sleep(0)
        broker = self.broker
        if not broker.is_up:
            raise BusUnavailable("the log did not confirm a message", subject=subject)
        if broker.released is not None:
            await broker.released.wait()
        if broker.is_full:
            raise LogFull(LOG_FULL, subject=subject)
        if expect and (actual := broker.last_seq_of(expect.filter)) != expect.last_seq:
            for entry in broker.entries[expect.last_seq :]:
                if entry.headers.get(MESSAGE_ID) == message.id and matches(expect.filter, entry.subject):
                    return Appended(entry.seq, duplicate=True)
            raise Conflict("another writer was first", filter=expect.filter, expected=expect.last_seq, actual=actual)
        return broker.store(subject, raw, {**(headers or {}), **message_headers(message)})

    def follow(self, *patterns: str, after_seq: int | None = None) -> AbstractAsyncContextManager[Follower]:
        return self._follow(patterns, after_seq)

    @asynccontextmanager
    async def _follow(self, patterns: tuple[str, ...], after_seq: int | None) -> AsyncIterator[Follower]:
        start = len(self.broker.entries) if after_seq is None else after_seq
        follower = MemoryFollower(self.broker, start)
        follower.begin(patterns, start)
        yield follower

    def share(self, *patterns: str, group: str) -> AbstractAsyncContextManager[AsyncIterator[Delivery]]:
        return self._open(MemorySubscription(patterns, group))

    def listen(self, *patterns: str) -> AbstractAsyncContextManager[AsyncIterator[Delivery]]:
        return self._open(MemorySubscription(patterns))

    @asynccontextmanager
    async def _open(self, subscription: MemorySubscription) -> AsyncIterator[AsyncIterator[Delivery]]:
        with self.broker.open(subscription):
            yield subscription

    async def read(
        self, *patterns: str, after_seq: int = 0, up_to_seq: int | None = None
    ) -> AsyncGenerator[Delivery, None]:
        wanted = PatternSet(patterns)
        start = max(after_seq, self.broker.first_seq - 1)
        for entry in self.broker.entries[start : len(self.broker.entries) if up_to_seq is None else up_to_seq]:
            if wanted.takes(entry.subject):
                await asyncio.sleep(0)
                yield entry

    async def last(self, subject: str) -> Delivery | None:
        await asyncio.sleep(0)
        seq = self.broker.last_seq_of(check_pattern(subject))
        return self.broker.entries[seq - 1] if seq else None

    async def last_seq(self) -> int:
        await asyncio.sleep(0)
        return len(self.broker.entries)

    async def log_usage(self) -> LogUsage:
        await asyncio.sleep(0)
        kept = self.broker.entries[self.broker.first_seq - 1 :]
        used = sum(len(entry.data) for entry in kept)
        return LogUsage(
            len(kept),
            used,
            limit_bytes=used if self.broker.is_full else None,
            first_seq=self.broker.first_seq,
            last_seq=len(self.broker.entries),
            as_of=datetime.now(UTC),
        )

    async def stored_at(self, seq: int) -> datetime:
        await asyncio.sleep(0)
        found = next((it for it in self.broker.entries[max(seq, self.broker.first_seq) - 1 :]), None)
        if found is None:
            raise NotFound("the log has no entry there", seq=seq)
        return self.broker.stored_at[found.seq - 1]

    async def purge_log(self, *, before_seq: int) -> None:
        await asyncio.sleep(0)
        self.broker.purge(before_seq=before_seq)

    async def grants(self, room: str, peer: str) -> Grants | None:
        return self.broker.grants.get((room, peer))

    async def publish(self, subject: str, message: Message) -> None:
        if is_captured(subject):
            raise ValueError(f"the log captures {subject!r}: append there")
        delivery = Delivery(subject, encode(message), headers=message_headers(message))
        await asyncio.sleep(0)
        if self.broker.is_up:
            self.broker.send(delivery)

    async def latest_loads(self) -> Sequence[Delivery]:
        await asyncio.sleep(0)
        return list(self.broker.loads.values())

    async def request(self, subject: str, message: Message, *, timeout_s: float) -> Message:
        async with self.inbox() as inbox:
            request = Delivery(subject, encode(message), 0, inbox.subject, message_headers(message))
            if not (self.broker.is_up and self.broker.send(request)):
                raise DeadlineExceeded("a request was not answered", subject=subject, reason="no-responders")
            return read_reply((await inbox.next(timeout_s)).data)

    def serve(self, *patterns: str, handler: Handler, group: str = "") -> AbstractAsyncContextManager[None]:
        return self._serve(patterns, handler, group)

    @asynccontextmanager
    async def _serve(self, patterns: tuple[str, ...], handler: Handler, group: str) -> AsyncIterator[None]:
        with self.broker.open(MemorySubscription(patterns, group)) as subscription:
            async with background(self._answer_all(subscription, handler), name="memory-serve"):
                yield

    async def _answer_all(self, subscription: MemorySubscription, handler: Handler) -> None:
        source = f"/mafalda/{self._name}"

        async def answer(request: Delivery) -> None:
            try:
                reply(request, await reply_to(request, handler, source))
            except asyncio.CancelledError:
                reply(request, refuse_unserved(request, source))
                raise

        def reply(request: Delivery, raw: bytes | None) -> None:
            if request.reply and raw is not None:
                self.broker.send(Delivery(request.reply, raw))

        try:
            async with open_tasks() as tasks:
                async for request in subscription:
                    if may_be_served(request):
                        tasks.spawn(answer(request), name=f"memory-answer {request.subject}")
        finally:
            for request in filter(may_be_served, subscription.waiting()):
                reply(request, refuse_unserved(request, source))

    def inbox(self) -> AbstractAsyncContextManager[Inbox]:
        return self._inbox()

    @asynccontextmanager
    async def _inbox(self) -> AsyncIterator[Inbox]:
        subject = f"_INBOX.memory{id(self):x}.{next(self._inboxes)}"
        with self.broker.open(MemorySubscription([subject])) as subscription:
            yield MemoryInbox(subject, subscription)
