"""The HTTP API on a closed NATS: who may call, what is answered, repetitions, streams, and the published document."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shlex
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from openapi_spec_validator import validate

from mafalda.auth.requests import ask_auth_service
from mafalda.contract import subjects
from mafalda.contract.grants import ApplicationGrants, Grants
from mafalda.contract.messages import events, intents
from mafalda.contract.participant_token import read_participant_token
from mafalda.contract.permissions import REVOKE_REQUEST
from mafalda.errors import ERRORS_BY_CODE, RateLimited
from mafalda.http import streams
from mafalda.http.control import open_control
from mafalda.http.openapi import openapi_document
from mafalda.http.operations import OPERATIONS
from mafalda.http.problems import MAX_BODY_BYTES, problem_of, problem_response
from tests.component.auth.conftest import DEADLINE_S, Closed
from tests.component.auth.test_credentials import refused
from tests.component.http.conftest import Api, serve_api, within

GUIDE = Path(__file__).parents[3] / "docs" / "application-servers.md"
ALICE = "/rooms/lobby/peers/alice"


def problem(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    found = response.json()
    assert found["status"] == response.status_code
    assert found["type"] == f"urn:mafalda:error:{found['code']}"
    return response.status_code, found["code"]


# --- who may call -------------------------------------------------------------------------------------


async def test_without_an_applications_valid_token_nothing_is_answered(api: Api) -> None:
    participant = api.closed.mint()
    bad = [
        "",
        "Basic x",
        "Bearer",
        "Bearer x.y.z",
        f"Bearer {participant}",
        f"Bearer {api.token(at=time.time() - 700)}",
    ]
    async with api.client() as http:
        for operation in OPERATIONS:
            path = re.sub(r"{\w+}", "x", operation.path)
            for given in bad:
                response = await http.request(operation.method, path, headers={"Authorization": given})
                assert problem(response) == (401, "bad-token")
                assert response.headers["www-authenticate"] == "Bearer"
    assert api.intents == []


async def test_an_applications_token_opens_no_connection_to_nats(api: Api) -> None:
    await refused(api.closed, token=api.token())


async def test_a_token_for_some_rooms_reaches_no_other(api: Api) -> None:
    await api.joined("alice")
    await api.joined("bob", "other")
    async with api.client(api.token(rooms=["other"])) as http:
        assert [it["room"] for it in (await http.get("/rooms")).json()["rooms"]] == ["other"]
        requests = [("GET", "/rooms/lobby"), ("POST", "/rooms/lobby/end"), ("GET", "/events")]
        requests += [("POST", f"{ALICE}/remove"), ("PUT", f"{ALICE}/grants"), ("POST", f"/tokens/{'0' * 32}/revoke")]
        for method, path in requests:
            assert problem(await http.request(method, path)) == (403, "not-granted"), path
        body = {"rooms": ["other", "lobby"], "peer": "eve"}
        assert problem(await http.post("/tokens", json=body)) == (403, "not-granted")
    assert api.intents == []


async def test_a_revoked_token_calls_nothing_more(api: Api) -> None:
    text = api.token()
    token_id = api.closed.tokens.verify_application(text, now=int(time.time())).id
    async with api.client() as http, api.client(text) as other:
        assert (await other.get("/rooms")).status_code == 200
        assert (await http.post(f"/tokens/{token_id}/revoke")).json() == {"tokens": 0, "connections": 0}
        assert problem(await other.get("/rooms")) == (401, "bad-token")


async def test_an_applications_token_is_revoked_by_its_text_too(api: Api) -> None:
    text = api.token()
    async with api.closed.role("operator") as operator:
        assert await ask_auth_service(operator.connection, REVOKE_REQUEST, text.encode()) == {
            "tokens": 0,
            "connections": 0,
        }
    async with api.client(text) as other:
        assert problem(await other.get("/rooms")) == (401, "bad-token")


# --- bad input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("GET", "/nowhere", b"", (404, "not-found")),
        ("DELETE", "/rooms", b"", (405, "bad-input")),
        ("GET", "/rooms/nobody-here", b"", (404, "not-found")),
        ("GET", "/rooms/a.b", b"", (400, "illegal-id")),
        ("GET", "/rooms?limit=0", b"", (400, "bad-input")),
        ("GET", "/rooms/lobby/events?event=peer-vanished", b"", (400, "unknown-type")),
        ("GET", "/events?after=-1", b"", (400, "bad-input")),
        ("POST", f"{ALICE}/mute", b"{", (400, "bad-input")),
        ("POST", f"{ALICE}/mute", b'{"kind": ["audio"]}', (400, "bad-input")),
        ("POST", f"{ALICE}/remove", b'{"why": 1}', (400, "bad-input")),
        ("POST", "/rooms/lobby/peers/bob/mute", b"", (404, "not-found")),
        ("PUT", f"{ALICE}/grants", b'{"publish": ["smell"]}', (400, "bad-input")),
        ("PUT", f"{ALICE}/app-data", b" " * (MAX_BODY_BYTES + 1), (413, "message-too-large")),
        ("POST", "/tokens", b'{"rooms": ["lobby"], "peer": "a", "lifeS": 0}', (400, "bad-input")),
        ("POST", "/tokens/x/revoke", b"", (400, "bad-input")),
    ],
)
async def test_what_is_wrong_is_a_problem_with_a_code(
    api: Api, method: str, path: str, body: bytes, expected: tuple[int, str]
) -> None:
    await api.joined("alice")
    async with api.client() as http:
        assert problem(await http.request(method, path, content=body)) == expected
    assert api.intents == []


def test_every_error_has_a_status() -> None:
    for code, kind in ERRORS_BY_CODE.items():
        found = problem_of(kind("why", field="x"))
        assert 400 <= found.status < 600
        assert (found.code, found.details) == (code, {"field": "x"})


# --- rooms and peers ----------------------------------------------------------------------------------


async def test_rooms_are_listed_and_shown(api: Api) -> None:
    await api.joined("alice")
    await api.joined("bob", "other")
    await api.opened("alice", "mic")
    async with api.client() as http:
        listed = (await http.get("/rooms?limit=1")).json()
        assert listed == {"total": 2, "rooms": [{"room": "lobby", "peers": 1, "audience": 0, "producers": 1}]}
        assert [it["room"] for it in (await http.get("/rooms?after=lobby")).json()["rooms"]] == ["other"]
        room = (await http.get("/rooms/lobby")).json()
        (peer,), (producer,) = room["peers"], room["producers"]
        assert (peer["peer"], peer["server"], peer["worker"], peer["status"]) == ("alice", "s1", "w1", "joined")
        assert (producer["producer"], producer["kind"], producer["paused"]) == ("mic", "audio", False)
        assert room["seq"] == await api.fleet.last_seq()


async def test_each_operation_publishes_its_intent(api: Api) -> None:
    await api.joined("alice")
    await api.opened("alice", "mic")
    await api.opened("alice", "camera", "video")
    async with api.client() as http:
        for path, body, expected in (
            (f"{ALICE}/mute", b"", intents.PauseProducer(producer="mic")),
            (f"{ALICE}/mute", b'{"producers": ["camera"]}', intents.PauseProducer(producer="camera")),
            (f"{ALICE}/unmute", b'{"kinds": ["video"]}', intents.ResumeProducer(producer="camera")),
            (f"{ALICE}/promote", b"", intents.SetAudience(audience=False)),
            (f"{ALICE}/demote", b"", intents.SetAudience(audience=True)),
            (f"{ALICE}/remove", b"", intents.Leave(cause="removed")),
        ):
            assert (await http.post(path, content=body)).status_code == 200
            assert api.intents[-1] == (subjects.intent("lobby", "alice", expected.action), expected)
        assert (await http.put(f"{ALICE}/app-data", json={"appData": {"hand": "up"}})).json() == {"done": True}
        assert api.intents[-1][1] == intents.SetAppData(app_data={"hand": "up"})
        assert (await http.post("/rooms/lobby/end")).json() == {"done": True}
        assert api.intents[-1] == (subjects.intent("lobby", "http", "end-room"), intents.EndRoom())


async def test_a_repetition_gets_the_first_result_from_whichever_instance(api: Api) -> None:
    await api.joined("alice")
    key = {"Idempotency-Key": "wish-1"}
    async with api.client() as http, serve_api(api.closed) as url:
        path = f"{ALICE}/remove"
        both = await asyncio.gather(*(http.post(path, headers=key) for _ in range(2)))
        assert [it.status_code for it in both] == [200, 200]
        assert (await http.post(f"{url}{path}", headers=key)).json() == {"done": True}
        assert len(api.intents) == 1
        assert (await http.post("/rooms/lobby/peers/bob/remove", headers=key)).status_code == 200
        assert (await http.post(path, headers={"Idempotency-Key": "wish-2"})).status_code == 200
        assert len(api.intents) == 3
        assert problem(await http.post(path, headers={"Idempotency-Key": "x" * 256})) == (400, "bad-input")


async def test_a_result_that_is_stored_just_before_a_repetition_waits_for_it_is_found(
    closed: Closed, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first look is before the result, and the result comes before the second instance waits for it."""
    await api.joined("alice")
    leave = intents.Leave(cause="removed")
    async with closed.role("application") as bus, open_control(bus) as one, open_control(bus) as other:
        await one.request("lobby", "alice", leave, "wish-1")
        looked, look = [], other._take_earlier

        async def look_too_early(*given: Any) -> bool:
            looked.append(given)
            return len(looked) > 1 and await look(*given)

        monkeypatch.setattr(other, "_take_earlier", look_too_early)
        await other.request("lobby", "alice", leave, "wish-1")
        assert len(looked) == 2
    assert len(api.intents) == 1


