"""Waiting for the first of several events, and work that ends as soon as an event is set."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from mafalda.aio.tasks import cancel_and_wait

T = TypeVar("T")


class Interrupted(Exception):
    """The event was set before the work was done."""


async def run_unless_set(event: asyncio.Event, work: Coroutine[Any, Any, T], name: str) -> T:
    """Do ``work``, and cancel it as soon as ``event`` is set.

    Raises:
        Interrupted: The event was set, before or meanwhile.
    """
    if event.is_set():
        work.close()
        raise Interrupted
    task = asyncio.create_task(work, name=name)
    watch = asyncio.create_task(event.wait(), name=f"{name}-interrupt")
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Interrupted
        return task.result()
    finally:
        await cancel_and_wait(task, watch)


async def wait_first(*events: asyncio.Event) -> None:
    """Wait until one of the events is set."""
    if any(event.is_set() for event in events):
        return
    waits = [asyncio.create_task(event.wait(), name="wait-first") for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancel_and_wait(*waits)
