"""Record a room: each producer, of now and to come, into a WebM file of its own.

    python examples/python/record_room.py lobby recordings --seconds 60

A worker that dies leaves a gap in a recording, not two files. Ends after the time, or with Ctrl-C.
NATS is at MAFALDA_NATS_URL, else on this machine; in a closed fleet
MAFALDA_NKEY_FILE names the application's nkey, which `mafalda up` prints.
"""

import argparse
import asyncio
from contextlib import suppress
from pathlib import Path

from mafalda.client import Room, connect
from mafalda.client.media import record_track
from mafalda.contract.messages.queries import ProducerInfo
from mafalda.errors import Refused


async def record(room: Room, producer: ProducerInfo, folder: Path) -> None:
    try:
        consumer = await room.consume(producer.producer)
    except Refused as error:  # it is gone already, or nothing here can decode it
        print(f"not recording {producer.producer}: {error}", flush=True)
        return
    path = folder / f"{producer.peer}-{producer.producer}.webm"
    print(f"recording {path}", flush=True)
    await record_track(consumer.track, path)


async def record_all(room: Room, folder: Path) -> None:
    async with asyncio.TaskGroup() as recordings:
        async for producer in room.arrivals():
            if isinstance(producer, ProducerInfo):
                recordings.create_task(record(room, producer, folder))


async def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("room")
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--seconds", type=float, help="how long; for ever if not given")
    options = arguments.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)

    async with connect() as mafalda, mafalda.join(options.room) as room:
        with suppress(TimeoutError):
            async with asyncio.timeout(options.seconds):
                await record_all(room, options.folder)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
