"""The channel to a fake worker: order, held notifications, undoing, deadlines, garbage."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs

from mafalda.errors import AlreadyExists, InvalidParameters, NotFound, WorkerExited, WorkerRequestFailed
from mafalda.mediasoup.channel import channel as channel_module
from mafalda.mediasoup.channel.channel import MAX_UNSENT_BYTES, Channel, Undo
from mafalda.mediasoup.channel.framing import FrameReader, frame
from mafalda.mediasoup.channel.messages import SCHEMA
from mafalda.mediasoup.codec.decoder import Decoder
from mafalda.mediasoup.codec.encoder import Encoder
from mafalda.mediasoup.errors import FramingError, RequestTimeout, WorkerClosed

ROOT = "FBS.Message.Message"
CREATE = "WORKER_CREATE_ROUTER"


class FakeWorker:
    """Stands in for a worker: keeps the requests, and answers when the test calls ``accept`` or ``refuse``."""

    def __init__(self, timeout_s: float = 5.0) -> None:
        self.requests: list[dict[str, Any]] = []
        self.broken: list[FramingError] = []
        self.unsent_bytes = 0
        self.is_gone = False
        self.writes = 0
        self._reader = FrameReader()
        self.channel = Channel(42, timeout_s, self.broken.append)
        self.channel.attach(self)

    def write(self, data: bytes) -> None:
        self.writes += 1
        for payload in self._reader.feed(data):
            self.requests.append(Decoder(SCHEMA).decode(ROOT, payload)["data"][1])

    def is_closing(self) -> bool:
        return self.is_gone

    def get_write_buffer_size(self) -> int:
        return self.unsent_bytes

    def accept(self, index: int, body: tuple[str, Mapping[str, Any]] | None = None) -> bytes:
        return self.send("Response", {"id": self.requests[index]["id"], "accepted": True, "body": body})

    def refuse(self, index: int, error: str, reason: str | None = "because") -> bytes:
        return self.send("Response", {"id": self.requests[index]["id"], "error": error, "reason": reason})

    def notify(self, handler_id: str, event: str = "CONSUMER_PRODUCER_PAUSE") -> bytes:
        return self.send("Notification", {"handlerId": handler_id, "event": event})

    def send(self, kind: str, value: Mapping[str, Any]) -> bytes:
        return frame(Encoder(SCHEMA).encode(ROOT, {"data": (kind, value)}))


async def send_request(worker: FakeWorker, method: str = "WORKER_DUMP", **options: Any) -> asyncio.Task[dict[str, Any]]:
    """A request under way."""
    task = asyncio.create_task(worker.channel.request(method, **options))
    await asyncio.sleep(0)
    return task


async def test_requests_between_a_worker_s_exit_and_its_detection_fail_with_worker_died() -> None:
    worker = FakeWorker()
    worker.is_gone = True
    pending = await send_request(worker)
    with pytest.raises(WorkerExited):
        worker.channel.notify("WORKER_CLOSE")
    assert not worker.requests
    worker.channel.end(WorkerExited("the worker died", exit_code=None, signal="SIGKILL"))
    with pytest.raises(WorkerExited) as died:
        await pending
    assert died.value.details["signal"] == "SIGKILL"


async def test_requests_of_one_moment_are_written_together_and_before_what_follows() -> None:
    worker = FakeWorker()
    tasks = [asyncio.create_task(worker.channel.request("WORKER_DUMP")) for _ in range(5)]
    await asyncio.sleep(0)
    worker.channel.notify("WORKER_CLOSE")
    assert (len(worker.requests), worker.writes) == (6, 3)
    assert [request.get("id") for request in worker.requests] == [1, 2, 3, 4, 5, None]
    await asyncio.sleep(0)
    assert worker.writes == 3
    worker.channel.end(WorkerClosed("the worker was closed"))
    assert all(isinstance(it, WorkerClosed) for it in await asyncio.gather(*tasks, return_exceptions=True))


async def test_answers_find_their_requests_in_any_order() -> None:
    worker = FakeWorker()
    first, second = await send_request(worker), await send_request(worker)
    usage = {"bufferedAmount": 7}
    worker.channel.feed(worker.accept(1, ("DataConsumer_GetBufferedAmountResponse", usage)) + worker.accept(0))
    assert await second == usage
    assert await first == {}
    assert worker.channel.pending_requests == 0


@pytest.mark.parametrize(
    ("error", "kind"), [("TypeError", InvalidParameters), ("NotFoundError", NotFound), ("Error", WorkerRequestFailed)]
)
async def test_refusals_become_our_errors(error: str, kind: type[Exception]) -> None:
    worker = FakeWorker()
    task = await send_request(worker, "TRANSPORT_DUMP", handler_id="t")
    worker.channel.feed(worker.refuse(0, error))
    with pytest.raises(kind, match="because") as caught:
        await task
    assert caught.value.details == {"method": "transport.dump", "object_id": "t"}  # type: ignore[attr-defined]


async def test_the_answer_is_seen_before_the_notification_that_followed_it() -> None:
    worker = FakeWorker()
    order: list[str] = []
    worker.channel.subscribe("x", lambda event, body: order.append("notification"))

    async def request() -> None:
        await worker.channel.request("WORKER_DUMP")
        order.append("answer")

    task = asyncio.create_task(request())
    await asyncio.sleep(0)
    worker.channel.feed(worker.accept(0) + worker.notify("x"))
    await task
    await asyncio.sleep(0)
    assert order == ["answer", "notification"]


async def test_notifications_for_an_object_that_is_being_created_are_held() -> None:
    worker = FakeWorker()
    task = await send_request(worker, CREATE, body={"routerId": "r"}, creates="r")
    worker.channel.feed(worker.notify("r") + worker.notify("r", "CONSUMER_PRODUCER_RESUME"))
    worker.channel.feed(worker.accept(0) + worker.notify("r", "CONSUMER_PRODUCER_CLOSE"))
    await task
    for _ in range(3):
        await asyncio.sleep(0)  # the handler comes late
    seen: list[str] = []
    worker.channel.subscribe("r", lambda event, body: seen.append(event))
    assert seen == []  # whoever subscribes first finishes what it does
    await asyncio.sleep(0)
    assert seen == ["CONSUMER_PRODUCER_PAUSE", "CONSUMER_PRODUCER_RESUME", "CONSUMER_PRODUCER_CLOSE"]
    worker.channel.feed(worker.notify("r"))
    await asyncio.sleep(0)
    assert len(seen) == 4


async def test_a_refused_creation_drops_what_was_held() -> None:
    worker = FakeWorker()
    task = await send_request(worker, CREATE, body={"routerId": "r"}, creates="r")
    with pytest.raises(AlreadyExists):
        await worker.channel.request(CREATE, body={"routerId": "r"}, creates="r")
    worker.channel.feed(worker.notify("r") + worker.refuse(0, "Error"))
    with pytest.raises(WorkerRequestFailed):
        await task
    seen: list[str] = []
    worker.channel.subscribe("r", lambda event, body: seen.append(event))
    await asyncio.sleep(0)
    assert seen == []
    with pytest.raises(AlreadyExists):
        await worker.channel.request(CREATE, body={"routerId": "r"}, creates="r")


async def test_late_answers_are_undone_once() -> None:
    worker = FakeWorker(timeout_s=0.01)
    undo = Undo("WORKER_CLOSE_ROUTER", "", {"routerId": "r"})
    with pytest.raises(RequestTimeout):
        await worker.channel.request(CREATE, body={"routerId": "r"}, creates="r", undo=undo)
    worker.channel.feed(worker.notify("r") + worker.accept(0))
    assert [request["method"] for request in worker.requests] == [CREATE, "WORKER_CLOSE_ROUTER"]
    worker.channel.feed(worker.accept(1))
    assert worker.channel.pending_requests == 0


async def test_a_request_that_is_cancelled_and_accepted_at_once_is_undone() -> None:
    worker = FakeWorker()
    undo = Undo("WORKER_CLOSE_ROUTER", "", {"routerId": "r"})
    task = await send_request(worker, CREATE, body={"routerId": "r"}, creates="r", undo=undo)
    worker.channel.feed(worker.accept(0))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert worker.requests[1]["method"] == "WORKER_CLOSE_ROUTER"


async def test_a_late_refusal_is_not_undone() -> None:
    worker = FakeWorker(timeout_s=0.01)
    undo = Undo("WORKER_CLOSE_ROUTER", "", {"routerId": "r"})
    with pytest.raises(RequestTimeout):
        await worker.channel.request(CREATE, body={"routerId": "r"}, creates="r", undo=undo)
    worker.channel.feed(worker.refuse(0, "Error"))
    assert len(worker.requests) == 1


async def test_end_fails_every_pending_request_with_its_own_error() -> None:
    worker = FakeWorker()
    tasks = [await send_request(worker) for _ in range(2)]
    worker.channel.end(WorkerExited("the worker died", worker_pid=42))
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(error, WorkerExited) for error in errors)
    assert errors[0] is not errors[1]
    worker.channel.end(WorkerClosed("later"))
    with pytest.raises(WorkerExited):  # the first end counts
        await worker.channel.request("WORKER_DUMP")
    with pytest.raises(WorkerExited):
        worker.channel.notify("WORKER_CLOSE")


@pytest.mark.parametrize("garbage", [b"\xff\xff\xff\xff", frame(b"garbage"), frame(b"\0" * 4)])
async def test_garbage_is_reported(garbage: bytes) -> None:
    worker = FakeWorker()
    worker.channel.feed(garbage)
    assert len(worker.broken) == 1


async def test_a_request_from_the_worker_is_reported_as_garbage() -> None:
    worker = FakeWorker()
    worker.channel.feed(worker.send("Request", {"id": 1, "method": "WORKER_DUMP", "handlerId": ""}))
    assert len(worker.broken) == 1


async def test_unexpected_answers_and_failing_handlers_do_not_stop_the_channel() -> None:
    worker = FakeWorker()

    def fail(event: str, body: dict[str, Any]) -> None:
        raise ValueError(event)

    worker.channel.subscribe("x", fail)
    task = await send_request(worker)
    unrequested = worker.send("Response", {"id": 999, "accepted": True})
    nobody = worker.notify("nobody")
    worker.channel.feed(unrequested + worker.notify("x") + nobody + worker.accept(0))
    assert await task == {}
    await asyncio.sleep(0)
    assert worker.broken == []


async def test_a_worker_that_does_not_read_gets_no_more_notifications() -> None:
    worker = FakeWorker()
    worker.unsent_bytes = MAX_UNSENT_BYTES + 1
    with pytest.raises(WorkerRequestFailed):
        worker.channel.notify("PRODUCER_SEND", "p", {"data": b"x"})
    worker.unsent_bytes = 0
    worker.channel.notify("PRODUCER_SEND", "p", {"data": b"x"})
    assert worker.requests[0]["body"] == ("Producer_SendNotification", {"data": b"x"})


async def test_a_bad_body_is_never_sent() -> None:
    worker = FakeWorker()
    with pytest.raises(InvalidParameters):
        await worker.channel.request(CREATE, body={"routerId": 5}, creates="r")
    assert worker.requests == []
    task = await send_request(worker, CREATE, body={"routerId": "r"}, creates="r")  # and holds nothing
    worker.channel.feed(worker.accept(0))
    await task


async def test_request_ids_start_again_after_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "LAST_REQUEST_ID", 2)
    worker = FakeWorker()
    first, second = await send_request(worker), await send_request(worker)
    worker.channel.feed(worker.accept(0))
    await first
    third = await send_request(worker)
    assert [request["id"] for request in worker.requests] == [1, 2, 1]
    worker.channel.feed(worker.accept(1) + worker.accept(2))
    await asyncio.gather(second, third)


async def test_notifications_for_a_closed_object_are_dropped_without_a_log_line() -> None:
    worker = FakeWorker()
    seen: list[str] = []
    worker.channel.subscribe("x", lambda event, body: seen.append(event))
    worker.channel.unsubscribe("x")
    with capture_logs() as lines:
        worker.channel.feed(worker.notify("x"))
        await asyncio.sleep(0)
        worker.channel.end(WorkerClosed("the worker was closed"))
        worker.channel.feed(worker.notify("x"))
        await asyncio.sleep(0)
    assert (seen, lines) == ([], [])


async def test_each_request_is_a_span(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(channel_module, "_tracer", provider.get_tracer("test"))
    worker = FakeWorker()
    good, bad = await send_request(worker, "TRANSPORT_DUMP", handler_id="t"), await send_request(worker)
    worker.channel.feed(worker.accept(0) + worker.refuse(1, "Error"))
    await good
    with pytest.raises(WorkerRequestFailed):
        await bad
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert set(spans) == {"mediasoup.request transport.dump", "mediasoup.request worker.dump"}
    assert dict(spans["mediasoup.request transport.dump"].attributes or {}) == {
        "mediasoup.handler_id": "t",
        "mediasoup.worker_pid": 42,
    }
    assert not spans["mediasoup.request worker.dump"].status.is_ok
    provider.shutdown()
