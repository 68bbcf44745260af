"""Child processes of a measurement."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_START_TIMEOUT_S = 120


@asynccontextmanager
async def child(*arguments: str) -> AsyncIterator[int]:
    """A Python process, from its first line of output until the end of the block; its standard input ends then.

    Args:
        arguments: Of the interpreter, such as ``-m mafalda agent --stop-with-stdin``.

    Raises:
        RuntimeError: It ended without a word.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdin
    assert process.stdout
    try:
        async with asyncio.timeout(_START_TIMEOUT_S):
            if not await process.stdout.readline():
                raise RuntimeError(f"{' '.join(arguments)} did not start")
        yield process.pid
    finally:
        process.stdin.close()
        await process.wait()
