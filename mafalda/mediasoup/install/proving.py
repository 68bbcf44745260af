"""The self-test of a fresh worker, with and without its batch; one that fails with it is built to do without.

What does not belong here: what the self-test does (``selftest``).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from mafalda.mediasoup.install.built import Part
from mafalda.mediasoup.install.errors import BuildFailed, SelfTestFailed
from mafalda.mediasoup.install.locate import starts
from mafalda.mediasoup.install.progress import Progress, Step

_DEFAULT = Path("include") / "handles" / "UdpSendBatchDefault.hpp"


def prove_both_ways(
    worker: Path, binary: Path, recompile: Callable[[], Path], progress: Progress, log: TextIO
) -> tuple[Part, dict[str, Any]]:
    """Run the self-test without the batch, then with it.

    Args:
        worker: The prepared source.
        binary: What was built of it.
        recompile: Builds it again after a change of the source, in the same place.
        progress: Told what is being done.
        log: Gets what was seen.

    Returns:
        Whether the worker batches by default, and what was seen of each way.

    Raises:
        BuildFailed: the worker does not start.
        SelfTestFailed: it does not carry media even without the batch.
    """
    progress(Step("self-test", "bursts of packets, DTLS handshakes in both roles, and media through the new worker"))
    if not starts(binary):
        raise BuildFailed("the new worker does not start", log_path=Path(log.name), tail=f"see: ldd {binary.name}")
    seen = {"off": _self_test(binary, "off", log)}
    try:
        seen["on"] = _self_test(binary, "on", log)
    except SelfTestFailed as error:
        progress(Step("self-test", f"it will not batch what it sends: {error.reason}"))
        default = worker / _DEFAULT
        default.write_text(default.read_text(encoding="utf-8").replace("{ true }", "{ false }"), encoding="utf-8")
        recompile()
        return Part(as_meant=False, reason=error.reason), seen
    return Part(as_meant=True), seen


def _self_test(binary: Path, batch: str, log: TextIO) -> dict[str, Any]:
    # Imported late: the WebRTC endpoint takes a second to import and only a build needs it.
    from mafalda.mediasoup.install.selftest import run_self_test

    try:
        seen = run_self_test(binary, batch=batch).to_json()
    except SelfTestFailed as error:
        log.write(f"self-test, batch {batch}: {error}\n")
        raise
    log.write(f"self-test, batch {batch}: {json.dumps(seen)}\n")
    return seen
