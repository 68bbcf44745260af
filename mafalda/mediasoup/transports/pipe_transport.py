"""A pipe transport: media from one router to another, in the same worker or on another server.

All layers cross it, unchanged but for payload types and SSRCs. It has no ICE and no DTLS: it emits no event when its
far end is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mafalda.media.rtp import RtpCapabilities, SrtpParameters, TransportTuple
from mafalda.mediasoup import ortc
from mafalda.mediasoup.base.entity import EntityContext, JsonObject
from mafalda.mediasoup.base.ids import new_id
from mafalda.mediasoup.codec import shapes
from mafalda.mediasoup.endpoints.consumer import Consumer
from mafalda.mediasoup.endpoints.router_context import RouterContext
from mafalda.mediasoup.transports.bodies import consume_body
from mafalda.mediasoup.transports.transport import Transport


class PipeTransport(Transport):
    """Created by ``router.create_pipe_transport``."""

    type = "pipe"
    _stats_type = "pipe-transport"

    def __init__(self, context: EntityContext, router_context: RouterContext, dump: JsonObject) -> None:
        super().__init__(context, router_context, dump)
        self.rtx: bool = dump["rtx"]
        self._tuple = TransportTuple.model_validate(dump["tuple"])
        srtp = dump.get("srtpParameters")
        self.srtp_parameters = SrtpParameters.model_validate(srtp) if srtp is not None else None

    @property
    def tuple(self) -> TransportTuple:
        """Local and, after ``connect``, remote address."""
        return self._tuple

    async def connect(
        self, *, ip: str, port: int, srtp_parameters: SrtpParameters | Mapping[str, Any] | None = None
    ) -> None:
        """Give the worker the other pipe's address and key.

        Raises:
            InvalidParameters: Something is malformed, missing or superfluous.
            WorkerRequestFailed: It was called before.
        """
        srtp = ortc.parse(SrtpParameters, srtp_parameters) if srtp_parameters is not None else None
        body = {"ip": ip, "port": port, "srtpParameters": srtp.to_json_dict() if srtp is not None else None}
        answer = await self._request("PIPETRANSPORT_CONNECT", body)
        self._tuple = TransportTuple.model_validate(shapes.tuple_shape(answer["tuple"]))

    async def consume(
        self,
        *,
        producer_id: str,
        id: str | None = None,
        app_data: Mapping[str, Any] | None = None,
        rtp_capabilities: RtpCapabilities | Mapping[str, Any] | None = None,
        paused: bool = False,
        **unused: Any,
    ) -> Consumer:
        """Create a consumer that sends a producer of the same router, with all its layers, to the other pipe.

        The far end is a router, so its capabilities do not matter. ``produce`` there with the consumer's kind
        and RTP parameters, and the same producer id.

        Args:
            producer_id: Of the producer.
            id: Of the consumer; None: a new UUID4.
            app_data: The application's own.
            rtp_capabilities: Unused.
            paused: Whether it starts paused.
            unused: The other options of ``Transport.consume``; they have no effect on a pipe.

        Raises:
            NotFound: The router has no such producer.
        """
        self._check_open()
        producer = self._router_context.producers.require(producer_id)
        parameters = ortc.get_pipe_consumer_rtp_parameters(producer.consumable_rtp_parameters, self.rtx)
        body = consume_body(new_id(id), producer, parameters, paused=paused, layers=None, ignore_dtx=False, pipe=True)
        consumer, _ = await self.make_consumer(body, producer, parameters, app_data)
        return consumer
