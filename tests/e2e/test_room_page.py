"""The room page in a real Chromium: two people on two workers, through the death of a worker and of NATS.

The browser is Debian's; its camera and microphone are fakes that show a clock and beep. Deadlines are those of a busy
machine; nothing waits longer than it needs to.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect, sync_playwright

from mafalda.bus.config import BusConfig, read_seed
from mafalda.bus.nats.bus import connect
from mafalda.contract.messages.queries import DrainServer
from mafalda.monitor.drain import drain_request
from tests.e2e.conftest import Up, closed_up

ROOM = "e2e"
AXE = Path(__file__).resolve().parents[2] / "web" / "node_modules" / "axe-core" / "axe.min.js"
TIMEOUT_MS = 60_000
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--use-fake-device-for-media-stream=fps=15",
    "--use-fake-ui-for-media-stream",
]

# Frames that are shown from now on, however often the element gets another stream.
SHOWS_NEW_FRAMES = """([selector, wanted]) => {
    const video = document.querySelector(selector);
    const key = `frames ${selector} ${wanted}`;
    const shown = video ? video.getVideoPlaybackQuality().totalVideoFrames : 0;
    const [last, sum] = window[key] ?? [shown, 0];
    const total = sum + Math.max(0, shown - last);
    window[key] = total >= wanted ? undefined : [shown, total];
    return total >= wanted;
}"""

# From now on window.longestGapMs is the longest time without a new picture, whichever stream the element has.
MEASURES_GAPS = """(selector) => {
    const video = document.querySelector(selector);
    let last = performance.now();
    window.longestGapMs = 0;
    const shown = (now) => {
        window.longestGapMs = Math.max(window.longestGapMs, now - last);
        last = now;
        video.requestVideoFrameCallback(shown);
    };
    video.requestVideoFrameCallback(shown);
}"""
TAKES_GAP = "() => { const gap = window.longestGapMs; window.longestGapMs = 0; return Math.round(gap); }"


# Whether the page sends its camera: all of its encodings are active, or none is. Bytes would not tell: a busy machine
# encodes nothing for a while.
SENDS_VIDEO = """(wanted) => {
    const senders = [...window.connections].flatMap((it) => it.getSenders()).filter((it) => it.track?.kind === "video");
    const encodings = senders.flatMap((it) => it.getParameters().encodings);
    return encodings.length > 0 && encodings.every(({ active }) => active === wanted);
}"""

# Whether each microphone that is received is above silence now, or was in the last two seconds.
HEARS_SOUND = """() => {
    const receivers = [...window.connections].flatMap((it) => it.getReceivers());
    const sources = receivers.filter((it) => it.track.kind === "audio").flatMap((it) => it.getSynchronizationSources());
    const now = performance.now();
    const heard = (window.heardAt ??= new Map());
    for (const it of sources) if (it.audioLevel > 0.02) heard.set(it.source, now);
    return sources.length > 0 && sources.every((it) => now - heard.get(it.source) < 2000);
}"""


# What a page's WebRTC connections do: whether another one had decoded pictures when a receiving one was closed, and
# each state of the membership that was shown.
RECORDS_CONNECTIONS = """() => {
    const connections = (window.connections = new Set());
    window.closedConnections = [];
    window.shownStates = [];
    const Original = window.RTCPeerConnection;
    window.RTCPeerConnection = class extends Original {
        constructor(...args) {
            super(...args);
            this.decoded = 0;
            connections.add(this);
        }
        close() {
            if (connections.delete(this)) {
                const others = [...connections].map((it) => it.decoded);
                window.closedConnections.push({ decoded: this.decoded, others });
            }
            super.close();
        }
    };
    setInterval(() => {
        for (const connection of connections) {
            connection.getStats().then((stats) => stats.forEach((it) => {
                const isVideo = it.type === "inbound-rtp" && it.kind === "video";
                // It is 0 again when the consumer is closed, before its connection is.
                if (isVideo) connection.decoded = Math.max(connection.decoded, it.framesDecoded);
            }), () => undefined);
        }
    }, 20);
    new MutationObserver(() => {
        const shown = document.querySelector("[data-state]")?.dataset.state;
        if (shown !== undefined && shown !== window.shownStates.at(-1)) window.shownStates.push(shown);
    }).observe(document, { subtree: true, childList: true, attributes: true });
}"""


@dataclass(frozen=True)
class Person:
    """One page in the room."""

    name: str
    page: Page

    def sees(self, other: Person, frames: int = 20) -> None:
        """Wait until this page has shown so many new frames of another one's camera."""
        arg = [self.picture_of(other), frames]
        self.page.wait_for_function(SHOWS_NEW_FRAMES, arg=arg, polling=100, timeout=TIMEOUT_MS)

    def picture_of(self, other: Person) -> str:
        """The selector of the element that shows another one's camera."""
        tile = self.page.locator(".tile.camera").filter(has_text=other.name)
        return f'.tile.camera[data-peer="{tile.get_attribute("data-peer", timeout=TIMEOUT_MS)}"] video'

    def hears_everybody(self) -> None:
        """Wait until a level above silence was decoded of each microphone that is received."""
        self.page.wait_for_function(HEARS_SOUND, polling=50, timeout=TIMEOUT_MS)

    def click(self, button: str) -> None:
        self.page.get_by_role("button", name=button).click(timeout=TIMEOUT_MS)

    @property
    def peer_id(self) -> str:
        own = self.page.locator(".tile.camera").filter(has_text="(you)").first
        return own.get_attribute("data-peer", timeout=TIMEOUT_MS) or ""