# --- tokens -------------------------------------------------------------------------------------------


async def test_a_minted_token_connects_until_it_is_revoked(api: Api) -> None:
    async with api.client() as http:
        response = await http.post("/tokens", json={"rooms": ["lobby"], "peer": "alice", "publish": [], "lifeS": 60})
        assert response.status_code == 201
        minted = response.json()
        token = read_participant_token(minted["token"])
        assert token is not None
        assert (token.id, token.grants) == (minted["tokenId"], Grants(rooms=["lobby"], peer="alice", publish=[]))
        alice = await api.closed.connect(token=minted["token"])
        changed = await http.put(f"{ALICE}/grants", json={"publish": ["audio"]})
        assert changed.json() == {"tokens": 1, "connections": 1}
        await within(alice.ended.wait())
        again = await api.closed.connect(token=minted["token"])
        await again.client.request(subjects.intent("lobby", "alice", "produce"), b"{}", timeout=DEADLINE_S)
        revoked = await http.post(f"/tokens/{minted['tokenId']}/revoke")
        assert revoked.json() == {"tokens": 1, "connections": 1}
        await within(again.ended.wait())
        await refused(api.closed, token=minted["token"])


# --- streams ------------------------------------------------------------------------------------------


async def read(response: httpx.Response, lines: AsyncIterator[str], number: int) -> list[tuple[int, str, Any]]:
    """So many events of a stream."""
    assert response.headers["content-type"].startswith("text/event-stream")
    found: list[tuple[int, str, Any]] = []
    event: dict[str, str] = {}
    async with asyncio.timeout(DEADLINE_S):
        while len(found) < number:
            line = await anext(lines)
            if line:
                name, _, value = line.partition(": ")
                event[name] = value
            elif "data" in event:
                found.append((int(event["id"]), event["event"], orjson.loads(event["data"])))
                event = {}
    return found


