import { describe, expect, it } from "vitest";
import { Closed, MafaldaError, Refused } from "../src/errors.js";
import type { Endpoint } from "../src/session/endpoint.js";
import { Resource } from "../src/session/resource.js";
import { RoomSubscription } from "../src/session/room-subscription.js";
import type { Session } from "../src/session/session.js";

/** What a resource uses of an endpoint. */
class Place {
  readonly #lost = new AbortController();
  isHandedOver = false;

  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  lose({ handover = false } = {}): void {
    this.isHandedOver = handover;
    this.#lost.abort(new MafaldaError("placement-lost", "lost"));
  }

  async receiveTransport(): Promise<void> {}
  async prepareToReceive(): Promise<undefined> {}
}

interface Asked {
  readonly action: string;
  readonly data: Record<string, unknown>;
  answer(error?: Error): void;
}

/** What a resource uses of a session; the test answers what is asked. */
class Fleet {
  readonly resources = new Set<unknown>();
  readonly #asked: Asked[] = [];
  #more = Promise.withResolvers<void>();
  #places = [new Place()];
  #moved = Promise.withResolvers<void>();
  readonly requests = {
    ask: (action: string, data: Record<string, unknown>) => {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      this.#asked.push({ action, data, answer: (error) => (error ? reject(error) : resolve()) });
      this.#more.resolve();
      return promise;
    },
  };

  get session(): Session {
    return this as unknown as Session;
  }

  get place(): Place {
    return this.#places.at(-1)!;
  }

  move({ handover = false } = {}): void {
    const before = this.place;
    this.#places.push(new Place());
    before.lose({ handover });
    this.#moved.resolve();
    this.#moved = Promise.withResolvers();
  }

  async endpoint(): Promise<Endpoint> {
    while (this.place.lost.aborted) await this.#moved.promise;
    return this.place as unknown as Endpoint;
  }

  async next(): Promise<Asked> {
    while (this.#asked.length === 0) {
      this.#more = Promise.withResolvers();
      await this.#more.promise;
    }
    return this.#asked.shift()!;
  }
}

const nobody = { made: () => undefined, failed: () => undefined, ended: () => undefined };

describe("RoomSubscription", () => {
  it("is said again when it was changed before the answer", async () => {
    const fleet = new Fleet();
    const wish = new RoomSubscription(fleet.session, [{ kind: "audio" }], nobody);
    const opened = wish.start();
    const first = await fleet.next();
    expect(first.data["select"]).toEqual([{ kind: "audio" }]);
    await wish.add("cam");
    first.answer();
    const second = await fleet.next();
    expect(second).toMatchObject({ action: "subscribe", data: { select: [{ kind: "audio" }, { producer: "cam" }] } });
    second.answer();
    await opened;
    wish.end();
  });

  it("says all of it when a change is refused, without what has closed", async () => {
    const fleet = new Fleet();
    const wish = new RoomSubscription(fleet.session, [], nobody);
    const opened = wish.start();
    (await fleet.next()).answer();
    await opened;
    const added = wish.add("cam");
    (await fleet.next()).answer();
    await added;
    wish.producerClosed("cam");
    const other = wish.add("mic");
    (await fleet.next()).answer(new Refused("bad-input", "too many selectors", {}));
    const again = await fleet.next();
    expect(again).toMatchObject({ action: "subscribe", data: { select: [{ producer: "mic" }] } });
    again.answer();
    await other;
    wish.end();
  });

  it.each(Array.from({ length: 12 }, (_, turns) => turns))("says what was changed %i turns after the answer", async (turns) => {
    const fleet = new Fleet();
    const wish = new RoomSubscription(fleet.session, [], nobody);
    void wish.start();
    (await fleet.next()).answer();
    for (let turn = 0; turn < turns; turn++) await Promise.resolve();
    const added = wish.add("cam");
    const said = await fleet.next();
    expect([said.data["add"], said.data["select"]]).toContainEqual([{ producer: "cam" }]);
    said.answer();
    await added;
    wish.end();
  });

  it("takes a change back that is refused all the same, and stands", async () => {
    const fleet = new Fleet();
    const wish = new RoomSubscription(fleet.session, [{ kind: "audio" }], nobody);
    const opened = wish.start();
    (await fleet.next()).answer();
    await opened;
    const added = wish.add("cam");
    for (let request = 0; request < 2; request++) (await fleet.next()).answer(new Refused("bad-input", "too many selectors", {}));
    await expect(added).rejects.toThrow("too many selectors");
    expect(wish.state).toBe("open");
    fleet.move();
    const again = await fleet.next();
    expect(again).toMatchObject({ action: "subscribe", data: { select: [{ kind: "audio" }] } });
    again.answer();
    wish.end();
  });

  it("sends no selection that is too long", async () => {
    const fleet = new Fleet();
    const many = Array.from({ length: 1024 }, (_, number) => ({ producer: `p${number}` }));
    const wish = new RoomSubscription(fleet.session, many, nobody);
    const opened = wish.start();
    (await fleet.next()).answer();
    await opened;
    await expect(wish.add("cam")).rejects.toThrow("too many selectors");
    wish.end();
  });

  it("ends when it is refused for good", async () => {
    const fleet = new Fleet();
    const wish = new RoomSubscription(fleet.session, [], nobody);
    const opened = wish.start();
    (await fleet.next()).answer(new Refused("bad-input", "no such thing", {}));
    await expect(opened).rejects.toThrow("no such thing");
    expect(wish.state).toBe("closed");
  });
});

/** Opens when the test lets it. */
class Opened extends Resource {
  expected = true;
  opening = Promise.withResolvers<void>();
  readonly states: string[] = [];
  readonly tries: Endpoint[] = [];
  dropped = 0;
  #changed = Promise.withResolvers<void>();

  get serverId(): undefined {
    return undefined;
  }

  async check(): Promise<void> {}

  gone(): void {
    this.expected = false;
    this.notify();
  }

  async untilTried(times: number): Promise<void> {
    while (this.tries.length < times) await this.#changed.promise;
  }

  protected override async open(endpoint: Endpoint): Promise<void> {
    this.tries.push(endpoint);
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
    await this.opening.promise;
  }

  protected override dropLocal(): void {}
  protected override keepFormer(): void {}

  protected override dropFormer(): void {
    this.dropped++;
  }

  protected override async flows(): Promise<void> {}

  protected override onState(state: string): void {
    this.states.push(state);
  }

  protected override isExpected(): boolean {
    return this.expected;
  }
}

describe("Resource", () => {
  it("is not open any more when the endpoint of a handover fails before it is opened there", async () => {
    const fleet = new Fleet();
    const it = new Opened(fleet.session);
    const opened = it.start();
    it.opening.resolve();
    await opened;
    await it.flowing(fleet.place as unknown as Endpoint);
    it.opening = Promise.withResolvers();
    fleet.move({ handover: true });
    await it.untilTried(2);
    expect(it.state).toBe("open");
    const before = it.dropped;
    fleet.move();
    await it.untilTried(3);
    expect(it.state).toBe("opening");
    expect(it.dropped).toBe(before + 1);
    it.opening.reject(new Closed("enough"));
    it.end();
  });

  it("is waited for only while it can be open", async () => {
    const fleet = new Fleet();
    const it = new Opened(fleet.session);
    const opened = it.start();
    const flowing = it.flowing(fleet.place as unknown as Endpoint);
    it.gone();
    await flowing;
    expect(it.state).toBe("opening");
    it.end();
    await expect(opened).rejects.toThrow();
  });
});
