"""All media endpoints of the load test on one event loop: their sockets, handshakes and received packets.

What does not belong here: what a peer asks of the fleet.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pylibsrtp
import structlog

from mafalda.contract.messages.results import TransportResult
from mafalda.errors import Broken, DeadlineExceeded, MafaldaError, UnsupportedError
from mafalda.loadtest.batch_reader import TRANSIENT_ERRORS, Batch, BatchReader, drops, open_socket
from mafalda.loadtest.handshake import Handshake, SrtpSessions
from mafalda.loadtest.identity import new_identity
from mafalda.loadtest.rtp import sent_at_ns
from mafalda.loadtest.stream_table import Array, StreamTable

_REPEAT_S = 0.25
#: Between two reads: what arrives meanwhile is read together. Short while an endpoint is being opened, whose handshake
#: and key frame wait for it; the kernel stamps packets, so nothing that is measured depends on it.
_GATHER_S, _GATHER_WHILE_OPENING_S = 0.1, 0.001
#: The worker disconnects who sent no check for 30 s (RFC 7675). Those that are due are sent every so often, together.
_CONSENT_INTERVAL_S, _CONSENT_TICK_S = 8.0, 0.1
#: Of each stream one packet of so many is decrypted.
_SAMPLE_EVERY = 256
_RTP_HEADER_BYTES = 12

_log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class MediaEndpoint:
    """One WebRTC transport's far end.

    Attributes:
        number: Of its socket in the reader.
        sessions: SRTP; ``None`` until the handshake is done.
        on_rtcp: Called with each decrypted RTCP packet; ``None``: RTCP is not decrypted.
        consent_at: When the next check is due, in the loop's time.
        first_arrival_ns: When its first RTP packet arrived, in nanoseconds since the epoch; 0: none has.
        rows: Of its streams in the hub's table.
        keys: By which the hub finds these rows.
    """

    number: int
    socket: socket.socket
    handshake: Handshake
    sessions: SrtpSessions | None = None
    on_rtcp: Callable[[bytes], None] | None = None
    consent_at: float = 0.0
    first_arrival_ns: int = 0
    rows: list[int] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    _connected: asyncio.Event = field(default_factory=asyncio.Event)
    _error: MafaldaError | None = None

    def send_rtp(self, packet: bytes) -> None:
        """Encrypt and send a packet; dropped if the system's buffers are full, as a network would."""
        assert self.sessions is not None
        self.send(self.sessions.outbound.protect(packet))

    def send_rtcp(self, packet: bytes) -> None:
        """As ``send_rtp``."""
        assert self.sessions is not None
        self.send(self.sessions.outbound.protect_rtcp(packet))

    def send(self, datagram: bytes) -> None:
        """Send as it is."""
        try:
            self.socket.send(datagram)
        except OSError as error:
            if error.errno not in TRANSIENT_ERRORS:  # silence is noticed elsewhere
                raise

    def advance(self, datagram: bytes) -> None:
        """Take an answer of the handshake."""
        try:
            for answer in self.handshake.take(datagram):
                self.send(answer)
        except MafaldaError as error:
            self._error = error
        self.sessions = self.handshake.sessions
        if self.sessions is not None or self._error is not None:
            self._connected.set()

    async def connect(self, timeout_s: float) -> None:
        """Do the handshake.

        Raises:
            Broken: The server refused it.
            DeadlineExceeded: It did not answer in time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while not self._connected.is_set():
                    for datagram in self.handshake.repeat():
                        self.send(datagram)
                    try:
                        await asyncio.wait_for(self._connected.wait(), _REPEAT_S)
                    except TimeoutError:
                        continue
        except TimeoutError:
            raise DeadlineExceeded("no ICE or DTLS answer in time", timeout_s=timeout_s) from None
        if self._error is not None:
            raise self._error


class MediaHub:
    """Opens endpoints and counts what they receive. ``run`` while it is used, ``close`` at the end.

    Args:
        receive_buffer_bytes: Of each socket.
        handshake_timeout_s: For ICE and DTLS of one endpoint.
    """

    def __init__(self, *, receive_buffer_bytes: int, handshake_timeout_s: float) -> None:
        self.table = StreamTable()
        self.identity = new_identity()
        #: Samples of the time from a packet's encoding to its arrival, in seconds.
        self.latencies_s: list[float] = []
        self.decrypted = 0
        self.decrypt_failures = 0
        #: RTP packets of streams that no viewer knows (yet).
        self.unknown = 0
        self._receive_buffer_bytes = receive_buffer_bytes
        self._handshake_timeout_s = handshake_timeout_s
        self._reader = BatchReader()
        self._endpoints: dict[int, MediaEndpoint] = {}
        self._rows: dict[int, int] = {}
        self._owners: list[MediaEndpoint] = []  # by row
        self._numbers = 0
        self._opening = 0
        self._dropped = 0  # at sockets that are closed
        self._failed: asyncio.Future[None] | None = None  # while it runs

    @property
    def dropped_here(self) -> int:
        """Packets that this machine dropped because the load test did not read them in time."""
        return self._dropped + sum(drops(each.socket) for each in self._endpoints.values())

    async def run(self) -> None:
        """Read until it is cancelled, and keep the servers' consent.

        Raises:
            OSError: A socket cannot be read.
        """
        loop = asyncio.get_running_loop()
        failed = self._failed = loop.create_future()
        self._resume()
        try:
            while not failed.done():
                await asyncio.wait((failed,), timeout=_CONSENT_TICK_S)
                self._keep_consent(loop.time())
            await failed
        finally:
            self._failed = None
            loop.remove_reader(self._reader.fileno())

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Inside, what arrives is read at once."""
        self._opening += 1
        if self._opening == 1:
            self._resume()
        try:
            yield
        finally:
            self._opening -= 1

    def close(self) -> None:
        """Close all endpoints."""
        for endpoint in list(self._endpoints.values()):
            self.close_endpoint(endpoint)
        self._reader.close()

    async def open_endpoint(
        self, transport: TransportResult, on_rtcp: Callable[[bytes], None] | None = None
    ) -> MediaEndpoint:
        """Connect to a transport of a worker: ICE, DTLS, SRTP keys.

        Args:
            transport: As its agent made it, with the ICE password.
            on_rtcp: Called with each RTCP packet.

        Raises:
            UnsupportedError: The transport has no UDP candidate.
            MafaldaError: The handshake failed.
        """
        udp = next((each for each in transport.ice_candidates if each.protocol == "udp"), None)
        if udp is None or transport.ice_parameters is None:
            raise UnsupportedError("the transport has no UDP candidate")
        handshake = Handshake(transport.ice_parameters, transport.dtls_parameters.fingerprints, self.identity)
        self._numbers += 1
        try:
            opened = open_socket((udp.address or udp.ip, udp.port), self._receive_buffer_bytes)
        except OSError as error:
            raise Broken("cannot open a socket to the transport", reason=str(error)) from None
        endpoint = MediaEndpoint(self._numbers, opened, handshake, on_rtcp=on_rtcp)
        self._endpoints[endpoint.number] = endpoint
        self._reader.add(opened, endpoint.number)
        try:
            with self.opening():
                await endpoint.connect(self._handshake_timeout_s)
        except BaseException:
            self.close_endpoint(endpoint)
            raise
        return endpoint

    def close_endpoint(self, endpoint: MediaEndpoint) -> None:
        """Close its socket; what it received stays counted."""
        if self._endpoints.pop(endpoint.number, None) is None:
            return
        self._dropped += drops(endpoint.socket)
        self._reader.remove(endpoint.socket)
        endpoint.socket.close()
        for key in endpoint.keys:
            self._rows.pop(key, None)

    def expect(self, endpoint: MediaEndpoint, ssrc: int, clock_rate: int) -> int:
        """Count a stream of an endpoint from now on; returns its row in ``table``."""
        row = self.table.add(clock_rate)
        key = endpoint.number << 32 | ssrc
        self._rows[key] = row
        endpoint.keys.append(key)
        self._owners.append(endpoint)
        endpoint.rows.append(row)
        return row

    def forget(self, endpoint: MediaEndpoint, ssrc: int) -> None:
        """A stream of an endpoint has ended; what came of it stays counted."""
        key = endpoint.number << 32 | ssrc
        row = self._rows.pop(key, None)
        if row is not None:
            endpoint.keys.remove(key)
            endpoint.rows.remove(row)

    def _keep_consent(self, now: float) -> None:
        for endpoint in self._endpoints.values():
            if endpoint.sessions is not None and endpoint.consent_at <= now:
                endpoint.consent_at = now + _CONSENT_INTERVAL_S
                endpoint.send(endpoint.handshake.binding_request())

    # --- reading ----------------------------------------------------------------------------------------

    def _resume(self) -> None:
        if self._failed is not None:
            asyncio.get_running_loop().add_reader(self._reader.fileno(), self._read)

    def _read(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            batch = self._reader.read()
            if batch is not None:
                self._take(batch)
                if batch.is_partial:
                    return  # called again at once
        except Exception as error:
            loop.remove_reader(self._reader.fileno())
            if self._failed is not None and not self._failed.done():
                self._failed.set_exception(error)
            return
        loop.remove_reader(self._reader.fileno())
        loop.call_later(_GATHER_WHILE_OPENING_S if self._opening else _GATHER_S, self._resume)

    def _take(self, batch: Batch) -> None:
        first = batch.data[:, 0]
        kinds = batch.data[:, 1]
        is_media = (first >= 128) & (first < 192) & (batch.lengths >= _RTP_HEADER_BYTES)
        is_rtcp = is_media & (kinds >= 192) & (kinds < 224)  # RFC 5761
        for index in np.flatnonzero(~is_media | is_rtcp):
            self._take_other(batch, int(index), is_rtcp=bool(is_rtcp[index]))
        chosen = np.flatnonzero(is_media & ~is_rtcp)
        if len(chosen):
            self._take_rtp(batch, chosen)

    def _take_other(self, batch: Batch, index: int, *, is_rtcp: bool) -> None:
        endpoint = self._endpoints.get(int(batch.sources[index]))
        if endpoint is None or (is_rtcp and endpoint.on_rtcp is None):
            return
        datagram = batch.data[index, : batch.lengths[index]].tobytes()
        if not is_rtcp:
            endpoint.advance(datagram)
        elif endpoint.on_rtcp is not None and endpoint.sessions is not None:
            try:
                endpoint.on_rtcp(endpoint.sessions.inbound.unprotect_rtcp(datagram))
            except pylibsrtp.Error:
                self.decrypt_failures += 1

    def _take_rtp(self, batch: Batch, chosen: Array) -> None:
        headers = batch.data[chosen, :_RTP_HEADER_BYTES]
        ssrcs = headers[:, 8:12].copy().view(">u4")[:, 0].astype(np.int64)
        keys = batch.sources[chosen] << 32 | ssrcs
        known = self._rows
        rows = np.array([known.get(key, -1) for key in keys.tolist()], np.int64)
        if (is_unknown := rows < 0).any():
            self.unknown += int(is_unknown.sum())
            is_known = ~is_unknown
            rows, headers, chosen = rows[is_known], headers[is_known], chosen[is_known]
            if not len(rows):
                return
        sequences = headers[:, 2:4].copy().view(">u2")[:, 0]
        timestamps = headers[:, 4:8].copy().view(">u4")[:, 0]
        arrivals_ns = batch.arrivals_ns[chosen]
        # About one packet of 256 by its number, and the first one of each stream.
        sampled = (sequences.astype(np.int64) + rows) % _SAMPLE_EVERY == 0
        for row in self.table.take(rows, sequences, timestamps, arrivals_ns, batch.lengths[chosen]).tolist():
            sampled[np.argmax(rows == row)] = True
            owner = self._owners[row]
            if not owner.first_arrival_ns:
                owner.first_arrival_ns = int(self.table["first_arrival_ns"][row])
        for index in chosen[sampled].tolist():
            self._decrypt(batch, index)

    def _decrypt(self, batch: Batch, index: int) -> None:
        endpoint = self._endpoints.get(int(batch.sources[index]))
        if endpoint is None or endpoint.sessions is None:
            return
        packet = batch.data[index, : batch.lengths[index]].tobytes()
        try:
            clear = endpoint.sessions.inbound.unprotect(packet)
        except pylibsrtp.Error as error:
            self.decrypt_failures += 1
            _log.warning("a packet could not be decrypted", action="load_decrypt", reason=str(error))
            return
        self.decrypted += 1
        if (sent_ns := sent_at_ns(clear)) is not None:
            self.latencies_s.append((int(batch.arrivals_ns[index]) - sent_ns) / 1e9)


def now_ns() -> int:
    """The clock that arrivals are measured by: nanoseconds since the epoch."""
    return time.time_ns()