class Join(Protocol):
    """Opens a page and joins the room by it."""

    def __call__(self, name: str, token: dict[str, str] | None = None, audience_key: str | None = None) -> Person:
        """Join.

        Args:
            name: The person's.
            token: What the page gets instead of a token of the fleet's page.
            audience_key: Of the audience's link, to join by that instead of the host's.
        """


@pytest.fixture(scope="module")
def page_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with closed_up(
        tmp_path_factory.mktemp("page"), "--servers", "2", "--workers", "1", "--policy", "spread"
    ) as running:
        if running.page_url is None:
            pytest.skip("the room page has not been built: Node 22 with npm is missing (see `scripts/web build`)")
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium: `apt-get install chromium` (scripts/bootstrap --chromium does it as root)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS, timeout=TIMEOUT_MS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def complaints() -> list[str]:
    """What pages threw, and what their security policy refused."""
    return []


@pytest.fixture(scope="module")
def join(page_fleet: Up, browser: Browser, complaints: list[str]) -> Join:
    def join(name: str, token: dict[str, str] | None = None, audience_key: str | None = None) -> Person:
        page = browser.new_context(viewport={"width": 1000, "height": 600}).new_page()
        page.set_default_timeout(TIMEOUT_MS)
        page.add_init_script(f"({RECORDS_CONNECTIONS})()")
        page.on("pageerror", lambda error: complaints.append(f"{name}: {error}"))
        page.on("console", lambda message: _collect(complaints, name, message))
        if token is not None:
            page.route("**/api/token", lambda route: route.fulfill(json=token))
        link = f"&audience#key={audience_key}" if audience_key else f"#key={page_fleet.page_key}"
        page.goto(f"{page_fleet.page_url}?room={ROOM}&video=320x180{link}")
        page.get_by_label("Your name").fill(name)
        page.get_by_role("button", name="Join now").click()
        expect(page.locator('[data-state="joined"]')).to_be_visible(timeout=TIMEOUT_MS)
        return Person(name, page)

    return join


def _collect(complaints: list[str], name: str, message: ConsoleMessage) -> None:
    if message.type == "error" and "Content Security Policy" in message.text:
        complaints.append(f"{name}: {message.text}")


