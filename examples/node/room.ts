// Takes part in a room: watches, moderates, receives audio. Prints one JSON object a line.
//   export MAFALDA_TOKEN=...                                   a participant's token; none for an open fleet
//   node room.ts NATS_URL ROOM PEER watch [EVENT]              who and what is in the room, and each event
//   node room.ts NATS_URL ROOM PEER receive [EVENT]            the same, and receives every audio producer
//   node room.ts NATS_URL ROOM PEER mute OTHER PRODUCER        pauses another peer's producer ("moderate" is granted)
//   node room.ts NATS_URL ROOM PEER remove OTHER               removes another peer ("moderate" is granted)
// With an EVENT, such as producer-paused, it leaves after the first one of that name; without one, at Ctrl-C.
import type { AnyMessage } from "../../web/sdk/src/protocol/envelope.ts";
import { Moved, Peer, Refused, type Place } from "./peer.ts";
import { Receiver } from "./transport.ts";

const SILENCE_MS = 1000;
const ASK_EVERY_MS = 20_000;
const print = (line: object) => console.log(JSON.stringify(line));

/** Moderates: needs no place in the room, publishes another peer's intent, and reads its result. */
async function moderate(url: string, token: string, room: string, name: string, what: string, words: string[]): Promise<void> {
  const [other, producer] = words as [string, string];
  const [action, data] = what === "mute" ? ["pause-producer", { producer }] as const : ["leave", {}] as const;
  const peer = await Peer.connect(url, token, room, name, [`live.mafalda.room.${room}.peer.${other}.result.${action}`]);
  await peer.do(action, data, { other });
  print({ [what]: words });
  await peer.close();
}

/** Stays in the room until an event of the given name, its removal, or Ctrl-C. */
async function stay(url: string, token: string, room: string, name: string, receives: boolean, until?: string): Promise<void> {
  const peer = await Peer.connect(url, token, room, name);
  const { promise: ended, resolve: end, reject: fail } = Promise.withResolvers<"left" | "removed">();
  let session: Session | undefined;
  // Refused since the worker died: another place comes. A consumer of a producer that has just closed is not missed.
  const failed = (error: unknown) => {
    if (error instanceof Refused) print({ refused: error.message });
    else if (!(error instanceof Moved)) fail(error);
  };
  peer.onPlace = (place) => {
    session?.close();
    session = new Session(peer, place);
    session.begin(receives).catch(failed);
  };
  peer.onEvent = (event, message) => {
    print({ event, data: message.data });
    if (message.type === "mafalda.event.peer-left.v1" && message.data.peer === name) end("removed");
    else if (event === until) end("left");
    else session?.heed(message).catch(failed);
  };
  peer.onFailure = fail;
  process.once("SIGINT", () => end("left"));
  await peer.join({ language: "TypeScript" });
  const reason = await ended;
  session?.close();
  peer.onEvent = () => {};
  if (reason === "left") await peer.do("leave", {});
  print({ [reason]: true });
  await peer.close();
}

/** What the peer has at one place. After the death of its worker all of it is opened again, at another place. */
class Session {
  private receiver: Receiver | undefined;
  private asking: NodeJS.Timeout | undefined;
  private closed = false;
  private readonly meters: Meter[] = [];
  private readonly peer: Peer;
  private readonly place: Place;

  constructor(peer: Peer, place: Place) {
    this.peer = peer;
    this.place = place;
  }

  async begin(receives: boolean): Promise<void> {
    const { server, worker, generation } = this.place;
    print({ joined: { server, worker, generation } });
    if (receives) {
      const receiver = await Receiver.open(this.peer, this.place);
      if (this.closed) return receiver.close();
      this.receiver = receiver;
    } else {
      // A peer without a transport that asks for nothing has left after a minute. Without a worker there is no answer.
      this.asking = setInterval(() => this.peer.ask("scores", {}).catch(() => {}), ASK_EVERY_MS);
    }
    // Events were subscribed to before: what comes later than this answer is in them.
    const room = await this.peer.ask<"mafalda.answer.room.v1">("room", {});
    print({ room });
    for (const { producer, mediaKind } of room.producers) if (mediaKind === "audio") await this.hear(producer);
  }

  async heed(message: AnyMessage): Promise<void> {
    if (message.type === "mafalda.event.producer-opened.v1" && message.data.mediaKind === "audio") await this.hear(message.data.producer);
  }

  close(): void {
    this.closed = true;
    clearInterval(this.asking);
    for (const meter of this.meters) meter.stop();
    this.receiver?.close().catch(() => {}); // the other side is gone
  }

  private async hear(producer: string): Promise<void> {
    const meter = new Meter(producer);
    this.meters.push(meter);
    await this.receiver?.consume(producer, () => meter.count());
  }
}

/** Prints when a second of audio has come (50 packets), and when none has come for a second. */
class Meter {
  private packets = 0;
  private silence: NodeJS.Timeout | undefined;
  private readonly producer: string;

  constructor(producer: string) {
    this.producer = producer;
  }

  count(): void {
    if (++this.packets === 50) print({ heard: this.producer, packets: this.packets });
    clearTimeout(this.silence);
    this.silence = setTimeout(() => {
      print({ silent: this.producer, packets: this.packets });
      this.packets = 0;
    }, SILENCE_MS);
  }

  stop(): void {
    clearTimeout(this.silence);
  }
}

const [url, room, name, what, ...words] = process.argv.slice(2);
const token = process.env["MAFALDA_TOKEN"] ?? "";
const needed = { watch: 0, receive: 0, mute: 2, remove: 1 }[what ?? ""];
if (!url || !room || !name || !what || needed === undefined || words.length < needed) {
  console.error("usage: node room.ts NATS_URL ROOM PEER watch [EVENT] | receive [EVENT] | mute OTHER PRODUCER | remove OTHER");
  process.exit(2);
}
try {
  if (what === "mute" || what === "remove") await moderate(url, token, room, name, what, words);
  else await stay(url, token, room, name, what === "receive", words[0]);
} catch (error) {
  console.error(String(error));
  process.exitCode = 1;
}
process.exit();
