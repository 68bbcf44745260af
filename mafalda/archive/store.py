"""The files of an archive, in a folder or an object store (S3, Google Cloud Storage, Azure).

``log/`` has the segments, each under its first sequence, and ``state/`` the fleet's state as of the end
of each. A file is written once, as a whole, and only if there is none of its name: obstore does that on each kind of
store, so two writers cannot mix their segments.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import LocalStore, ObjectStore, from_url

from mafalda.archive.checkpoint import decode_checkpoint, encode_checkpoint, name_of
from mafalda.archive.errors import ArchiveDamaged, ArchiveUnavailable
from mafalda.archive.segment import SegmentInfo, Span, first_of, read_entries, read_info, verify_segment
from mafalda.archive.segment import name_of as segment_name
from mafalda.bus.protocol import Delivery
from mafalda.errors import BadInput
from mafalda.projection.state import State

FOLDER = "log"
STATES = "state"


class _RangeReader(io.RawIOBase):
    """Reads parts of one object: its metadata is at its end, and the rest may be large."""

    def __init__(self, store: ObjectStore, path: str) -> None:
        self._store, self._path = store, path
        self._size = obstore.head(store, path)["size"]
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        end = min(self._position + len(buffer), self._size)
        if end <= self._position:
            return 0
        found = obstore.get_range(self._store, self._path, start=self._position, end=end)
        buffer[: len(found)] = found
        self._position += len(found)
        return len(found)


class Archive:
    """The segments of an archive. All methods block: call them in a thread.

    Args:
        store: Where the files are.
        url: Its address without credentials, for messages.
    """

    def __init__(self, store: ObjectStore, url: str) -> None:
        self._store = store
        self.url = url
        self._info = lru_cache(maxsize=4_096)(self._read_info)

    def spans(self) -> list[Span]:
        """The sequences that each segment covers, in order.

        Whether a segment ends where the next one begins is checked when it is read.

        Raises:
            ArchiveDamaged: The last segment cannot be read.
            ArchiveUnavailable: The store cannot be read.
        """
        with self._reported():
            paths = [str(meta["path"]) for page in obstore.list(self._store, FOLDER) for meta in page]
        firsts = sorted(first for path in paths if (first := first_of(path.rpartition("/")[2])))
        spans = [Span(first, following - 1) for first, following in pairwise(firsts)]
        return [*spans, self._info(firsts[-1]).span] if firsts else []

    def add(self, span: Span, data: bytes) -> bool:
        """Write a segment.

        Returns:
            Whether it was written; ``False``: another writer has written it.
        """
        with self._reported():
            try:
                obstore.put(self._store, _path(span.first), data, mode="create")
            except AlreadyExistsError:
                return False
        return True

    def add_checkpoint(self, span: Span, state: State) -> None:
        """Write the state as of the end of a segment, before the segment itself."""
        with self._reported(), contextlib.suppress(AlreadyExistsError):
            obstore.put(self._store, f"{STATES}/{name_of(span)}", encode_checkpoint(state), mode="create")

    def checkpoint(self, span: Span) -> State | None:
        """The state as of the end of a segment, if it was written.

        Raises:
            ArchiveDamaged: It is not what was written.
        """
        with self._reported():
            try:
                raw = bytes(obstore.get(self._store, f"{STATES}/{name_of(span)}").bytes())
            except NotFoundError:
                return None
        return decode_checkpoint(raw, span)

    def info(self, span: Span) -> SegmentInfo:
        """The metadata of a segment."""
        return self._info(span.first)

    def read(
        self,
        span: Span,
        *,
        takes: Callable[[str], bool] | None = None,
        after_seq: int = 0,
        up_to_seq: int | None = None,
    ) -> list[Delivery]:
        """The entries of a segment. Arguments as in ``read_entries``."""
        return list(read_entries(self._load(span), span, takes=takes, after_seq=after_seq, up_to_seq=up_to_seq))

    def verify(self, span: Span) -> SegmentInfo:
        """Compare a segment with its digest.

        Raises:
            ArchiveDamaged: It is not what was written.
        """
        return verify_segment(self._load(span), span)

    def first_with(self, spans: list[Span], time: datetime) -> int:
        """The index of the first segment that may have entries of a time or later; their number if none has."""
        low, high = 0, len(spans)
        while low < high:
            middle = (low + high) // 2
            if self.info(spans[middle]).latest >= time:
                high = middle
            else:
                low = middle + 1
        return low

    def _read_info(self, first: int) -> SegmentInfo:
        with self._reported(), self._found(first):
            return read_info(io.BufferedReader(_RangeReader(self._store, _path(first))), first)

    def _load(self, span: Span) -> io.BytesIO:
        with self._reported(), self._found(span.first):
            return io.BytesIO(obstore.get(self._store, _path(span.first)).bytes())

    @contextlib.contextmanager
    def _found(self, first: int) -> Iterator[None]:
        try:
            yield
        except NotFoundError:
            raise ArchiveDamaged("a segment is missing", archive=self.url, file=segment_name(first)) from None

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except BaseError as error:
            reason = str(error).partition("\n")[0]  # what follows is a dump of obstore's own data
            raise ArchiveUnavailable("the archive cannot be reached", archive=self.url, reason=reason) from error


def _path(first: int) -> str:
    return f"{FOLDER}/{segment_name(first)}"


def open_archive(url: str) -> Archive:
    """Open an archive; a folder that is not there is made.

    Args:
        url: A folder, or ``s3://bucket/path``, ``gs://…``, ``az://…``. Credentials, region and endpoint come from the
            environment, by the names that each store's own tools use (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, …).

    Raises:
        BadInput: It is not such an address, or the folder cannot be made.
    """
    parts = urlsplit(url)
    shown = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
    try:
        if parts.scheme in ("", "file"):
            folder = Path(parts.path if parts.scheme else url).absolute()
            return Archive(LocalStore(prefix=folder, mkdir=True), str(folder))
        return Archive(from_url(url), shown)
    except (BaseError, OSError, ValueError) as error:
        # Its text may repeat the address with its password.
        raise BadInput("not the address of an archive", archive=shown, reason=type(error).__name__) from None
