import { describe, expect, it } from "vitest";
import { Refused } from "../src/errors.js";
import type { Endpoint } from "../src/session/endpoint.js";
import { RoomSubscription } from "../src/session/room-subscription.js";
import type { Session } from "../src/session/session.js";

/** What a resource uses of an endpoint. */
class Place {
  readonly lost = new AbortController().signal;

  async receiveTransport(): Promise<void> {}
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
  readonly #place = new Place();
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

  async endpoint(): Promise<Endpoint> {
    return this.#place as unknown as Endpoint;
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
    await other;
    const again = await fleet.next();
    expect(again).toMatchObject({ action: "subscribe", data: { select: [{ producer: "mic" }] } });
    again.answer();
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
