"""Tracks that stay live when the peer gets another place.

aiortc stops a track for good when the sender or receiver that has it is stopped, which happens at each move. So a
sender gets a proxy of the application's track, and the application gets a proxy of the receiver's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from av.frame import Frame
from av.packet import Packet

from mafalda.aio.bounded_queue import BoundedQueue
from mafalda.errors import MafaldaError

MediaFrame = av.VideoFrame | av.AudioFrame


class OutgoingTrack(MediaStreamTrack):
    """The application's track, for one sender. Stopping this one leaves the application's alone.

    It takes no frame before ``start``: until then another sender may have the source.
    """

    def __init__(self, source: MediaStreamTrack, *, paused: bool) -> None:
        super().__init__()
        self.kind = source.kind
        self.paused = paused
        self._source = source
        self._started = asyncio.Event()

    def start(self) -> None:
        """Take frames from now on."""
        self._started.set()

    def stop(self) -> None:
        """End this track."""
        super().stop()
        self._started.set()

    async def recv(self) -> Frame | Packet[Any]:
        """The next frame to send. While paused, frames are taken and dropped: the source stays in time."""
        await self._started.wait()
        while self.readyState == "live":
            frame = await self._source.recv()
            if not self.paused:
                return frame
        raise MediaStreamError("this sender has ended")


class IncomingTrack(MediaStreamTrack):
    """What a consumer receives, over any number of receivers one after the other, with one running time.

    Frames wait in a bounded queue; if the application does not take them, the oldest go.
    """

    def __init__(self, kind: str, max_queued: int) -> None:
        super().__init__()
        self.kind = kind
        self._frames: BoundedQueue[MediaFrame] = BoundedQueue(max_queued, overflow="drop-oldest")
        self._last_pts = 0
        self._last_s: float | None = None

    @property
    def dropped(self) -> int:
        """Frames that were decoded, but not taken in time."""
        return self._frames.dropped

    async def recv(self) -> MediaFrame:
        """The next decoded frame.

        Raises:
            MediaStreamError: The consumer is closed.
        """
        try:
            return await self._frames.take()
        except MafaldaError as error:
            raise MediaStreamError(str(error)) from None

    async def pump(self, receiver: MediaStreamTrack, on_first: Callable[[], object] = lambda: None) -> None:
        """Take everything from a receiver's track until that ends.

        Args:
            receiver: One at a time, but for a former receiver that ends at ``on_first``.
            on_first: Called when the first frame comes.
        """
        shift: int | None = None
        while True:
            try:
                frame = await receiver.recv()
            except MediaStreamError:
                return
            if not isinstance(frame, av.VideoFrame | av.AudioFrame):
                continue
            if shift is None:
                shift = self._shift(frame)
                on_first()
            if frame.pts is not None:
                frame.pts += shift
                self._last_pts = frame.pts
            self._last_s = asyncio.get_running_loop().time()
            self._frames.put(frame)

    def _shift(self, first: MediaFrame) -> int:
        """What to add to a new receiver's timestamps: they go on as much later as the time that passed."""
        if self._last_s is None or first.time_base is None:
            return 0
        passed_s = Fraction(asyncio.get_running_loop().time() - self._last_s)
        return self._last_pts + max(1, int(passed_s / Fraction(first.time_base))) - (first.pts or 0)

    def stop(self) -> None:
        """End the track; what was received already can still be taken."""
        self._frames.end()
        super().stop()
