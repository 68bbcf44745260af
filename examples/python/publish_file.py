"""Publish a file: every picture and sound that FFmpeg can read becomes a live track of a room.

    python examples/python/publish_file.py lobby holiday.mp4 --loop

Ends with the file, or with Ctrl-C. NATS is at MAFALDA_NATS_URL, else on this machine; in a closed fleet
MAFALDA_NKEY_FILE names the application's nkey, which `mafalda up` prints.
"""

import argparse
import asyncio
from contextlib import suppress
from pathlib import Path

from mafalda.client import connect
from mafalda.client.media import open_playback


async def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("room")
    arguments.add_argument("file", type=Path)
    arguments.add_argument("--loop", action="store_true", help="begin again at the end, for ever")
    options = arguments.parse_args()

    async with (
        open_playback(options.file, loop=options.loop) as playback,
        connect() as mafalda,
        mafalda.join(options.room, app_data={"title": options.file.name}) as room,
    ):
        for track in playback.tracks:
            producer = await room.produce(track)
            print(f"{producer.kind} {producer.id} on {room.worker}", flush=True)
        await playback.finished()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
