"""Echo data: every message on anybody's data channel comes back on a channel called "echo".

    python examples/python/echo_data.py lobby

Ends with Ctrl-C. NATS is at MAFALDA_NATS_URL, else on this machine; in a closed fleet
MAFALDA_NKEY_FILE names the application's nkey, which `mafalda up` prints.
"""

import argparse
import asyncio
from contextlib import suppress

from mafalda.client import DataProducer, Room, connect
from mafalda.contract.messages.queries import DataProducerInfo
from mafalda.errors import NotFound


async def echo(room: Room, channel: DataProducerInfo, back: DataProducer) -> None:
    with suppress(NotFound):  # it is gone already
        async for message in await room.consume_data(channel.data_producer):
            back.send(message)


async def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("room")
    options = arguments.parse_args()

    async with connect() as mafalda, mafalda.join(options.room) as room, asyncio.TaskGroup() as echoes:
        back = await room.produce_data(label="echo")
        print(f"echoing on {back.id}", flush=True)
        async for producer in room.arrivals():
            if isinstance(producer, DataProducerInfo) and producer.label != "echo":
                echoes.create_task(echo(room, producer, back))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
