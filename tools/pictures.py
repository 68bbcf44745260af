"""Take the pictures of docs/images: the room page and the monitor of a real fleet with real media, in both themes.

``python tools/pictures.py [FOLDER]`` starts a fleet of two servers, and people in Chromium whose cameras are drawings.
Each picture is also looked at by axe: what it finds is printed, and the exit code is 1.
"""

from __future__ import annotations

import asyncio
import base64
import shutil
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from playwright.async_api import Browser, Page, ViewportSize, async_playwright

from mafalda.cli.local_fleet import LocalFleet, LocalFleetConfig, open_local_fleet

ROOT = Path(__file__).resolve().parents[1]
AXE = ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--autoplay-policy=no-user-gesture-required"]
ROOM = "design-review"
SCREEN: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 390, "height": 844}
GUESTS = ("Bruno", "Chiara", "Dmitri", "Emeka")
TIMEOUT_MS = 60_000
#: Of WebP, from 0 to 1.
QUALITY = 0.85

#: Cameras and screens that are drawn: a person before a wall, and a page with a chart.
DRAWN = (ROOT / "tools" / "pictures.js").read_text()


class Pictures:
    """Takes pictures of pages, and has axe look at them.

    Args:
        folder: Where they are written.
        encoder: A page that makes WebP of PNG.
    """

    def __init__(self, folder: Path, encoder: Page) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._encoder = encoder
        self.findings: list[str] = []

    async def take(self, page: Page, name: str) -> None:
        """Write ``{name}-dark.webp`` and ``{name}-light.webp``."""
        for theme in ("dark", "light"):
            await page.emulate_media(color_scheme=theme, reduced_motion="reduce")
            await page.mouse.move(0, 0)
            await page.wait_for_timeout(500)  # the theme's transitions, and the next frames of each video
            png = base64.b64encode(await page.screenshot()).decode()
            found = await self._encoder.evaluate(_TO_WEBP, [png, QUALITY])
            file = self._folder / f"{name}-{theme}.webp"
            file.write_bytes(base64.b64decode(found))
            print(f"{file} {file.stat().st_size / 1000:.0f} kB")
            await page.evaluate(AXE.read_text())
            for it in await page.evaluate("axe.run().then(({ violations }) => violations)"):
                targets = [node["target"] for node in it["nodes"]]
                self.findings.append(f"{file.name}: {it['id']}: {it['help']}: {targets}")


_TO_WEBP = """async ([png, quality]) => {
    const image = await createImageBitmap(await (await fetch(`data:image/png;base64,${png}`)).blob());
    const canvas = document.createElement("canvas");
    canvas.width = image.width;
    canvas.height = image.height;
    canvas.getContext("2d").drawImage(image, 0, 0);
    return canvas.toDataURL("image/webp", quality).split(",")[1];
}"""


async def main(folder: Path) -> int:
    """Take all pictures."""
    async with AsyncExitStack() as stack:
        store = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mafalda-pictures-")))
        config = LocalFleetConfig(
            servers=2,
            workers=2,
            policy="spread",
            is_open=False,
            nats_port=0,
            web_port=0,
            monitor_port=0,
            page_kills_workers=True,
            store_dir=store / "nats",
            log_file=store / "fleet.log",
        )
        fleet = await stack.enter_async_context(open_local_fleet(config))
        playwright = await stack.enter_async_context(async_playwright())
        found = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = await playwright.chromium.launch(executable_path=found, args=FLAGS)
        stack.push_async_callback(browser.close)
        pictures = Pictures(folder, await browser.new_page())
        await _room(pictures, browser, fleet)
        await _monitor(pictures, browser, fleet)
    for finding in pictures.findings:
        print(finding)
    return 1 if pictures.findings else 0