@pytest.fixture(scope="module")
def pair(join: Join) -> tuple[Person, Person]:
    return join("Ana"), join("Bruno")


def tile_of(watching: Person, shown: Person) -> Locator:
    """The tile of another one's camera."""
    return watching.page.locator(".tile.camera").filter(has_text=shown.name)


def findings(page: Page) -> list[str]:
    """What axe finds on a page as it is, in both themes."""
    page.evaluate(AXE.read_text())
    found: list[dict[str, Any]] = []
    looks: tuple[tuple[Literal["light", "dark"], list[str] | None], ...]
    looks = (("light", None), ("dark", ["color-contrast"]))  # the other rules do not depend on colours
    for theme, rules in looks:
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        found += page.evaluate(
            "(runOnly) => axe.run(runOnly ? { runOnly } : {}).then(({ violations }) => violations)", rules
        )
    return [f"{it['id']}: {it['help']}: {[node['target'] for node in it['nodes']]}" for it in found]


def room(fleet: Up) -> dict[str, Any]:
    """What the page is told of its room, peers by id, and the pids of all workers."""
    request = Request(f"{fleet.page_url}api/rooms/{ROOM}", headers={"Authorization": f"Bearer {fleet.page_key}"})
    with urlopen(request) as answer:
        found = json.load(answer)
    return {
        "peers": {peer["peer"]: peer for peer in found["peers"]},
        "pids": {worker["worker"]: worker["pid"] for server in found["servers"] for worker in server["workers"]},
    }


def admission(fleet: Up, key: str | None) -> dict[str, Any]:
    """What a page gets with a link's key: a new peer, its token, and what that may do."""
    headers = {"Authorization": f"Bearer {key}"}
    with urlopen(Request(f"{fleet.page_url}api/token", json.dumps({"room": ROOM}).encode(), headers)) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def drain(fleet: Up, server: str, request: DrainServer) -> None:
    """Begin or cancel a drain, without waiting for its end; in a thread, since Playwright has the loop of this one."""

    async def ask() -> None:
        assert fleet.keys is not None
        nkey = read_seed(fleet.keys / "operator.nk")
        async with connect(BusConfig(servers=(fleet.nats_url,), nkey_seed=nkey)) as bus:
            await drain_request(bus, server, request)

    with ThreadPoolExecutor() as threads:
        threads.submit(asyncio.run, ask()).result()


def test_two_people_on_two_workers_see_and_hear_each_other(page_fleet: Up, pair: tuple[Person, Person]) -> None:
    ana, bruno = pair
    ana.sees(bruno)
    bruno.sees(ana)
    ana.hears_everybody()
    bruno.hears_everybody()
    peers = room(page_fleet)["peers"]
    assert set(peers) == {ana.peer_id, bruno.peer_id}
    assert len({peer["worker"] for peer in peers.values()}) == 2


def test_what_a_page_has_measured_can_be_asked_for_later(page_fleet: Up, pair: tuple[Person, Person]) -> None:
    ana, _ = pair
    up: dict[str, Any] | None = None
    while up is None:  # a page reports for the first time some seconds after it has joined
        story = json.loads(page_fleet.mafalda("explain", ana.peer_id, "--at", "0s", "--json").stdout)
        report = story["report"] or {"ways": []}
        up = next((way for way in report["ways"] if way["way"] == "up" and way["bitrateBps"]), None)
    assert report["worker"] == room(page_fleet)["peers"][ana.peer_id]["worker"]
    assert up["quality"] in ("excellent", "good", "poor", "lost")
    assert "link" in story["lines"][0]


