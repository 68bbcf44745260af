"""What the library gets before the rest is loaded, because applications wait for their workers to start.

Only the standard library is imported here.
"""

from __future__ import annotations

import os
import struct

READ_FD, WRITE_FD = 3, 4
_PREFIX = struct.Struct("<I")
# As ``worker_side`` encodes them: everything up to the length of the text. A test compares.
_RUNNING = bytes.fromhex("0c000000080009000800040008000000100000000300000008000900040008000800000008000000")
_LOG = bytes.fromhex("0c0000000800090008000400080000000c00000004000600080004000600000004000000")


def running_frame(pid: int, event: int) -> bytes:
    """The notification WORKER_RUNNING, as a frame.

    Args:
        pid: Of the process that the library spawned.
        event: The number of the event in the schema of the library's version.
    """
    return _frame(_RUNNING + bytes((event, 0, 0, 0)), str(pid))


def log_frame(line: str) -> bytes:
    """A log line, as a frame; the line's first character is the level."""
    return _frame(_LOG, line)


def _frame(head: bytes, text: str) -> bytes:
    raw = text.encode()
    payload = head + _PREFIX.pack(len(raw)) + raw + b"\0"
    return _PREFIX.pack(len(payload)) + payload


def write_frame(frame: bytes) -> None:
    """Write a whole frame to the library."""
    while frame:
        frame = frame[os.write(WRITE_FD, frame) :]
