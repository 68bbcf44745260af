"""The self-test of a worker, on real ones: the installed one passes, what is no worker does not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aioice.ice
import pytest

from mafalda.mediasoup.install import find_worker_bin
from mafalda.mediasoup.install.errors import SelfTestFailed
from mafalda.mediasoup.install.selftest import self_test

# Starts, says nothing, and ends with its input, as a hung worker would.
SILENT = "#!/bin/sh\nexec cat <&3 >/dev/null\n"


@pytest.mark.parametrize("batch", ["on", "off"])
async def test_the_installed_worker_carries_packets_and_a_tone_with_both_dtls_roles(batch: str) -> None:
    binary = find_worker_bin()
    assert binary is not None, "run: mafalda worker install"
    addresses = aioice.ice.get_host_addresses
    seen = await self_test(binary, batch=batch)
    assert seen.packets == 480
    assert set(seen.dtls_roles) == {"client", "server"}
    assert seen.frames_decoded >= 25
    assert seen.tone_hz == pytest.approx(1000.0, abs=50.0)
    assert aioice.ice.get_host_addresses is addresses
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert [task for task in others if not task.done()] == []


async def test_a_program_that_is_no_worker_fails() -> None:
    with pytest.raises(SelfTestFailed, match="the worker failed"):
        await self_test(Path("/bin/true"))


async def test_a_silent_worker_fails_within_the_deadline(tmp_path: Path) -> None:
    silent = tmp_path / "silent"
    silent.write_text(SILENT)
    silent.chmod(0o755)
    with pytest.raises(SelfTestFailed, match="in time"):
        await self_test(silent, deadline_s=0.5)
