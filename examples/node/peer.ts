// A participant of a room: publishes intents, receives results and events. It needs a token and no JetStream.
import { randomUUID } from "node:crypto";
import { connect, createInbox, headers, type Msg, type NatsConnection } from "@nats-io/transport-node";
import type { AnyMessage, Message, MessageType } from "../../web/sdk/src/protocol/envelope.ts";
import type { MessageData } from "../../web/sdk/src/protocol/messages.ts";

const ANSWER_WITHIN_MS = 10_000; // then the same message is published again, with the same id
const ATTEMPTS = 6;

export type Place = MessageData["mafalda.result.join.v1"];
interface Waiting {
  receive(message: AnyMessage, subject: string): void;
  reject(error: Error): void;
}

/** An intent that was answered by a rejection. */
export class Refused extends Error {
  readonly code: string;

  /** Whether the same may succeed later. */
  get mayPass(): boolean {
    return ["rate-limited", "bus-unavailable", "deadline-exceeded"].includes(this.code);
  }

  constructor(code: string, message: string) {
    super(`${code}: ${message}`);
    this.code = code;
  }
}

/** The peer got another place before the intent was answered: what is still wanted is sent there as a new intent. */
export class Moved extends Error {}

export class Peer {
  /** Called with each place of the peer: the first, and another one after its worker has died. */
  onPlace = (_place: Place) => {};
  /** Called with each event of the room and of the peer's own objects, with the last word of its subject. */
  onEvent = (_name: string, _message: AnyMessage) => {};
  /** Called when what was missed while NATS was away cannot be had. */
  onFailure = (_error: unknown) => {};

  readonly room: string;
  readonly name: string;
  private readonly nats: NatsConnection;
  private readonly inbox: string;
  private readonly waiting = new Map<string, Waiting>(); // by the id of the intent
  private last = 0; // the greatest sequence that was received
  private seen: Set<number> | undefined; // what was received since the connection was lost, until the rest has come

  private constructor(nats: NatsConnection, room: string, name: string, inbox: string) {
    this.nats = nats;
    this.room = room;
    this.name = name;
    this.inbox = inbox;
  }

  /** Connects; `others` are more subjects to read. An empty token is for an open fleet. */
  static async connect(url: string, token: string, room: string, name: string, others: string[] = []): Promise<Peer> {
    const inboxPrefix = `_INBOX.${room}.${name}`; // a token permits no other
    const nats = await connect({ servers: url, inboxPrefix, maxReconnectAttempts: -1, ...(token && { token }) });
    const peer = new Peer(nats, room, name, createInbox(inboxPrefix));
    // Subscribe before publishing: an answer is never missed.
    const own = `live.mafalda.room.${room}.peer.${name}`;
    for (const subject of [`${own}.result.*`, `${own}.event.*`, `live.mafalda.room.${room}.event.*`, peer.inbox, ...others]) {
      nats.subscribe(subject, { callback: (error, message) => { if (!error) peer.take(message); } });
    }
    await nats.flush();
    peer.follow().catch((error: unknown) => peer.onFailure(error));
    return peer;
  }

  /** Publishes an intent of this peer, or as a moderator one of another, and waits for its result. */
  async do<R extends MessageType = "mafalda.result.done.v1">(
    action: string, data: object, { secret = false, other = this.name } = {},
  ): Promise<MessageData[R]> {
    const message = this.compose(other, "intent", action, data);
    const added = headers();
    added.set("Nats-Msg-Id", message.id);
    added.set("Content-Type", "application/cloudevents+json");
    added.set("Mafalda-Reply-To", this.inbox);
    const { promise, resolve, reject } = Promise.withResolvers<AnyMessage>();
    const receive = (answer: AnyMessage, subject: string) => {
      if (answer.type === "mafalda.result.rejected.v1") reject(new Refused(answer.data.error.code, answer.data.error.message));
      else if (!secret || subject === this.inbox) resolve(answer); // with its secrets it comes to the inbox alone
    };
    this.waiting.set(message.id, { receive, reject });
    if (action === "join") this.waiting.set("join", { receive, reject });
    let left = ATTEMPTS;
    const publish = () => {
      if (left-- === 0) reject(new Error(`${action}: no answer`));
      else this.nats.publish(message.subject!, JSON.stringify(message), { headers: added });
    };
    publish();
    const again = setInterval(publish, ANSWER_WITHIN_MS);
    try {
      return (await promise).data as MessageData[R];
    } finally {
      clearInterval(again);
      this.waiting.delete(message.id);
      if (action === "join") this.waiting.delete("join");
    }
  }

  /** Joins; the place comes to `onPlace`. */
  async join(appData: object): Promise<void> {
    await this.do("join", { appData });
  }

  async ask<R extends MessageType>(query: string, data: object): Promise<MessageData[R]> {
    const message = this.compose(this.name, "query", query, data);
    const reply = await this.nats.request(message.subject!, JSON.stringify(message), { timeout: ANSWER_WITHIN_MS });
    const answer = reply.json<AnyMessage>();
    if (answer.type === "mafalda.result.rejected.v1") throw new Refused(answer.data.error.code, answer.data.error.message);
    return answer.data as MessageData[R];
  }

  close(): Promise<void> {
    return this.nats.drain();
  }

  /** A CloudEvent; its id is new for each message, and the same only when it is sent again. */
  private compose(peer: string, kind: string, action: string, data: object): Message {
    return {
      specversion: "1.0",
      id: randomUUID().replaceAll("-", ""),
      source: `/client/${this.name}`,
      type: `mafalda.${kind}.${action}.v1` as MessageType,
      subject: `mafalda.room.${this.room}.peer.${peer}.${kind}.${action}`,
      time: new Date().toISOString(),
      datacontenttype: "application/json",
      data: data as Message["data"],
    };
  }

  private take(received: Msg): void {
    this.receive(received.subject, received.json<AnyMessage>(), Number(received.headers?.get("Nats-Sequence") ?? 0));
  }

  private receive(subject: string, message: AnyMessage, sequence: number): void {
    if (sequence > 0 && this.seen?.has(sequence)) return;
    this.seen?.add(sequence);
    this.last = Math.max(this.last, sequence);
    if (subject.includes(".event.")) {
      this.onEvent(subject.split(".").at(-1)!, message);
    } else if (message.type === "mafalda.result.join.v1") {
      // Its causationid is not the intent's id: any place is the answer to a join.
      this.waiting.get("join")?.receive(message, subject);
      for (const { reject } of this.waiting.values()) reject(new Moved("the peer has another place"));
      this.onPlace(message.data);
    } else {
      this.waiting.get(message.causationid ?? "")?.receive(message, subject);
    }
  }

  /** After NATS was away: asks for the entries that were published meanwhile. */
  private async follow(): Promise<void> {
    let after = 0;
    for await (const status of this.nats.status()) {
      if (status.type === "disconnect") {
        after = this.last;
        this.seen = new Set();
      } else if (status.type === "reconnect") {
        await this.catchUp(after);
      }
    }
  }

  private async catchUp(after: number): Promise<void> {
    for (let more = true; more && !this.nats.isClosed(); ) {
      try {
        const page = await this.ask<"mafalda.answer.entries.v1">("entries", { after });
        for (const { seq, subject, message } of page.entries) this.receive(subject, message as unknown as AnyMessage, seq);
        after = page.seq;
        more = page.more ?? false;
      } catch (error) {
        if (error instanceof Refused && !error.mayPass) throw error;
        await new Promise((resolve) => setTimeout(resolve, 1000)); // the fleet is not back yet
      }
    }
    this.seen = undefined;
  }
}
