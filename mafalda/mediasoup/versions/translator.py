"""Between a library of one mediasoup version and a worker of ours: whole messages, bytes in and bytes out.

What does not belong here: framing and pipes, which version it is (``choose``), what differs (``rules``).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from mafalda.mediasoup.channel.messages import SCHEMA
from mafalda.mediasoup.codec.decoder import Decoder
from mafalda.mediasoup.codec.encoder import Encoder
from mafalda.mediasoup.codec.schema import Schema
from mafalda.mediasoup.errors import InvalidParameters
from mafalda.mediasoup.versions.converter import Converter
from mafalda.mediasoup.versions.rules import TO_OURS, TO_THEIRS

_ROOT = "FBS.Message.Message"
_CREATES_TRANSPORT = "ROUTER_CREATE_"
Body = dict[str, Any]


class Said(NamedTuple):
    """What became of a message of the library: something for the worker, an answer for the library, or both."""

    to_worker: bytes | None
    to_library: bytes | None = None


class Translator:
    """Translates one channel; it remembers what only the library's version knows of its transports.

    Args:
        theirs: The schema of the library's version.
        knows_not_found: Whether its workers have an error of their own for what is not found (from 3.21.0).
    """

    def __init__(self, theirs: Schema, *, knows_not_found: bool) -> None:
        self._read_theirs, self._write_theirs = Decoder(theirs), Encoder(theirs)
        self._read_ours, self._write_ours = Decoder(SCHEMA), Encoder(SCHEMA)
        self._to_ours = Converter(theirs, SCHEMA, TO_OURS)
        self._to_theirs = Converter(SCHEMA, theirs, TO_THEIRS)
        self._knows_not_found = knows_not_found
        self._events = theirs.enums["FBS.Notification.Event"].number_of
        self._bodies = theirs.unions["FBS.Response.Body"].members
        # What a transport's SCTP was asked for and our workers do not know, and its router.
        self._streams: dict[str, tuple[str, Body]] = {}

    def from_library(self, payload: bytes) -> Said:
        """A message of the library.

        Returns:
            The same for a worker of ours, or the refusal of what it does not know.

        Raises:
            FramingError: It is none of the library's version.
        """
        message = self._read_theirs.decode(_ROOT, payload)
        kind, data = message.get("data", ("", {}))
        if kind == "Request":
            if data["method"] == "WORKER_CLOSE":  # a notification since 3.19.18; before, it was granted
                close = ("Notification", {"event": "WORKER_CLOSE", "handlerId": ""})
                granted = ("Response", {"id": data["id"], "accepted": True})
                return Said(
                    self._write_ours.encode(_ROOT, {"data": close}), self._write_theirs.encode(_ROOT, {"data": granted})
                )
            self._remember(data)
        self._to_ours.convert(_ROOT, message)
        try:
            return Said(self._write_ours.encode(_ROOT, message))
        except InvalidParameters as error:
            return Said(None, None if kind != "Request" else self._refusal(data, error))

    def to_library(self, payload: bytes) -> bytes | None:
        """A message of our worker for the library; None: its version has no such message.

        Raises:
            FramingError: It is no message of ours.
        """
        message = self._read_ours.decode(_ROOT, payload)
        kind, data = message.get("data", ("", {}))
        if kind == "Notification" and data["event"] not in self._events:
            return None
        if kind == "Response":
            self._fit(data)
        self._to_theirs.convert(_ROOT, message)
        if kind == "Response" and self._streams and "body" in data:
            self._put_streams(data["body"][1])
        try:
            return self._write_theirs.encode(_ROOT, message)
        except InvalidParameters as error:
            if kind != "Response":
                return self._complaint(f"a {kind} that this version cannot say: {error}")
            reason = f"an answer that this version cannot say: {error}"
            refused = {"id": data["id"], "accepted": False, "error": "Error", "reason": reason}
            return self._write_theirs.encode(_ROOT, {"data": ("Response", refused)})

    def _fit(self, response: Body) -> None:
        """Errors and bodies that the version has."""
        if response.get("error") == "NotFoundError" and not self._knows_not_found:
            response["error"] = "Error"
        if "body" in response and response["body"][0] not in self._bodies:
            del response["body"]

    def _refusal(self, request: Body, error: InvalidParameters) -> bytes:
        method = request["method"]
        if method not in SCHEMA.enums["FBS.Request.Method"].number_of:
            kind, reason = "Error", f"unknown method '{method}'"
        else:
            path = error.details.get("path")
            kind, reason = "TypeError", f"{path}: {error.reason} [method:{method}]" if path else error.reason
        refused = {"id": request["id"], "accepted": False, "error": kind, "reason": reason}
        return self._write_theirs.encode(_ROOT, {"data": ("Response", refused)})

    def _complaint(self, line: str) -> bytes:
        return self._write_theirs.encode(_ROOT, {"data": ("Log", {"data": f"Wmafalda-worker: {line}"})})

    # --- what workers before 3.21 gave back in dumps as it was asked for -----------------------------------

    def _remember(self, request: Body) -> None:
        method = request["method"]
        if not method.startswith(_CREATES_TRANSPORT):
            if not self._streams or "body" not in request:
                return
            if method == "ROUTER_CLOSE_TRANSPORT":
                self._streams.pop(request["body"][1]["transportId"], None)
            elif method == "WORKER_CLOSE_ROUTER":
                gone = request["body"][1]["routerId"]
                self._streams = {id: of for id, of in self._streams.items() if of[0] != gone}
            return
        body = request["body"][1] if "body" in request else {}
        options = body.get("options") or {}
        streams = (options.get("base") or {}).get("numSctpStreams")
        if streams:
            asked = {**streams, "sendBufferSize": options["base"].get("sctpSendBufferSize", 0)}
            self._streams[body["transportId"]] = (request["handlerId"], asked)

    def _put_streams(self, body: Body) -> None:
        base = body.get("base")
        if isinstance(base, dict) and base.get("sctpParameters") and base.get("id") in self._streams:
            base["sctpParameters"].update(self._streams[base["id"]][1])
