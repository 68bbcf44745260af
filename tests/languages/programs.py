"""Programs of any language, each with a participant's token and nothing else; the examples print JSON objects."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from mafalda.auth.tokens import TokenKeys
from mafalda.contract.grants import Grants
from tests.e2e.conftest import Up

DEADLINE_S = 120
TOKEN_LIFE_S = 3600
Json = dict[str, Any]


def mint(fleet: Up, room: str, peer: str, *, moderate: bool = False) -> str:
    """What ``mafalda token mint`` prints."""
    assert fleet.keys is not None
    keys = TokenKeys.read(fleet.keys / "tokens.json")
    return keys.mint(Grants(rooms=[room], peer=peer, moderate=moderate), life_s=TOKEN_LIFE_S, now=int(time.time()))


def parse(line: bytes) -> Json:
    """What a program has printed in a line; anything but an object is under ``text``."""
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"text": line.decode(errors="replace").rstrip()}


class Program:
    """A running program, and all that it has printed."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[Json] = []
        self._name = name

    async def until(self, wanted: Callable[[Json], bool]) -> Json:
        """The next line that is wanted."""
        assert self.process.stdout
        try:
            async with asyncio.timeout(DEADLINE_S):
                while line := await self.process.stdout.readline():
                    self.lines.append(parse(line))
                    if wanted(self.lines[-1]):
                        return self.lines[-1]
        except TimeoutError:
            raise TimeoutError(f"{self._name} printed {self.lines}") from None
        raise AssertionError(f"{self._name} ended; it printed {self.lines}")

    async def has(self, key: str) -> Json:
        """The next line with this key."""
        return await self.until(lambda line: key in line)

    async def has_type(self, name: str) -> Json:
        """The next message of this type, of a program that prints messages as they are."""
        return await self.until(lambda line: line.get("type") == name)

    async def text(self, part: str) -> Json:
        """The next line with this text in it."""
        return await self.until(lambda line: part in line.get("text", ""))

    async def event(self, name: str) -> Json:
        """The data of the next event of this name."""
        data: Json = (await self.until(lambda line: line.get("event") == name))["data"]
        return data

    async def placed_after(self, generation: int) -> Json:
        """The next place of a greater generation."""
        return await self.until(lambda line: line.get("joined", {}).get("generation", 0) > generation)

    async def ended(self) -> int:
        """Read on to its end; its exit code."""
        assert self.process.stdout
        async with asyncio.timeout(DEADLINE_S):
            while line := await self.process.stdout.readline():
                self.lines.append(parse(line))
            return await self.process.wait()

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)


class Stage:
    """Starts programs, and ends those that still run."""

    def __init__(self, fleet: Up, room: str, stack: AsyncExitStack) -> None:
        self.room = room
        self._fleet = fleet
        self._stack = stack

    async def join(self, command: Sequence[str], peer: str, *words: str) -> Program:
        """Start an example as a participant of the room."""
        return await self._example(command, peer, words, moderate=False)

    async def moderate(self, command: Sequence[str], *words: str) -> Program:
        """Start an example as a moderator of the room, and wait for its end."""
        program = await self._example(command, "moderator", words, moderate=True)
        assert await program.ended() == 0, program.lines
        return program

    async def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> Program:
        """Start any program."""
        return await self._stack.enter_async_context(running(name, command, environment))

    async def _example(self, command: Sequence[str], peer: str, words: Sequence[str], *, moderate: bool) -> Program:
        token = mint(self._fleet, self.room, peer, moderate=moderate)
        arguments = [*command, self._fleet.nats_url, self.room, peer, *words]
        return await self.start(peer, arguments, {"MAFALDA_TOKEN": token})


@asynccontextmanager
async def running(name: str, command: Sequence[str], environment: Mapping[str, str]) -> AsyncIterator[Program]:
    """Any program, which is ended after the block if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=1 << 20,
    )
    try:
        yield Program(name, process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def stage(fleet: Up, room: str) -> AsyncIterator[Stage]:
    """Programs in one room of a fleet."""
    async with AsyncExitStack() as stack:
        yield Stage(fleet, room, stack)