async def test_a_stream_goes_on_after_the_last_event(api: Api) -> None:
    await api.joined("alice")
    async with api.client() as http:
        async with http.stream("GET", "/rooms/lobby/events?after=0&event=peer-joined&event=peer-left") as response:
            lines = response.aiter_lines()
            ((seq, name, data),) = await read(response, lines, 1)
            assert (name, data["seq"], data["room"]) == ("peer-joined", seq, "lobby")
            assert data["event"]["data"]["peer"] == "alice"
            await api.joined("zoe", "other")
            left = await api.append(events.PeerLeft(peer="alice", generation=1, cause="removed"))
            ((live, name, data),) = await read(response, lines, 1)
            assert (live, name, data["event"]["data"]["cause"]) == (left, "peer-left", "removed")
        async with http.stream("GET", "/events", headers={"Last-Event-ID": str(seq)}) as response:
            found = await read(response, response.aiter_lines(), 2)
            assert [(name, data["room"]) for _, name, data in found] == [
                ("peer-joined", "other"),
                ("peer-left", "lobby"),
            ]


async def test_a_stream_that_would_skip_events_is_refused(api: Api) -> None:
    await api.joined("alice")
    last = await api.append(events.PeerLeft(peer="alice", generation=1))
    async with api.closed.role("allocator") as allocator:
        await allocator.purge_log(before_seq=last)
    async with api.client() as http:
        assert problem(await http.get("/events", headers={"Last-Event-ID": "1"})) == (410, "log-truncated")


