import { describe, expect, it, vi } from "vitest";
import type { Bus, Stored } from "../src/nats/bus.js";
import type { AnyMessage, Message } from "../src/protocol/envelope.js";
import { Session } from "../src/session/session.js";

/** No WebRTC here: an endpoint that nothing is opened at. */
vi.mock("../src/session/endpoint.js", () => ({
  Endpoint: {
    create: async ({ generation }: { generation: number }) => {
      const lost = new AbortController();
      return { generation, lost: lost.signal, isConnected: true, isHandedOver: false, lose: (reason: string) => lost.abort(new Error(reason)), close: () => undefined, hasTransport: () => false };
    },
  },
}));

/** What a session uses of a bus; the test appends what the fleet would. */
class FakeBus {
  isUp = true;
  #seq = 0;
  readonly #followers: [string, (stored: Stored) => void][] = [];
  readonly #intents: Message[] = [];
  #more = Promise.withResolvers<void>();

  newInbox(): string {
    return "_INBOX.test";
  }

  subscribeStored(pattern: string, take: (stored: Stored) => void): () => void {
    this.#followers.push([pattern, take]);
    return () => undefined;
  }

  subscribeInbox(): () => void {
    return () => undefined;
  }

  onChange(): () => void {
    return () => undefined;
  }

  onClosed(): () => void {
    return () => undefined;
  }

  async flush(): Promise<void> {}

  async append(message: Message): Promise<void> {
    this.#intents.push(message);
    this.#more.resolve();
  }

  async request(): Promise<unknown> {
    return { type: "mafalda.answer.room.v1", data: { seq: this.#seq, peers: [], producers: [], dataProducers: [] } };
  }

  async intent(): Promise<Message> {
    while (this.#intents.length === 0) {
      this.#more = Promise.withResolvers();
      await this.#more.promise;
    }
    return this.#intents.shift()!;
  }

  /** Stores a message that whoever follows this part of the room receives. */
  store(part: "result" | "peer" | "room", type: string, data: Record<string, unknown>, cause?: Message): void {
    const infix = { result: ".peer.alice.result.", peer: ".peer.alice.event.", room: ".lobby.event." }[part];
    const message = { type, data, ...(cause && { causationid: cause.id, correlationid: cause.id }) } as unknown as AnyMessage;
    const stored = { seq: ++this.#seq, message } as unknown as Stored;
    for (const [pattern, take] of this.#followers) if (pattern.includes(infix)) take(stored);
  }

  placed(join: Message, generation: number): void {
    this.store("result", "mafalda.result.join.v1", { server: "s1", worker: "w1", generation }, join);
  }

  done(intent: Message, generation: number): void {
    this.store("result", "mafalda.result.done.v1", { intent: "set-audience", generation }, intent);
  }
}

const nobody = { changed: () => undefined, peerEvent: () => undefined, state: () => undefined, ended: () => undefined };

async function joined(bus: FakeBus): Promise<Session> {
  const session = new Session(bus as unknown as Bus, { room: "lobby", peer: "alice", appData: {} }, nobody);
  const joining = session.join();
  const join = await bus.intent();
  expect(join.data).not.toHaveProperty("audience");
  bus.placed(join, 1);
  await joining;
  return session;
}

describe("Session", () => {
  it("joins again as one of the audience when it was demoted", async () => {
    const bus = new FakeBus();
    const session = await joined(bus);
    bus.store("room", "mafalda.event.peer-demoted.v1", { peer: "alice", generation: 1 });
    bus.store("peer", "mafalda.event.peer-left.v1", { peer: "alice", generation: 1, reason: "timed-out" });
    expect(await bus.intent()).toMatchObject({ type: "mafalda.intent.join.v1", data: { audience: true } });
    session.end();
  });

  it("asks the new place for what the former one has done after the move", async () => {
    const bus = new FakeBus();
    const session = await joined(bus);
    const demoted = session.setAudience(true);
    const first = await bus.intent();
    bus.store("room", "mafalda.event.peer-moved.v1", { peer: "alice", generation: 2, cause: "drain" });
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
    bus.store("room", "mafalda.event.peer-moved.v1", { peer: "alice", generation: 2, cause: "drain" });
    expect(await bus.intent()).toMatchObject({ type: "mafalda.intent.set-audience.v1", data: { audience: true } });
    session.end();
  });
});
