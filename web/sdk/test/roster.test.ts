import { describe, expect, it } from "vitest";
import type { AnyMessage, MessageType } from "../src/protocol/envelope.js";
import { compose } from "../src/protocol/envelope.js";
import type { MessageData, RoomSnapshotAnswer } from "../src/protocol/messages.js";
import { Roster } from "../src/session/roster.js";

const PLACE = { server: "s1", worker: "w1" };

function event<T extends MessageType>(type: T, data: MessageData[T]): AnyMessage {
  return compose(type, data, "mafalda.room.lobby.event.x", "/test") as AnyMessage;
}

function snapshot(seq: number, peers: string[], producers: [id: string, peer: string][]): RoomSnapshotAnswer {
  return {
    seq,
    peers: peers.map((peer) => ({ peer, appData: { name: peer } })),
    producers: producers.map(([producer, peer]) => ({ producer, peer, mediaKind: "video", paused: false, appData: {} })),
    dataProducers: [],
  };
}

const opened = (producer: string, peer: string, generation = 1) =>
  event("mafalda.event.producer-opened.v1", {
    producer,
    peer,
    generation,
    transport: "t",
    ...PLACE,
    mediaKind: "video",
    type: "simple",
    paused: false,
    appData: {},
  });

const closed = (producer: string, peer: string, generation: number, reason: "closed" | "worker-died") =>
  event("mafalda.event.producer-closed.v1", { producer, peer, generation, reason });

function roster(): Roster {
  const it = new Roster();
  it.reset([snapshot(10, ["ana", "bob"], [["cam", "ana"]])]);
  return it;
}

describe("Roster", () => {
  it("tells what a snapshot has that was not known", () => {
    const changes = new Roster().reset([snapshot(10, ["ana"], []), snapshot(11, ["bob"], [["cam", "bob"]])]);
    expect(changes.map((change) => change.type)).toEqual(["peer-joined", "peer-joined", "producer-added"]);
  });

  it("counts the first page's sequence: events after it come on top of all pages", () => {
    const it = new Roster();
    it.reset([snapshot(10, ["ana"], []), snapshot(14, ["bob"], [])]);
    expect(it.apply(10, opened("cam", "ana"))).toEqual([]);
    expect(it.apply(11, opened("cam", "ana"))).toHaveLength(2); // ana's place, and her producer
  });

  it("keeps the producers of a peer that is handed over, which cannot be consumed until they are open again", () => {
    const it = roster();
    const moved = { peer: "ana", generation: 2, cause: "drain" as const, handover: true, ...PLACE };
    expect(it.apply(11, event("mafalda.event.peer-moved.v1", moved)).map((change) => change.type)).toEqual(["peer-changed"]);
    expect(it.producers.has("cam")).toBe(true);
    expect(it.canConsume("cam")).toBe(false);
    expect(it.apply(12, opened("cam", "ana", 2)).map((change) => change.type)).toContain("producer-reopened");
    expect(it.canConsume("cam")).toBe(true);
  });

  it("begins a producer anew whose handover a later snapshot may have ended", () => {
    const it = roster();
    it.apply(11, event("mafalda.event.peer-moved.v1", { peer: "ana", generation: 2, cause: "drain" as const, handover: true, ...PLACE }));
    expect(it.reset([snapshot(20, ["ana", "bob"], [["cam", "ana"]])])).toMatchObject([{ type: "producer-reopened", producer: { id: "cam" } }]);
    expect(it.canConsume("cam")).toBe(true);
  });

  it("keeps a producer as moved while its peer is placed again, and takes it back", () => {
    const it = roster();
    const moved = it.apply(11, event("mafalda.event.peer-moved.v1", { peer: "ana", generation: 2, cause: "worker-died", ...PLACE }));
    expect(moved[0]).toMatchObject({ type: "producer-removed", moved: true });
    expect(it.apply(12, opened("cam", "ana", 2)).at(-1)).toMatchObject({ type: "producer-added", producer: { id: "cam" } });
  });

  it("ignores the late close of a producer that is open again", () => {
    const it = roster();
    it.apply(11, opened("cam", "ana", 2));
    expect(it.apply(12, closed("cam", "ana", 1, "worker-died"))).toEqual([]);
    expect(it.producers.has("cam")).toBe(true);
  });

  it("tells a producer that its owner closed from one that comes back", () => {
    expect(roster().apply(11, closed("cam", "ana", 1, "closed"))).toMatchObject([{ moved: false }]);
    expect(roster().apply(11, closed("cam", "ana", 1, "worker-died"))).toMatchObject([{ moved: true }]);
  });

  it("begins a producer anew that is opened without having been closed", () => {
    expect(roster().apply(11, opened("cam", "ana", 2)).map((change) => change.type)).toEqual(["peer-changed", "producer-reopened"]);
  });

  it("removes what a leaving peer sent, then the peer", () => {
    const it = roster();
    const changes = it.apply(11, event("mafalda.event.peer-left.v1", { peer: "ana", generation: 1, reason: "left" }));
    expect(changes.map((change) => change.type)).toEqual(["producer-removed", "peer-left"]);
    expect([...it.peers.keys()]).toEqual(["bob"]);
  });

  it("tells pauses once", () => {
    const it = roster();
    const paused = event("mafalda.event.producer-paused.v1", { producer: "cam", peer: "ana" });
    expect(it.apply(11, paused)).toMatchObject([{ type: "producer-changed", producer: { paused: true } }]);
    expect(it.apply(12, paused)).toEqual([]);
  });

  it("compares a later snapshot: what a present peer lost may come back, what a gone peer sent does not", () => {
    const it = roster();
    it.apply(11, opened("screen", "bob"));
    const changes = it.reset([snapshot(20, ["ana"], [])]);
    expect(changes).toMatchObject([
      { type: "producer-removed", producer: { id: "cam" }, moved: true },
      { type: "producer-removed", producer: { id: "screen" }, moved: false },
      { type: "peer-left", peer: { id: "bob" } },
    ]);
  });
});
