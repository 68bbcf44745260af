// @vitest-environment happy-dom
import { act, createElement } from "react";
import { createRoot } from "react-dom/client";
import type { PeerInfo, PeerQuality, RemoteSubscription, Room, RoomEvents, Speaker } from "mafalda-client";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Emitter } from "../../sdk/src/emitter.js";
import { useData, usePeers, useQuality, useRoomState, useSpeakers, useTrack } from "../src/index.js";

class FakeRoom extends Emitter<RoomEvents> {
  state = "joined";
  peerId = "me";
  peers = new Map<string, PeerInfo>();
  speakers: readonly Speaker[] = [];
  qualities = new Map<string, PeerQuality>();
  quality = (peer = this.peerId): PeerQuality => this.qualities.get(peer) ?? {};
  fire<K extends keyof RoomEvents>(name: K, event: RoomEvents[K]): void {
    this.emit(name, event);
  }
  get asRoom(): Room {
    return this as unknown as Room;
  }
}

let container: HTMLElement;
let root: ReturnType<typeof createRoot>;

beforeEach(() => {
  (globalThis as { IS_REACT_ACT_ENVIRONMENT?: boolean }).IS_REACT_ACT_ENVIRONMENT = true;
  container = document.body.appendChild(document.createElement("div"));
  root = createRoot(container);
});
afterEach(() => act(async () => root.unmount()));

test("peers and state follow the room, and another room replaces both", async () => {
  function View({ room }: { room: Room | undefined }) {
    return `${useRoomState(room)}: ${usePeers(room).map(({ id }) => id).join(" ")}`;
  }
  const first = new FakeRoom();
  await act(async () => root.render(createElement(View, { room: undefined })));
  expect(container.textContent).toBe("left: ");
  await act(async () => root.render(createElement(View, { room: first.asRoom })));
  expect(container.textContent).toBe("joined: ");

  const ana = { id: "ana", appData: {} };
  await act(async () => {
    first.peers.set("ana", ana);
    first.state = "reconnecting";
    first.fire("peerJoined", ana);
    first.fire("stateChanged", { state: "reconnecting", reason: "" });
  });
  expect(container.textContent).toBe("reconnecting: ana");

  const second = new FakeRoom();
  second.peers.set("bruno", { id: "bruno", appData: {} });
  await act(async () => root.render(createElement(View, { room: second.asRoom })));
  expect(container.textContent).toBe("joined: bruno");
  await act(async () => first.fire("peerLeft", ana));
  expect(container.textContent).toBe("joined: bruno");
});

test("a track is attached to its element, and detached when another one takes its place", async () => {
  const subscription = () => ({ attach: vi.fn(), detach: vi.fn() });
  function View({ shown }: { shown: unknown }) {
    return createElement("video", { ref: useTrack(shown as RemoteSubscription) });
  }
  const [one, two] = [subscription(), subscription()];
  await act(async () => root.render(createElement(View, { shown: one })));
  const video = container.querySelector("video");
  expect(one.attach).toHaveBeenCalledExactlyOnceWith(video);
  await act(async () => root.render(createElement(View, { shown: two })));
  expect(one.detach).toHaveBeenCalledExactlyOnceWith(video);
  expect(two.attach).toHaveBeenCalledExactlyOnceWith(video);
  await act(async () => root.render(null));
  expect(two.detach).toHaveBeenCalledExactlyOnceWith(video);
});

test("only messages with the label are given to the latest callback", async () => {
  const room = new FakeRoom();
  const seen: string[] = [];
  function View({ prefix }: { prefix: string }) {
    useData(room.asRoom, "chat", ({ message }) => seen.push(`${prefix}${String(message)}`));
    return null;
  }
  const producer = { id: "p", peer: "ana", kind: "data" as const, paused: false, appData: {} };
  await act(async () => root.render(createElement(View, { prefix: "1 " })));
  await act(async () => root.render(createElement(View, { prefix: "2 " })));
  room.fire("dataReceived", { peer: "ana", label: "chat", message: "hello", producer });
  room.fire("dataReceived", { peer: "ana", label: "game", message: "left", producer });
  expect(seen).toEqual(["2 hello"]);
});

test("speakers and qualities follow the room", async () => {
  function View({ room }: { room: Room }) {
    return `${useSpeakers(room).map(({ peer }) => peer).join(" ")}: ${useQuality(room).up} ${useQuality(room, "ana").down}`;
  }
  const room = new FakeRoom();
  await act(async () => root.render(createElement(View, { room: room.asRoom })));
  expect(container.textContent).toBe(": undefined undefined");
  await act(async () => {
    room.speakers = [{ peer: "ana", producer: "mic" }];
    room.qualities.set("me", { up: "poor" }).set("ana", { down: "good" });
    room.fire("speakersChanged", room.speakers);
    room.fire("qualityChanged", { peer: "me", way: "up", quality: "poor" });
    room.fire("qualityChanged", { peer: "ana", way: "down", quality: "good" });
  });
  expect(container.textContent).toBe("ana: poor good");
});
