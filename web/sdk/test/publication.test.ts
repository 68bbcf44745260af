import { describe, expect, it } from "vitest";
import type { types } from "mediasoup-client";
import { LocalDataPublication } from "../src/media/data.js";
import { LocalPublication } from "../src/media/publication.js";
import type { Endpoint } from "../src/session/endpoint.js";
import type { Session } from "../src/session/session.js";

const nothing = () => undefined;

/** What `RTCRtpSender` has of encodings, as browsers have it: what was got is to be set, whole. */
class Sender {
  encodings: { active: boolean; [name: string]: unknown }[] = [{ active: true }, { active: true }, { active: true }];
  #got: unknown;

  getParameters() {
    return (this.#got = { encodings: this.encodings.map((it) => ({ ...it })) });
  }

  async setParameters(parameters: { encodings: { active: boolean; [name: string]: unknown }[] }): Promise<void> {
    if (parameters !== this.#got) throw new Error("these parameters are not the latest");
    this.#got = undefined;
    this.encodings = parameters.encodings;
  }

  get sent(): boolean[] {
    return this.encodings.map(({ active }) => active);
  }
}

class DataProducer {
  readonly listeners = new Map<string, () => void>();
  readyState = "open";
  problem: Error | undefined;

  on(name: string, listener: () => void): void {
    this.listeners.set(name, listener);
  }

  close(): void {
    this.readyState = "closed";
  }

  send(): void {
    if (this.problem) throw this.problem;
  }
}

/** A session with one place after another, whose transport makes what the test gives. */
function fleet(mimeType?: string) {
  const sender = new Sender();
  const dataProducers = [new DataProducer()];
  const transport = {
    produce: async () => ({ rtpSender: sender, closed: false, close: nothing, pause: nothing, resume: nothing }),
    produceData: async () => dataProducers.at(-1) as unknown as types.DataProducer,
  };
  const endpoint = {
    generation: 2,
    lost: new AbortController().signal,
    device: { sendRtpCapabilities: { codecs: mimeType ? [{ mimeType }] : [] } },
    sendTransport: async () => transport,
    connected: async () => undefined,
  } as unknown as Endpoint;
  const session = {
    resources: new Set(),
    roster: { producers: new Map() },
    requests: { ask: async () => ({}) },
    endpoint: async () => endpoint,
  } as unknown as Session;
  return { sender, dataProducers, session };
}

const camera = { kind: "video" } as MediaStreamTrack;
const soon = () => new Promise((resolve) => setTimeout(resolve));

describe("a publication", () => {
  it("sends the layers that its present placement says, and all when it may have missed that", async () => {
    const { sender, session } = fleet();
    const publication = new LocalPublication(session, camera, {}, nothing, nothing);
    await publication.start();
    expect(sender.sent).toEqual([true, true, true]);
    publication.layersChanged(0, 2);
    publication.layersChanged(1, 2);
    await soon();
    expect(sender.sent).toEqual([true, true, false]);
    publication.layersChanged(-1, 2);
    await soon();
    expect(sender.sent).toEqual([false, false, false]);
    (session.roster.producers as Map<string, unknown>).set(publication.id, {});
    await publication.check();
    await soon();
    expect(sender.sent).toEqual([true, true, true]);
  });

  it("sends fewer spatial layers of one encoding, each as large as before", async () => {
    const { sender, session } = fleet("video/VP9");
    sender.encodings = [{ active: true, scalabilityMode: "L3T3_KEY" }];
    const track = { kind: "video", getSettings: () => ({ width: 1280, height: 720 }) } as unknown as MediaStreamTrack;
    const publication = new LocalPublication(session, track, { codec: "VP9", maxBitrate: 1_600_000 }, nothing, nothing);
    await publication.start();
    const sent = async (highest: number) => {
      publication.layersChanged(highest, 2);
      await soon();
      return sender.encodings;
    };
    expect(await sent(1)).toEqual([{ active: true, scalabilityMode: "L2T3_KEY", scaleResolutionDownBy: 2, maxBitrate: 565_685 }]);
    expect(await sent(0)).toEqual([{ active: true, scalabilityMode: "L1T3", scaleResolutionDownBy: 4, maxBitrate: 200_000 }]);
    expect(await sent(-1)).toMatchObject([{ active: false, scalabilityMode: "L1T3" }]);
    expect(await sent(2)).toEqual([{ active: true, scalabilityMode: "L3T3_KEY", scaleResolutionDownBy: 1, maxBitrate: 1_600_000 }]);
  });

  it("does not believe an earlier placement that nobody receives it", async () => {
    const { sender, session } = fleet();
    const publication = new LocalPublication(session, camera, {}, nothing, nothing);
    await publication.start();
    publication.layersChanged(-1, 1);
    await soon();
    expect(sender.sent).toEqual([true, true, true]);
  });
});

describe("a publication that a moderator muted while the connection was away", () => {
  it.each([
    ["stays muted", false, "moderator", []],
    ["flows if its own unmute was lost in that time", true, undefined, ["resume-producer"]],
  ])("%s", async (_, isUnmuteLost, mutedBy, asked) => {
    const { session } = fleet();
    const requests = session.requests as unknown as { ask: (action: string) => Promise<unknown> };
    const publication = new LocalPublication(session, camera, { muted: isUnmuteLost }, nothing, nothing);
    await publication.start();
    if (isUnmuteLost) {
      requests.ask = () => Promise.reject(new Error("no answer in time"));
      await expect(publication.unmute()).rejects.toThrow("in time");
    }
    const actions: string[] = [];
    requests.ask = async (action) => void actions.push(action);
    (session.roster.producers as Map<string, unknown>).set(publication.id, { paused: true });
    await publication.check();
    expect([publication.mutedBy, actions]).toEqual([mutedBy, asked]);
  });
});

describe("a publication that is muted in the room", () => {
  async function published() {
    const { session } = fleet();
    const moderated: string[] = [];
    const requests = session.requests as unknown as { isOwnPause: (intent: string) => boolean };
    requests.isOwnPause = (intent) => intent.startsWith("own");
    const publication = new LocalPublication(session, camera, {}, nothing, (it) => moderated.push(String(it.moderator)));
    await publication.start();
    return { publication, moderated };
  }

  it("tells its own mutes from a moderator's by their intents, however late their events come", async () => {
    const { publication, moderated } = await published();
    await publication.mute();
    await publication.unmute();
    publication.pausedInRoom(true, { intent: "own-1", by: undefined });
    expect([publication.muted, moderated]).toEqual([false, []]);
    publication.pausedInRoom(false, { intent: "own-2", by: undefined });
    publication.pausedInRoom(true, { intent: "another", by: "bob" });
    expect([publication.muted, publication.mutedBy, publication.moderator, moderated]).toEqual([true, "moderator", "bob", ["bob"]]);
    await publication.unmute();
    expect([publication.muted, publication.mutedBy, publication.moderator]).toEqual([false, undefined, undefined]);
  });

  it("is muted by whoever does not say who it is, as an application's server", async () => {
    const { publication, moderated } = await published();
    publication.pausedInRoom(true, { intent: "another", by: undefined });
    expect([publication.mutedBy, publication.moderator, moderated]).toEqual(["moderator", undefined, ["undefined"]]);
  });

  it("flows when its own unmute was behind the moderator's mute in the log", async () => {
    const { publication } = await published();
    publication.pausedInRoom(true, { intent: "another", by: "bob" });
    publication.pausedInRoom(false, { intent: "own-1", by: undefined });
    expect([publication.muted, publication.mutedBy]).toEqual([false, undefined]);
  });

  it("stays muted by us when an earlier unmute of ours is told later", async () => {
    const { publication } = await published();
    await publication.mute();
    publication.pausedInRoom(false, { intent: "own-1", by: undefined });
    expect([publication.muted, publication.mutedBy]).toEqual([true, "us"]);
  });
});

describe("a data publication", () => {
  it("says why a message cannot be sent", async () => {
    const { dataProducers, session } = fleet();
    const publication = new LocalDataPublication(session, {}, nothing);
    await publication.start();
    const [producer] = dataProducers;
    producer!.problem = new TypeError("Message too large");
    expect(() => publication.send("x")).toThrow(expect.objectContaining({ name: "Refused", code: "message-too-large" }));
    producer!.problem = new DOMException("send queue is full", "OperationError");
    expect(() => publication.send("x")).toThrow(expect.objectContaining({ name: "Unavailable", code: "interrupted" }));
  });

  it("is opened again when its channel closes before it was open", async () => {
    const { dataProducers, session } = fleet();
    const [first] = dataProducers;
    first!.readyState = "connecting";
    const publication = new LocalDataPublication(session, {}, nothing);
    const opened = publication.start();
    while (!first!.listeners.has("open")) await soon();
    dataProducers.push(new DataProducer());
    first!.readyState = "closed";
    first!.listeners.get("close")!();
    await opened;
    expect(() => publication.send("x")).not.toThrow();
  });
});
