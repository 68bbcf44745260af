import { afterEach, describe, expect, it, vi } from "vitest";
import { Refused, Unavailable, type MafaldaError } from "../src/errors.js";
import type { Stored } from "../src/nats/bus.js";
import type { AnyMessage } from "../src/protocol/envelope.js";
import type { Resource } from "../src/session/resource.js";
import type { RosterChange } from "../src/session/roster.js";
import { Session, type SessionListener, type SessionState } from "../src/session/session.js";
import { FakeBus } from "./fake-bus.js";

/** No WebRTC here: an endpoint that nothing is opened at. */
vi.mock("../src/session/endpoint.js", () => ({
  Endpoint: {
    create: async ({ generation }: { generation: number }) => {
      const lost = new AbortController();
      return { generation, lost: lost.signal, isConnected: true, isHandedOver: false, lose: (reason: string) => lost.abort(new Error(reason)), close: () => undefined, hasTransport: () => false, transportIds: async () => [] };
    },
  },
}));

/** What a session tells; the changes of the room as `producer-changed cam`. */
class Told implements SessionListener {
  readonly changes: string[] = [];
  readonly #ended = Promise.withResolvers<MafaldaError | undefined>();
  #state: SessionState = "joining";
  #news = Promise.withResolvers<void>();

  changed(changes: RosterChange[]): void {
    for (const it of changes) this.changes.push(`${it.type} ${"peer" in it ? it.peer.id : it.producer.id}`);
  }

  speakers = () => undefined;

  peerEvent(message: AnyMessage): void {
    if (message.type === "mafalda.event.producer-layers-changed.v1") this.changes.push(`layers ${message.data.spatialLayer}`);
  }

  state(state: SessionState): void {
    this.#state = state;
    this.#news.resolve();
    this.#news = Promise.withResolvers();
  }

  ended(error: MafaldaError | undefined): void {
    this.#ended.resolve(error);
  }