def test_people_write_and_raise_a_hand_and_a_host_mutes(pair: tuple[Person, Person]) -> None:
    ana, bruno = pair
    bruno.click("Raise your hand")
    expect(tile_of(ana, bruno).get_by_label("Hand raised")).to_be_visible(timeout=TIMEOUT_MS)
    for person, text in ((ana, "Yes, Bruno?"), (bruno, "<b>Louder</b>, please")):
        person.page.keyboard.press("c")
        person.page.get_by_label("Message", exact=True).fill(text)
        person.page.keyboard.press("Enter")
        for reader in pair:
            if reader is not person:
                reader.page.get_by_role("button", name="Chat: 1 new").wait_for(timeout=TIMEOUT_MS)
        person.click("Close: Chat")
    ana.page.keyboard.press("c")
    expect(ana.page.get_by_role("log")).to_contain_text("<b>Louder</b>, please", timeout=TIMEOUT_MS)
    ana.page.get_by_role("button", name="Close: Chat").focus()
    ana.page.keyboard.press("p")
    ana.click("Lower the hand of Bruno")
    ana.click("Mute Bruno")
    expect(bruno.page.get_by_text("Ana has muted you")).to_be_visible(timeout=TIMEOUT_MS)
    expect(bruno.page.get_by_role("button", name="Raise your hand")).to_be_visible(timeout=TIMEOUT_MS)
    expect(tile_of(ana, bruno).get_by_label("Microphone off")).to_be_visible(timeout=TIMEOUT_MS)
    bruno.click("Unmute the microphone")
    ana.hears_everybody()
    ana.page.keyboard.press("Escape")


def test_a_camera_that_nobody_sees_is_not_sent(pair: tuple[Person, Person]) -> None:
    ana, bruno = pair
    ana.page.wait_for_function(SENDS_VIDEO, arg=True, polling=200, timeout=TIMEOUT_MS)
    hidden = bruno.page.add_style_tag(content=f'[data-peer="{ana.peer_id}"] video {{ display: none; }}')
    ana.page.wait_for_function(SENDS_VIDEO, arg=False, polling=200, timeout=TIMEOUT_MS)
    hidden.evaluate("(style) => style.remove()")
    ana.page.wait_for_function(SENDS_VIDEO, arg=True, polling=200, timeout=TIMEOUT_MS)
    bruno.sees(ana)


@pytest.mark.timeout(300)  # on a busy machine a run of axe takes half a minute
def test_axe_finds_nothing_in_either_theme(pair: tuple[Person, Person]) -> None:
    if not AXE.exists():
        pytest.skip("no npm packages: the cached pages were enough (`scripts/web check` installs them)")
    ana, _ = pair
    for panel in ("Chat", "People", "Who is on which worker"):
        ana.page.get_by_role("button", name=panel).first.click()
        expect(ana.page.locator(".panel")).to_be_visible(timeout=TIMEOUT_MS)
        assert findings(ana.page) == [], panel
        ana.page.keyboard.press("Escape")
    lobby = ana.page.context.new_page()
    lobby.goto(ana.page.url)
    expect(lobby.get_by_role("button", name="Join now")).to_be_visible(timeout=TIMEOUT_MS)
    assert findings(lobby) == []
    lobby.close()


@pytest.mark.timeout(300)  # a third page
def test_a_host_brings_one_of_the_audience_to_the_stage_and_back(
    page_fleet: Up, pair: tuple[Person, Person], join: Join
) -> None:
    ana, _ = pair
    dora = join("Dora", audience_key=admission(page_fleet, page_fleet.page_key)["audienceKey"])
    dora.sees(ana)
    dora.hears_everybody()
    expect(dora.page.get_by_role("button", name="Switch the camera on")).to_have_count(0)
    ana.page.keyboard.press("p")
    audience = ana.page.get_by_role("region", name="Audience: 1")
    expect(audience).to_contain_text("Dora", timeout=TIMEOUT_MS)
    expect(tile_of(ana, dora)).to_have_count(0)
    dora.click("Raise your hand")
    expect(audience.get_by_label("hand raised")).to_be_visible(timeout=TIMEOUT_MS)
    ana.click("Bring Dora to the stage")
    dora.click("Switch the camera on")
    ana.sees(dora)
    expect(audience).to_have_count(0, timeout=TIMEOUT_MS)
    ana.click("Move to the audience: Dora")
    expect(dora.page.get_by_text("You are in the audience: you watch")).to_be_visible(timeout=TIMEOUT_MS)
    expect(tile_of(ana, dora)).to_have_count(0, timeout=TIMEOUT_MS)
    expect(audience).to_contain_text("Dora", timeout=TIMEOUT_MS)
    dora.sees(ana)
    dora.page.close()
    ana.page.keyboard.press("Escape")


