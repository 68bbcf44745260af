import type { Bus, Stored } from "../src/nats/bus.js";
import { compose, type AnyMessage, type Message, type MessageType } from "../src/protocol/envelope.js";
import type { LogEntriesAnswer, MessageData } from "../src/protocol/messages.js";

type Query = Message & { data: { after?: number } };

const PARTS = { result: "mafalda.room.lobby.peer.alice.result.", peer: "mafalda.room.lobby.peer.alice.event.", room: "mafalda.room.lobby.event." };

/** What a session uses of a bus, for alice in the lobby; the test stores what the fleet would. */
export class FakeBus {
  isUp = true;
  /** Entries in a page of the log. */
  pageSize = 100;
  /** Called when entries were read from the log, before they are sent; throws when they are not sent. */
  onEntries: () => void | Promise<void> = () => undefined;
  /** The peers of the room, as the agent has them. */
  peers = ["alice"];
  /** The names of what was asked. */
  readonly queries: string[] = [];
  readonly #log: Stored[] = [];
  readonly #followers: [string, (stored: Stored) => void][] = [];
  readonly #intents: Message[] = [];
  /** Of the place that each intent is meant for. */
  readonly generations: (number | undefined)[] = [];
  #more = Promise.withResolvers<void>();
  #interrupted: () => void = () => undefined;
  #restored: () => void = () => undefined;

  get bus(): Bus {
    return this as unknown as Bus;
  }

  newInbox(): string {
    return "_INBOX.test";
  }

  subscribeStored(pattern: string, take: (stored: Stored) => void): () => void {
    this.#followers.push([pattern.replace(">", ""), take]);
    return () => undefined;
  }

  subscribeInbox(): () => void {
    return () => undefined;
  }

  onChange(interrupted: () => void, restored: () => void): () => void {
    this.#interrupted = interrupted;
    this.#restored = restored;
    return () => undefined;
  }

  onClosed(): () => void {
    return () => undefined;
  }

  async flush(): Promise<void> {}

  async append(message: Message, _replyTo: string, generation?: number): Promise<void> {
    this.generations.push(generation);
    this.#intents.push(message);
    this.#more.resolve();
  }

  async request(query: Query): Promise<AnyMessage> {
    const name = query.subject?.split(".").at(-1) ?? "";
    this.queries.push(name);
    if (name === "entries") return compose("mafalda.answer.entries.v1", await this.#entries(query.data.after ?? 0), "", "/agent") as AnyMessage;
    const room = { seq: this.#log.length, peers: this.peers.map((peer) => ({ peer })), producers: [], dataProducers: [] };
    return compose("mafalda.answer.room.v1", room, "", "/agent") as AnyMessage;
  }

  async intent(): Promise<Message> {
    while (this.#intents.length === 0) {
      this.#more = Promise.withResolvers();
      await this.#more.promise;
    }
    return this.#intents.shift()!;
  }

  /** Whether each intent was taken by `intent`. */
  get isIdle(): boolean {
    return this.#intents.length === 0;
  }

  /** The connection breaks: what is stored is received no more. */
  interrupt(): void {
    this.isUp = false;
    this.#interrupted();
  }

  restore(): void {
    this.isUp = true;
    this.#restored();
  }

  /** Stores a message that whoever follows this part of the room receives. */
  store<T extends MessageType>(part: keyof typeof PARTS, type: T, data: MessageData[T], cause?: Message): Stored {
    const subject = PARTS[part] + type.split(".")[2];
    const caused = cause && { causationid: cause.id, correlationid: cause.id };
    const stored: Stored = { seq: this.#log.length + 1, subject, message: { ...compose(type, data, subject, "/agent"), ...caused } as AnyMessage };
    this.#log.push(stored);
    if (this.isUp) this.publish(stored);
    return stored;
  }

  /** Delivers what is stored. */
  publish(stored: Stored): void {
    for (const [prefix, take] of this.#followers) if (`live.${stored.subject}`.startsWith(prefix)) take(stored);
  }

  placed(join: Message, generation: number): void {
    this.store("result", "mafalda.result.join.v1", { server: "s1", worker: "w1", generation, routerRtpCapabilities: {} }, join);
  }

  done(intent: Message, generation: number): void {
    this.store("result", "mafalda.result.done.v1", { intent: "set-audience", generation }, intent);
  }

  refused(intent: Message, code: string, message: string): void {
    this.store("result", "mafalda.result.rejected.v1", { intent: intent.type.split(".")[2] ?? "", error: { code, message } }, intent);
  }

  async #entries(after: number): Promise<LogEntriesAnswer> {
    const rest = this.#log.filter(({ seq }) => seq > after);
    const page = rest.slice(0, this.pageSize);
    const more = page.length < rest.length;
    const entries = page.map(({ seq, subject, message }) => ({ seq, subject, message: { ...message } }));
    const seq = more ? page.at(-1)!.seq : this.#log.length;
    await this.onEntries();
    return { seq, entries, more };
  }
}
