"""The documentation's example is run as it stands."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

DOCUMENT = Path(__file__).parents[3] / "docs" / "driver.md"


async def test_the_example_of_the_documentation(worker_bin: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        example,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    assert b"arrived: b'opus'" in output
    assert b"outbound-rtp" in output
