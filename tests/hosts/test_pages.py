"""Three people on the room page, over two servers: what each failure costs them, and that all recover by themselves.

The pages are in a Chromium on a host of its own, which can be cut off from everything.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, async_playwright

from mafalda.bus.config import BusConfig
from mafalda.cli.page import PageAccess, RoomPage, serve_page
from mafalda.cli.serving import listen
from tests.hosts.fleet import HostFleet, open_fleet
from tests.hosts.network import Host, network, why_not

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DIST = Path(__file__).resolve().parents[2] / "web" / "room" / "dist"
ROOM = "three"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--use-fake-device-for-media-stream=fps=15",
    "--use-fake-ui-for-media-stream",
)
NAMES = ("Ana", "Bruno", "Carla")
TIMEOUT_MS = 120_000
OFFLINE_S = 60
NEW_FRAMES = 20


def missing() -> str:
    """What these tests need and this machine does not have; empty if nothing."""
    if reason := why_not():
        return reason
    if CHROMIUM is None or not (DIST / "index.html").is_file():
        return "no chromium (`scripts/bootstrap --chromium`), or the page is not built (`scripts/web build`)"
    return "" if shutil.which("iptables") else "the program `iptables` is missing"


pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(missing()), reason=missing() or "all is there"),
]

#: Counts the frames that each camera of the others has shown, whatever element shows it, and the longest time without
#: a new one.
WATCH = """() => {
    const cameras = (window.cameras = new Map());
    window.sockets = [];
    window.WebSocket = class extends window.WebSocket {
        constructor(...args) {
            super(...args);
            window.sockets.push(this);
        }
    };
    setInterval(() => {
        const now = performance.now();
        for (const tile of document.querySelectorAll(".tile.camera")) {
            if (tile.textContent.includes("(you)")) continue;
            const shown = tile.querySelector("video")?.getVideoPlaybackQuality().totalVideoFrames ?? 0;
            const it = cameras.get(tile.dataset.peer) ?? { last: 0, frames: 0, at: now, longestMs: 0 };
            cameras.set(tile.dataset.peer, it);
            if (shown > 0 && shown !== it.last) {
                it.frames += shown > it.last ? shown - it.last : shown;
                it.at = now;
            }
            it.last = shown;
        }
        for (const it of cameras.values()) it.longestMs = Math.max(it.longestMs, now - it.at);
    }, 20);
}"""
COUNT_FROM_NOW = "() => window.cameras.forEach((it) => (it.frames = 0))"
MEASURE_FROM_NOW = "() => window.cameras.forEach((it) => Object.assign(it, { at: performance.now(), longestMs: 0 }))"
FLOWS = """([others, wanted]) => document.querySelector('[data-state="joined"]') !== null
    && [...window.cameras.values()].filter(({ frames }) => frames >= wanted).length === others"""
LONGEST = "() => Math.max(...[...window.cameras.values()].map(({ longestMs }) => longestMs))"


@dataclass(frozen=True)
class Call:
    """The pages by the names of their people, and where their fleet can be looked at."""

    pages: dict[str, Page]
    fleet: HostFleet
    client: Host

    async def overview(self) -> Any:
        """Peers of the room and workers of the fleet, as a page sees them."""
        return await self.pages["Ana"].evaluate("(room) => fetch(`api/rooms/${room}`).then((it) => it.json())", ROOM)

    async def placed(self, name: str) -> Any:
        """Where somebody is placed now."""
        own = self.pages[name].locator(".tile.camera").filter(has_text="(you)")
        peer = await own.get_attribute("data-peer")
        return next(it for it in (await self.overview())["peers"] if it["peer"] == peer)

    async def all_flow(self) -> None:
        """Wait until each page is joined, and has shown so many more frames of each other person."""
        await self.on_each(COUNT_FROM_NOW)
        for page in self.pages.values():
            await page.wait_for_function(FLOWS, arg=[len(NAMES) - 1, NEW_FRAMES], polling=100)

    async def on_each(self, script: str) -> list[Any]:
        """What a script returns on each page."""
        return [await page.evaluate(script) for page in self.pages.values()]


@asynccontextmanager
async def open_call(folder: Path) -> AsyncIterator[Call]:
    """Three people in a room over two servers of two workers each."""
    with network("abc") as hosts:
        client = hosts.hosts["c"]
        flags = [
            *FLAGS,
            f"--host-resolver-rules=MAP localhost {hosts.own_address}",
        ]  # a page of localhost may use a camera
        with listen(0, 0, host=hosts.own_address) as listener:
            page = RoomPage(DIST.resolve(), listener)
            async with open_fleet(hosts, workers=2, clients="c", websocket_origins=page.origins) as fleet:
                bus, access = BusConfig(servers=(fleet.nats_url,)), PageAccess.of(None)
                async with serve_page(page, bus, fleet.nats.websocket_port, access), async_playwright() as playwright:
                    browser = await playwright.chromium.launch(executable_path=_chromium_at(client, folder), args=flags)
                    pages = {name: await _join(await browser.new_page(), page, name) for name in NAMES}
                    yield Call(pages, fleet, client)
                    await browser.close()


def _chromium_at(client: Host, folder: Path) -> Path:
    """A program that starts Chromium on a host."""
    program = folder / "chromium"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(client.command(str(CHROMIUM)))} "$@"\n')
    program.chmod(0o755)
    return program


async def _join(page: Page, served: RoomPage, name: str) -> Page:
    page.set_default_timeout(TIMEOUT_MS)
    await page.add_init_script(f"({WATCH})()")
    await page.goto(f"{served.origins[-1]}/?room={ROOM}&video=320x180")
    await page.get_by_label("Your name").fill(name)
    await page.get_by_role("button", name="Join now").click()
    await page.locator('[data-state="joined"]').wait_for()
    return page


async def recovers(call: Call, what: str, fail: Callable[[], Awaitable[None]]) -> None:
    """Let something fail; wait until all pages show each other again, and print what it cost."""
    await call.on_each(MEASURE_FROM_NOW)
    await fail()
    await call.all_flow()
    print(f"{what}: longest freeze {max(await call.on_each(LONGEST)) / 1e3:.1f} s")


async def test_three_pages_over_two_servers_recover_from_every_failure(tmp_path: Path) -> None:
    async with open_call(tmp_path) as call:
        await recovers(call, "nothing", lambda: asyncio.sleep(0))
        peers = (await call.overview())["peers"]
        assert {it["server"] for it in peers} == {"a", "b"}, "the policy spreads them"
        for name in NAMES:
            await recovers(call, f"the worker of {name} is killed", partial(kill_worker_of, call, name))
        await recovers(call, "NATS is killed", lambda: kill_nats(call))
        await recovers(call, "the websocket of Ana breaks", lambda: break_websocket(call.pages["Ana"]))
        await recovers(call, f"all pages are offline for {OFFLINE_S} s", lambda: offline(call))


async def kill_worker_of(call: Call, name: str) -> None:
    """Kill it, and wait until its peer is placed again."""
    before = await call.placed(name)
    pids = {it["worker"]: it["pid"] for server in (await call.overview())["servers"] for it in server["workers"]}
    os.kill(pids[before["worker"]], signal.SIGKILL)
    while (await call.placed(name))["generation"] == before["generation"]:  # noqa: ASYNC110 - the fleet is other processes
        await asyncio.sleep(0.1)


async def kill_nats(call: Call) -> None:
    """Kill it, and start it again when every page has noticed."""
    await call.fleet.nats.kill()
    for page in call.pages.values():
        await page.locator('[data-state="reconnecting"]').wait_for()
    await call.fleet.nats.start()


async def break_websocket(page: Page) -> None:
    """Close it, and wait until the page has opened another one."""
    count = await page.evaluate("() => window.sockets.map((it) => it.close()).length")
    await page.wait_for_function("(before) => window.sockets.length > before", arg=count)


async def offline(call: Call) -> None:
    """Cut the pages' host off."""
    with call.client.cut_off():
        await asyncio.sleep(OFFLINE_S)  # how long it is away is what is tested