async def test_a_stream_ends_when_its_token_is_revoked(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT_S", 0.1)
    text = api.token()
    token_id = api.closed.tokens.verify_application(text, now=int(time.time())).id
    async with api.client() as http, api.client(text) as other, other.stream("GET", "/events") as response:
        lines = response.aiter_lines()
        assert await within(anext(lines)) == ": open"
        assert (await http.post(f"/tokens/{token_id}/revoke")).status_code == 200
        rest = [line async for line in lines]
    assert "event: error" in rest
    assert '"code":"bad-token"' in rest[rest.index("event: error") + 1]


async def test_streams_end_with_the_server(closed: Closed, caplog: pytest.LogCaptureFixture) -> None:
    async with contextlib.AsyncExitStack() as visitor:
        async with serve_api(closed) as url:
            token = closed.tokens.mint(ApplicationGrants(application=True), life_s=600, now=int(time.time()))
            headers = {"Authorization": f"Bearer {token}"}
            http = await visitor.enter_async_context(httpx.AsyncClient(timeout=DEADLINE_S, trust_env=False))
            response = await visitor.enter_async_context(http.stream("GET", f"{url}/events", headers=headers))
            lines = response.aiter_lines()
            assert await within(anext(lines)) == ": open"
        assert {line async for line in lines} <= {""}  # a response that is cut off raises an error
    assert [it.getMessage() for it in caplog.records if it.name.startswith("uvicorn") and it.levelname == "ERROR"] == []


# --- the document -------------------------------------------------------------------------------------


async def test_the_document_is_open_api_and_has_every_operation(api: Api) -> None:
    async with httpx.AsyncClient(base_url=api.url, trust_env=False) as http:
        document = (await http.get("/openapi.json")).json()
    assert document == orjson.loads(orjson.dumps(openapi_document()))
    validate(document)
    assert document["openapi"].startswith("3.1")
    named = {(method.upper(), path) for path, it in document["paths"].items() for method in it}
    assert named == {(it.method, it.path) for it in OPERATIONS}


# --- the guide ----------------------------------------------------------------------------------------


def curl_lines() -> list[str]:
    """The lines with curl in docs/application-servers.md."""
    return [line.strip() for line in GUIDE.read_text().splitlines() if line.strip().startswith("curl ")]


async def run_curl(http: httpx.AsyncClient, line: str, base: str) -> httpx.Response:
    """Send what a line with curl sends; a stream is closed when it has begun."""
    words = shlex.split(line.replace("$API", base).partition(" # ")[0])[1:]
    method, headers, body, url = "GET", {}, None, ""
    while words:
        match words.pop(0):
            case "-N" | "-s":
                pass
            case "-H":
                name, _, value = words.pop(0).partition(": ")
                headers[name] = value
            case "-X":
                method = words.pop(0)
            case "--json":
                body = words.pop(0)
                method = "POST" if method == "GET" else method
            case word:
                assert word.startswith("http"), f"an option that this test does not know: {word}"
                url = word
    headers = {name: value.replace("$TOKEN", http.headers["authorization"][7:]) for name, value in headers.items()}
    assert "Authorization" in headers
    async with http.stream(method, url, headers=headers, content=body) as response:
        if not response.headers["content-type"].startswith("text/event-stream"):
            await response.aread()
        return response


async def test_every_curl_line_of_the_guide_works(api: Api) -> None:
    lines = curl_lines()
    assert len(lines) >= 10
    await api.joined("alice")
    await api.opened("alice", "mic")
    async with api.client() as http:
        for line in lines:
            response = await run_curl(http, line, api.url)
            assert response.status_code < 300, line
    named = {it.path.rpartition("/")[2] for it in OPERATIONS if it.method != "GET"}
    assert {it for it in named if not any(f"/{it}" in line for line in lines)} == set()


def test_a_problem_of_a_rate_says_in_a_header_when_to_try_again() -> None:
    response = problem_response(RateLimited("too much", limit="messages_per_s", allowed=4, retry_after_s=0.25))
    assert (response.status_code, response.headers["retry-after"]) == (429, "1")