async def _room(pictures: Pictures, browser: Browser, fleet: LocalFleet) -> None:
    guests = [await _lobby(browser, fleet, name) for name in GUESTS]
    for guest in guests:
        await _join(guest)
    await guests[3].keyboard.press("v")  # shows an avatar
    ana = await _lobby(browser, fleet, "Ana", size="640x360")
    await pictures.take(ana, "lobby")
    await _join(ana)
    await _all_seen(ana, len(GUESTS))
    await guests[1].get_by_role("button", name="Raise your hand").click()
    await ana.get_by_label("Hand raised").wait_for()
    await ana.wait_for_timeout(6_000)  # until the notes of who joined are gone
    await pictures.take(ana, "grid")
    await _written(guests, ana)
    for panel, name in (
        ("People", "people"),
        ("Chat", "chat"),
        ("Devices", "settings"),
        ("Who is on which worker", "workers"),
    ):
        await ana.get_by_role("button", name=panel).first.click()
        await ana.locator(".panel").wait_for()
        await ana.wait_for_timeout(2_000)  # the panel's first answer, and other sizes of all videos
        await pictures.take(ana, name)
        await ana.keyboard.press("Escape")
    await guests[0].get_by_role("button", name="Share the screen").click()
    await ana.locator(".tile.screen video").wait_for()
    await ana.wait_for_timeout(4_000)
    await pictures.take(ana, "screen")
    await guests[0].get_by_role("button", name="Stop sharing the screen").click()
    phone = await _lobby(browser, fleet, "Ana on her phone", viewport=PHONE)
    await pictures.take(phone, "phone-lobby")
    await ana.get_by_role("button", name="Leave the room").click()
    await _join(phone)
    await _all_seen(phone, len(GUESTS))
    await phone.wait_for_timeout(6_000)
    await pictures.take(phone, "phone")
    await phone.get_by_role("button", name="People").click()
    await phone.wait_for_timeout(1_000)
    await pictures.take(phone, "phone-people")


async def _written(guests: list[Page], ana: Page) -> None:
    for guest, text in (
        (guests[0], "The new landing page is up, have a look"),
        (guests[2], "Looks great on my phone too!"),
    ):
        await guest.keyboard.press("c")
        await guest.get_by_label("Message", exact=True).fill(text)
        await guest.keyboard.press("Enter")
        await guest.keyboard.press("Escape")
    await ana.get_by_role("button", name="Chat: 2 new").wait_for()


async def _lobby(
    browser: Browser, fleet: LocalFleet, name: str, *, size: str = "480x270", viewport: ViewportSize = SCREEN
) -> Page:
    context = await browser.new_context(viewport=viewport, bypass_csp=True)
    page = await context.new_page()
    page.set_default_timeout(TIMEOUT_MS)
    await page.add_init_script(f"{DRAWN}\ndraw({name!r});")
    await page.goto(f"{fleet.page_url}?room={ROOM}&video={size}#key={fleet.page_key}")
    await page.get_by_label("Your name").fill(name)
    await page.wait_for_function("() => document.querySelector('.preview video')?.videoWidth > 0")
    return page


async def _join(page: Page) -> None:
    await page.get_by_role("button", name="Join now").click()
    await page.locator('[data-state="joined"]').wait_for()


async def _all_seen(page: Page, videos: int) -> None:
    await page.wait_for_function(
        "(wanted) => [...document.querySelectorAll('.tile video')].filter((it) => it.videoWidth > 0).length >= wanted",
        arg=videos,
    )


async def _monitor(pictures: Pictures, browser: Browser, fleet: LocalFleet) -> None:
    context = await browser.new_context(viewport=SCREEN, bypass_csp=True)
    page = await context.new_page()
    await page.goto(fleet.monitor_url or "")
    for view in ("Fleet", "Rooms", "Log"):
        await page.get_by_role("link", name=view, exact=True).click()
        await page.wait_for_timeout(3_000)  # two answers
        if view == "Rooms":
            await page.get_by_role("link", name=ROOM).click()
            await page.wait_for_timeout(2_000)
        await pictures.take(page, "monitor" if view == "Fleet" else f"monitor-{view.lower()}")


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"
    sys.exit(asyncio.run(main(target)))