  async joined(): Promise<void> {
    while (this.#state !== "joined") await this.#news.promise;
  }

  async end(): Promise<MafaldaError | undefined> {
    return await this.#ended.promise;
  }
}

async function joined(bus: FakeBus, told = new Told()): Promise<Session> {
  const session = new Session(bus.bus, { room: "lobby", peer: "alice", appData: {} }, told);
  const joining = session.join();
  const join = await bus.intent();
  expect(join.data).not.toHaveProperty("audience");
  bus.placed(join, 1);
  await joining;
  await told.joined();
  told.changes.length = 0;
  bus.queries.length = 0;
  return session;
}

const opened = (producer: string) =>
  ({ producer, peer: "bob", generation: 1, transport: "t", server: "s1", worker: "w1", mediaKind: "video", type: "simple" }) as const;

describe("Session", () => {
  it("requests its transports in one flight with the join", async () => {
    const bus = new FakeBus();
    const session = new Session(bus.bus, { room: "lobby", peer: "alice", appData: {}, transports: ["receive", "send"] }, new Told());
    const joining = session.join();
    const join = await bus.intent();
    const ahead = [await bus.intent(), await bus.intent()];
    expect([join, ...ahead].map(({ type, data }) => [type.split(".")[2], (data as { direction?: string }).direction])).toEqual([
      ["join", undefined],
      ["create-transport", "receive"],
      ["create-transport", "send"],
    ]);
    bus.placed(join, 1);
    await joining;
    session.end();
  });

  it("joins again with the application's data as it was changed", async () => {
    const bus = new FakeBus();
    const session = await joined(bus);
    const changing = session.setAppData({ hand: true });
    bus.done(await bus.intent(), 1);
    await changing;
    bus.store("peer", "mafalda.event.peer-left.v1", { peer: "alice", generation: 1, reason: "timed-out" });
    expect(await bus.intent()).toMatchObject({ type: "mafalda.intent.join.v1", data: { appData: { hand: true } } });
    session.end();
  });

  it("joins again as one of the audience when it was demoted", async () => {
    const bus = new FakeBus();
    const session = await joined(bus);
    bus.store("room", "mafalda.event.peer-demoted.v1", { peer: "alice", generation: 1 });
    bus.store("peer", "mafalda.event.peer-left.v1", { peer: "alice", generation: 1, reason: "timed-out" });
    expect(await bus.intent()).toMatchObject({ type: "mafalda.intent.join.v1", data: { audience: true } });
    session.end();
  });

  it("names the place that an intent about its objects is meant for", async () => {
    const bus = new FakeBus();
    const session = await joined(bus);
    for (const ask of [
      () => session.requests.ask("close-producer", { producer: "mic" }, "mafalda.result.done.v1"),
      () => session.requests.ask("set-app-data", { appData: {} }, "mafalda.result.done.v1"),
    ]) {
      const done = ask();
      bus.done(await bus.intent(), 1);
      await done;
    }
    expect(bus.generations).toEqual([undefined, 1, undefined]);
    session.end();
  });

  it("asks the new place for what the former one has done after the move", async () => {
    const bus = new FakeBus();
    const session = await joined(bus);
    const demoted = session.setAudience(true);
    const first = await bus.intent();
    bus.store("room", "mafalda.event.peer-moved.v1", { peer: "alice", generation: 2, server: "s1", worker: "w2", cause: "drain" });
    bus.done(first, 1);
    const second = await bus.intent();
    expect(second).toMatchObject({ type: "mafalda.intent.set-audience.v1", data: { audience: true } });
    bus.done(second, 2);
    await demoted;
    session.end();
  });

  it("asks the new place for a demotion that was made after it was decided", async () => {
    const bus = new FakeBus();
    const session = await joined(bus);
    bus.store("room", "mafalda.event.peer-demoted.v1", { peer: "alice", generation: 1 });
    bus.store("room", "mafalda.event.peer-moved.v1", { peer: "alice", generation: 2, server: "s1", worker: "w2", cause: "drain" });
    expect(await bus.intent()).toMatchObject({ type: "mafalda.intent.set-audience.v1", data: { audience: true } });
    session.end();
  });
});

describe("Session.join", () => {
  it("leaves the place of a join that was aborted before it was answered", async () => {
    const bus = new FakeBus();
    const session = new Session(bus.bus, { room: "lobby", peer: "alice", appData: {} }, new Told());
    const aborting = new AbortController();
    const joining = expect(session.join(aborting.signal)).rejects.toThrow("not any more");
    const join = await bus.intent();
    aborting.abort(new Error("not any more"));
    bus.placed(join, 1);
    const leave = await bus.intent();
    expect(leave.type).toBe("mafalda.intent.leave.v1");
    expect(session.state).toBe("joining"); // the connection is closed when it has ended
    bus.done(leave, 1);
    await joining;
    expect(session.state).toBe("left");
  });

  it("has nothing to leave when the join was refused", async () => {
    const bus = new FakeBus();
    const session = new Session(bus.bus, { room: "lobby", peer: "alice", appData: {} }, new Told());
    const joining = expect(session.join()).rejects.toThrow("no room");
    bus.refused(await bus.intent(), "no-capacity", "no room");
    await joining;
    expect(bus.isIdle).toBe(true);
  });
});

describe("Session after an interruption", () => {
  afterEach(() => void vi.useRealTimers());

  it("takes what it missed page by page, each once and in order, before what comes meanwhile", async () => {
    const bus = new FakeBus();
    const told = new Told();
    const session = await joined(bus, told);
    const layers = (spatialLayer: number) => bus.store("peer", "mafalda.event.producer-layers-changed.v1", { producer: "own", generation: 1, spatialLayer });
    bus.store("room", "mafalda.event.producer-opened.v1", opened("cam"));
    layers(2); // received: neither is to be told again
    bus.interrupt();
    bus.store("room", "mafalda.event.producer-paused.v1", { peer: "bob", producer: "cam" });
    layers(1);
    bus.store("room", "mafalda.event.producer-resumed.v1", { peer: "bob", producer: "cam" });
    bus.pageSize = 3;
    let meanwhile: Stored | undefined;
    bus.onEntries = () => void (meanwhile ??= layers(0));
    bus.restore();
    await told.joined();
    bus.publish(meanwhile!); // late
    bus.store("room", "mafalda.event.producer-opened.v1", opened("screen"));
    expect(told.changes).toEqual(["producer-added cam", "layers 2", "producer-changed cam", "layers 1", "producer-changed cam", "layers 0", "producer-added screen"]);
    expect(bus.queries).toEqual(["entries", "entries", "entries"]);
    session.end();
  });

  it("gets the result of an intent that was under way, which is asked once", async () => {
    const bus = new FakeBus();
    const told = new Told();
    const session = await joined(bus, told);
    const promoted = session.setAudience(false);
    const intent = await bus.intent();
    bus.interrupt();
    bus.done(intent, 1);
    bus.restore();
    await promoted;
    await told.joined();
    expect(bus.queries).toEqual(["entries"]);
    session.end();
  });

  it("notices that it was demoted", async () => {
    const bus = new FakeBus();
    const session = await joined(bus);
    bus.interrupt();
    bus.store("room", "mafalda.event.peer-demoted.v1", { peer: "alice", generation: 1 });
    bus.store("peer", "mafalda.event.peer-left.v1", { peer: "alice", generation: 1, reason: "timed-out" });
    bus.restore();
    expect(await bus.intent()).toMatchObject({ type: "mafalda.intent.join.v1", data: { audience: true } });
    session.end();
  });

  it("notices that it was removed, and does not come back", async () => {
    const bus = new FakeBus();
    const told = new Told();
    await joined(bus, told);
    bus.interrupt();
    bus.store("room", "mafalda.event.peer-left.v1", { peer: "alice", generation: 1, reason: "left", cause: "removed" });
    bus.restore();
    expect(await told.end()).toMatchObject({ code: "not-joined", message: expect.stringContaining("removed") });
  });

  it("goes to the place that it was given", async () => {
    const bus = new FakeBus();
    const told = new Told();
    const session = await joined(bus, told);
    bus.interrupt();
    bus.store("room", "mafalda.event.peer-moved.v1", { peer: "alice", generation: 2, server: "s2", worker: "w2", cause: "worker-died" });
    bus.store("result", "mafalda.result.join.v1", { server: "s2", worker: "w2", generation: 2, routerRtpCapabilities: {} });
    bus.restore();
    await told.joined();
    expect(session.placement).toMatchObject({ server: "s2", generation: 2 });
    session.end();
  });

  it("asks again when the connection breaks before the answer", async () => {
    const bus = new FakeBus();
    const told = new Told();
    const session = await joined(bus, told);
    bus.interrupt();
    bus.store("room", "mafalda.event.producer-opened.v1", opened("cam"));
    const asked = Promise.withResolvers<void>();
    const answered = Promise.withResolvers<void>();
    bus.onEntries = () => (asked.resolve(), answered.promise);
    bus.restore();
    await asked.promise;
    bus.interrupt();
    bus.store("room", "mafalda.event.producer-opened.v1", opened("screen"));
    bus.onEntries = async () => {
      answered.resolve(); // of the first question, which knows nothing of the screen
      for (let turn = 0; turn < 20; turn++) await Promise.resolve();
      bus.store("room", "mafalda.event.producer-opened.v1", opened("slides"));
    };
    bus.restore();
    await told.joined();
    expect(told.changes).toEqual(["producer-added cam", "producer-added screen", "producer-added slides"]);
    session.end();
  });

  it("checks a publication that could not be muted for as long as the connection was away, and no other", async () => {
    vi.useFakeTimers();
    const bus = new FakeBus();
    const told = new Told();
    const session = await joined(bus, told);
    const checked: string[] = [];
    for (const serverId of ["mic", "cam"]) {
      const publication = { state: "open", serverId, check: async () => void checked.push(serverId), end: () => undefined };
      session.resources.add(publication as unknown as Resource);
    }
    bus.interrupt();
    const muted = expect(session.requests.ask("pause-producer", { producer: "mic" }, "mafalda.result.done.v1")).rejects.toThrow("in time");
    await vi.advanceTimersByTimeAsync(20_000);
    await muted;
    bus.restore();
    await told.joined();
    expect(checked).toEqual(["mic"]);
    session.end();
  });

  it.each([
    ["the log has it no more", (bus: FakeBus) => (bus.onEntries = () => Promise.reject(new Refused("log-truncated", "discarded")))],
    ["no agent sends it", (bus: FakeBus) => (bus.onEntries = () => Promise.reject(new Unavailable("deadline-exceeded", "no answer")))],
    ["it is too much", (bus: FakeBus) => (bus.pageSize = 1)],
  ])("loads the room when %s, and asks again what can be asked twice", async (_, hinder) => {
    vi.useFakeTimers();
    const bus = new FakeBus();
    const told = new Told();
    const session = await joined(bus, told);
    const promoted = session.setAudience(false);
    const first = await bus.intent();
    bus.interrupt();
    for (let number = 0; number < 20; number++) bus.store("room", "mafalda.event.producer-opened.v1", opened(`cam${number}`));
    bus.peers = ["alice", "bob"];
    hinder(bus);
    bus.restore();
    await vi.advanceTimersByTimeAsync(12_000);
    await told.joined();
    expect(told.changes).toEqual(["peer-joined bob"]); // as the agent has it
    expect(bus.queries.at(-1)).toBe("room");
    let second = await bus.intent();
    while (second.id === first.id) second = await bus.intent(); // repeated until then
    expect(second).toMatchObject({ type: "mafalda.intent.set-audience.v1", data: { audience: false } });
    bus.done(second, 1);
    await promoted;
    bus.store("room", "mafalda.event.producer-opened.v1", opened("live"));
    expect(told.changes.at(-1)).toBe("producer-added live");
    session.end();
  });
});
