"""The monitor in a real Chromium: a fleet as it changes, as it was, and no finding of axe in either theme."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from mafalda.bus.config import NKEY_FILE_VARIABLE
from mafalda.client import connect
from tests.e2e.conftest import Up, closed_up

TIMEOUT_MS = 60_000
ROOM = "watched"
AXE = Path(__file__).resolve().parents[2] / "web" / "node_modules" / "axe-core" / "axe.min.js"


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with closed_up(tmp_path_factory.mktemp("monitor"), "--no-page", "--policy", "spread", "--monitor") as running:
        yield running


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None or not AXE.exists():
        pytest.skip("no chromium (`scripts/bootstrap --chromium` installs it as root) or no npm packages")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        await browser.close()


async def open_page(browser: Browser, url: str, complaints: list[str], **options: Any) -> Page:
    # The page's own security policy forbids the script that checks it.
    context = await browser.new_context(viewport={"width": 1280, "height": 800}, bypass_csp=True, **options)
    page = await context.new_page()
    page.set_default_timeout(TIMEOUT_MS)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.goto(url)
    return page


async def findings(page: Page) -> list[str]:
    """What axe finds on the page as it is."""
    await page.add_script_tag(path=AXE)
    found = await page.evaluate("axe.run().then(({ violations }) => violations)")
    return [f"{it['id']}: {it['help']}: {[node['target'] for node in it['nodes']]}" for it in found]


async def test_the_page_shows_the_fleet_now_and_at_any_moment(watched: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    complaints: list[str] = []
    monkeypatch.setenv(NKEY_FILE_VARIABLE, f"{watched.keys}/application.nk")
    async with chromium() as browser, connect(watched.nats_url) as client:
        assert watched.monitor_url is not None
        page = await open_page(browser, f"{watched.monitor_url}#/rooms", complaints)
        rooms = page.get_by_role("table", name="Rooms")
        await expect(rooms).to_contain_text("There is no room", timeout=TIMEOUT_MS)
        async with client.join(ROOM, "alice", app_data={"name": "Alice"}), client.join(ROOM, "bob"):
            await rooms.get_by_role("link", name=ROOM).click()
            peers = page.get_by_role("table", name="Peers")
            await expect(peers.get_by_role("link")).to_have_text(["Alice", "bob"], timeout=TIMEOUT_MS)
            await peers.get_by_role("link", name="Alice").press("Enter")
            decision = page.get_by_role("dialog").get_by_role("article").first
            await expect(decision).to_contain_text("policy spread", timeout=TIMEOUT_MS)
            await expect(decision.get_by_role("row", name="chosen")).to_be_visible()
            assert await findings(page) == []
            await page.keyboard.press("Escape")

            workers = {row["worker"]: row for row in watched.json("ls")["servers"][0]["workers"]}
            os.kill(next(row["pid"] for row in workers.values() if row["peers"]), signal.SIGKILL)
            await page.get_by_role("link", name="Problems").click()
            await expect(page.get_by_role("main")).to_contain_text("worker-died", timeout=TIMEOUT_MS)
            assert await findings(page) == []

        await page.get_by_role("link", name="Rooms").click()
        await expect(rooms).to_contain_text("There is no room", timeout=TIMEOUT_MS)
        slider = page.get_by_role("slider", name="Moment that is shown")
        await slider.press("Home")  # the log's first second: the server has started, nobody has joined
        await expect(page.get_by_role("button", name="Live")).to_have_attribute("aria-pressed", "false")
        await page.get_by_role("link", name="Log").click()
        started = page.get_by_role("row").filter(has_text="server-started")
        await expect(started).to_be_visible(timeout=TIMEOUT_MS)
        await page.get_by_role("button", name="Live").click()
        joined = page.get_by_role("row").filter(has_text="place alice on")
        await joined.first.click()
        await page.get_by_role("button", name="Show the fleet as of this entry").click()
        await page.keyboard.press("Escape")
        await page.get_by_role("link", name="Rooms").click()
        await expect(rooms.get_by_role("link", name=ROOM)).to_be_visible(timeout=TIMEOUT_MS)
    assert complaints == []


async def test_axe_finds_nothing_in_either_theme(watched: Up) -> None:
    complaints: list[str] = []
    async with chromium() as browser:
        for theme in ("dark", "light"):
            page = await open_page(browser, f"{watched.monitor_url}", complaints, color_scheme=theme)
            for view in ("Fleet", "Rooms", "Log", "Problems"):
                await page.get_by_role("link", name=view, exact=True).click()
                await expect(page.get_by_role("heading", name=view, level=1)).to_be_attached()
                assert await findings(page) == [], (theme, view)
            await page.get_by_role("link", name="Fleet").click()
            await expect(page.get_by_role("row").filter(has_text="worker 0")).to_be_visible(timeout=TIMEOUT_MS)
            assert await findings(page) == [], theme
            await page.close()
    assert complaints == []


def test_other_sites_cannot_read_it(watched: Up) -> None:
    """A browser lets every site connect to loopback, by a name of its own that leads there."""
    link = urlsplit(watched.monitor_url or "")
    key = {"Authorization": f"Bearer {link.query.removeprefix('key=')}"}
    assert _status(link.netloc, Host=link.netloc, **key) == HTTPStatus.OK
    assert _status(link.netloc, Host="elsewhere.example", **key) == HTTPStatus.BAD_REQUEST
    assert _status(link.netloc, Host=link.netloc) == HTTPStatus.UNAUTHORIZED  # another user of this machine


def _status(address: str, **headers: str) -> int:
    connection = HTTPConnection(address, timeout=30)
    connection.request("GET", "/api/fleet", headers=headers)
    status = connection.getresponse().status
    connection.close()
    return status