@pytest.mark.timeout(300)  # commands, and a third page
def test_a_token_decides_what_a_page_may_and_how_long(page_fleet: Up, pair: tuple[Person, Person], join: Join) -> None:
    assert page_fleet.keys is not None
    mint = ("token", "mint", "--keys", str(page_fleet.keys), "--room", ROOM, "--peer", "carla", "--life", "5m")
    text = page_fleet.mafalda(*mint, "--publish", "").stdout.strip()
    carla = join("Carla", {"peer": "carla", "token": text, "inboxPrefix": f"_INBOX.{ROOM}.carla"})
    expect(carla.page.get_by_text("does not let you send")).to_be_visible(timeout=TIMEOUT_MS)
    carla.hears_everybody()
    for person in pair:
        carla.sees(person)
        expect(tile_of(person, carla).locator("video")).to_have_count(0)
    assert "1 connections" in page_fleet.mafalda("token", "revoke", text).stdout
    expect(carla.page.get_by_text("The call has ended")).to_be_visible(timeout=TIMEOUT_MS)
    carla.page.close()
    refused = page_fleet.mafalda("token", "revoke", "nonsense", check=False)
    assert refused.returncode == 1
    assert "bad-token" in refused.stderr


def test_the_fleet_panel_shows_who_is_on_which_worker(page_fleet: Up, pair: tuple[Person, Person]) -> None:
    ana, _ = pair
    ana.click("Who is on which worker")
    for peer in room(page_fleet)["peers"].values():
        place = ana.page.locator(f'[data-worker="{peer["worker"]}"] [data-peer="{peer["peer"]}"]')
        expect(place).to_be_visible(timeout=TIMEOUT_MS)
    ana.page.keyboard.press("Escape")
    expect(ana.page.locator(".panel")).to_have_count(0)


def test_a_drained_viewer_is_handed_over_before_its_transport_is_closed(
    page_fleet: Up, pair: tuple[Person, Person]
) -> None:
    ana, bruno = pair
    before = room(page_fleet)["peers"][bruno.peer_id]
    bruno.page.evaluate("() => { window.closedConnections = []; window.shownStates = []; }")
    bruno.page.evaluate(MEASURES_GAPS, bruno.picture_of(ana))
    bruno.sees(ana)
    quiet_ms = bruno.page.evaluate(TAKES_GAP)
    drain(page_fleet, before["server"], DrainServer())
    bruno.page.wait_for_function(
        "() => window.closedConnections.some((it) => it.decoded > 0)", polling=100, timeout=TIMEOUT_MS
    )
    (closed,) = [it for it in bruno.page.evaluate("() => window.closedConnections") if it["decoded"]]
    assert max(closed["others"]) > 0, "the next transport had carried pictures"
    bruno.sees(ana)
    gap_ms = bruno.page.evaluate(TAKES_GAP)
    assert gap_ms > 0, "it was measured"
    print(f"a drained viewer's longest time without a picture: {gap_ms} ms; before it: {quiet_ms} ms")
    ana.sees(bruno)
    bruno.hears_everybody()
    ana.hears_everybody()
    assert set(bruno.page.evaluate("() => window.shownStates")) <= {"joined"}, "nothing was interrupted"
    after = room(page_fleet)["peers"][bruno.peer_id]
    assert after["server"] != before["server"]
    drain(page_fleet, before["server"], DrainServer(draining=False))


def test_both_pages_recover_from_the_death_of_a_worker(page_fleet: Up, pair: tuple[Person, Person]) -> None:
    ana, bruno = pair
    found = room(page_fleet)
    before = found["peers"][ana.peer_id]
    os.kill(found["pids"][before["worker"]], signal.SIGKILL)
    bruno.sees(ana, frames=30)
    ana.sees(bruno, frames=30)
    bruno.hears_everybody()
    after = room(page_fleet)["peers"][ana.peer_id]
    assert after["generation"] > before["generation"]
    assert after["worker"] != before["worker"]


def test_both_pages_recover_from_the_death_of_nats(page_fleet: Up, pair: tuple[Person, Person]) -> None:
    ana, bruno = pair
    (nats,) = [process for process in page_fleet.family() if process.name() == "nats-server"]
    nats.kill()
    psutil.wait_procs([nats], timeout=30)
    ana.sees(bruno, frames=15)  # media needs no NATS
    ana.click("Mute the microphone")  # while there is none, or it is just back: done as soon as it can be
    muted = bruno.page.locator(".tile.camera").filter(has_text="Ana").get_by_label("Microphone off")
    expect(muted).to_be_visible(timeout=TIMEOUT_MS)
    for person in pair:
        expect(person.page.locator('[data-state="joined"]')).to_be_visible(timeout=TIMEOUT_MS)
    ana.click("Unmute the microphone")
    expect(muted).to_have_count(0, timeout=TIMEOUT_MS)
    bruno.hears_everybody()


def test_who_switches_the_camera_off_or_leaves_is_gone_for_the_others(pair: tuple[Person, Person]) -> None:
    ana, bruno = pair
    tile = bruno.page.locator(".tile.camera").filter(has_text="Ana")
    ana.page.keyboard.press("v")
    expect(tile.locator("video")).to_have_count(0, timeout=TIMEOUT_MS)
    ana.click("Leave the room")
    expect(ana.page.get_by_text("You left the room")).to_be_visible(timeout=TIMEOUT_MS)
    expect(tile).to_have_count(0, timeout=TIMEOUT_MS)


def test_no_page_complained(pair: tuple[Person, Person], complaints: list[str]) -> None:
    assert complaints == []


def test_strangers_get_nothing(page_fleet: Up) -> None:
    body = json.dumps({"room": ROOM}).encode()
    for path, data in ((f"api/rooms/{ROOM}", None), ("api/token", body), ("api/workers/server-1-0/kill", body)):
        for headers in ({}, {"Authorization": "Bearer guessed"}):
            with pytest.raises(HTTPError) as refused, urlopen(Request(page_fleet.page_url + path, data, headers)):  # type: ignore[operator]
                pass
            assert refused.value.code == HTTPStatus.UNAUTHORIZED
            refused.value.close()
    stranger = subprocess.run(
        [sys.executable, "-m", "mafalda", "ls"],
        env={**page_fleet.environment, "XDG_STATE_HOME": "/nowhere", "MAFALDA_NATS_URL": page_fleet.nats_url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert stranger.returncode == 1
    assert "permission-denied" in stranger.stderr


def test_the_page_gets_a_token_for_no_peer_of_its_choice(page_fleet: Up) -> None:
    """Else whoever has the link could take over another guest's peer."""
    body = json.dumps({"room": ROOM, "peer": "alice"}).encode()
    headers = {"Authorization": f"Bearer {page_fleet.page_key}"}
    peers = set()
    for _ in range(2):
        with urlopen(Request(f"{page_fleet.page_url}api/token", body, headers)) as answer:
            admitted = json.load(answer)
        claims = admitted["token"].split(".")[1]
        grants = json.loads(urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["mafalda"]
        assert (grants["peer"], grants["rooms"]) == (admitted["peer"], [ROOM])
        assert admitted["inboxPrefix"] == f"_INBOX.{ROOM}.{admitted['peer']}"
        peers.add(admitted["peer"])
    assert len(peers - {"alice"}) == 2
