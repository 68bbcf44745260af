/** The one subscription by which a room's agent makes consumers for us: what it selects, and the consumers that it has told of. */

import type { types } from "mediasoup-client";
import { abortable } from "../abort.js";
import { MafaldaError, Refused } from "../errors.js";
import type { AnyMessage } from "../protocol/envelope.js";
import type { ConsumersOpened, ProducerSelector } from "../protocol/messages.js";
import { newId } from "../protocol/subjects.js";
import type { Endpoint } from "./endpoint.js";
import { Resource, type ResourceState } from "./resource.js";
import type { ProducerInfo } from "./roster.js";
import type { Session } from "./session.js";

/** Refusals of a subscription that no repetition changes. */
const FINAL = new Set(["permission-denied", "bad-input", "malformed-message", "invalid-parameters"]);

/** Of all subscriptions of a peer. */
const MAX_SELECTORS = 1024;

type Told = Pick<ConsumersOpened, "consumers" | "formats" | "generation"> & { transport?: string };

/** A consumer that the agent has made. */
export interface MadeConsumer {
  readonly id: string;
  readonly transport: string;
  readonly kind: "audio" | "video" | "data";
  /** As mediasoup-client takes them; of media. */
  readonly rtpParameters?: unknown;
  readonly data?: { sctpStreamParameters: unknown; label?: string; protocol?: string };
}

export interface RoomSubscriptionListener {
  /** The agent has made a consumer of this producer, for the first time or again. */
  made(producer: string): void;
  failed(producer: string, error: MafaldaError): void;
  /** It cannot stand: nothing is received by it any more. */
  ended(error: MafaldaError): void;
}

/** Stands for as long as the room does; it is said again at each endpoint, which changes nothing where the fleet has it. */
export class RoomSubscription extends Resource {
  readonly id = newId();
  readonly #made = new Map<string, MadeConsumer>();
  readonly #formats = new Map<string, { codecs: unknown; headerExtensions: unknown }>();
  #news = Promise.withResolvers<void>();
  /** How often `select` has changed. */
  #version = 0;
  /** Its `#version` when it was opened last. */
  #sent = 0;

  constructor(
    session: Session,
    private readonly select: ProducerSelector[],
    private readonly listener: RoomSubscriptionListener,
  ) {
    super(session);
  }

  override get serverId(): string | undefined {
    return undefined; // no consumer has its id
  }

  /** Whether a producer is received: the last selector that fits it decides. */
  wants(producer: ProducerInfo): boolean {
    const last = this.select.findLast(
      (it) => (it.kind ?? producer.kind) === producer.kind && (it.peer ?? producer.peer) === producer.peer && (it.producer ?? producer.id) === producer.id,
    );
    return last !== undefined && !last.exclude;
  }

  /** Receives a producer from now on. */
  async add(producer: string): Promise<void> {
    await this.#change({ add: [{ producer }] }, { producer });
  }

  /** Receives a producer no more. */
  async remove(producer: string): Promise<void> {
    this.#made.delete(producer);
    await this.#change({ remove: [{ producer }] }, { producer, exclude: true });
  }

  /** The consumer of a producer on a transport, as soon as the agent has made one that is not `used` up. */
  async consumer(producer: string, transport: string, used: string | undefined, signal: AbortSignal): Promise<MadeConsumer> {
    while (true) {
      signal.throwIfAborted();
      const made = this.#made.get(producer);
      if (made && made.transport === transport && made.id !== used) return made;
      await abortable(this.#news.promise, signal);
    }
  }

  /** The agent's present consumer of a producer. */
  present(producer: string): MadeConsumer | undefined {
    return this.#made.get(producer);
  }

  /** Nobody here receives a producer any more; the agent may still have its consumer. */
  forget(producer: string): void {
    this.#made.delete(producer);
  }

  /** A producer has closed for good: what was selected of it alone decides nothing any more. */
  producerClosed(producer: string): void {
    this.forget(producer);
    const known = this.select.findIndex((it) => it.producer === producer);
    if (known >= 0) this.select.splice(known, 1);
  }

  /** Takes what the agent says about the peer's own objects. */
  take(message: AnyMessage): void {
    if (message.type !== "mafalda.event.consumers-opened.v1" || message.data.subscription !== this.id) return;
    this.#take(message.data);
    for (const { producer, error } of message.data.failed ?? []) this.listener.failed(producer, new Refused(error.code, error.message, error.details ?? {}));
  }

  override async check(): Promise<void> {
    const present = await this.session.requests.query("subscription", { subscription: this.id }, "mafalda.answer.subscription.v1");
    this.#take(present);
  }

  protected override async open(endpoint: Endpoint, signal: AbortSignal): Promise<void> {
    const rtpCapabilities = await endpoint.prepareToReceive();
    do {
      this.#sent = this.#version;
      await this.#say(signal, rtpCapabilities);
    } while (this.#sent !== this.#version); // it was changed meanwhile
  }

  protected override dropLocal(): void {}

  protected override keepFormer(): void {}

  protected override dropFormer(): void {}

  /** Its media is that of its consumers. */
  protected override async flows(): Promise<void> {}

  protected override onEnded(): void {
    if (this.error) this.listener.ended(this.error);
  }

  protected override onState(state: ResourceState): void {
    if (state === "open" && this.#sent !== this.#version) this.reopen(); // changed after the answer, before it counted as open
  }

  protected override mayRetry(error: unknown): boolean {
    return !(error instanceof Refused && FINAL.has(error.code));
  }

  #take({ consumers, formats, generation, transport }: Told): void {
    for (const it of formats ?? []) this.#formats.set(`${generation}/${it.format}`, { codecs: it.codecs, headerExtensions: it.headerExtensions ?? [] });
    for (const it of consumers) {
      if (transport === undefined) continue;
      const made = { id: it.consumer, transport, kind: it.kind };
      if (it.kind === "data") {
        const { sctpStreamParameters, label = "", protocol = "" } = it;
        this.#made.set(it.producer, { ...made, data: { sctpStreamParameters, label, protocol } });
      } else {
        const format = this.#formats.get(`${generation}/${it.format}`);
        if (!format) continue;
        this.#made.set(it.producer, { ...made, rtpParameters: { ...format, mid: it.mid, encodings: it.encodings, rtcp: it.rtcp } });
      }
      this.listener.made(it.producer);
    }
    const before = this.#news;
    this.#news = Promise.withResolvers();
    before.resolve();
  }

  async #change(change: { add?: ProducerSelector[]; remove?: ProducerSelector[] }, selector: ProducerSelector): Promise<void> {
    const before = [...this.select];
    const known = this.select.findIndex((it) => it.producer === selector.producer);
    if (known < 0 && this.select.length >= MAX_SELECTORS) throw new Refused("bad-input", "too many selectors in a subscription", { limit: MAX_SELECTORS });
    if (known >= 0) this.select.splice(known, 1);
    this.select.push(selector);
    const version = ++this.#version;
    if (this.state !== "open") return; // said when it is opened
    try {
      await this.#askChange(change);
    } catch (error) {
      if (!(error instanceof Refused && error.code === "bad-input")) this.reopen(); // which says all of it
      else if (version === this.#version) this.select.splice(0, this.select.length, ...before);
      throw error;
    }
  }

  async #askChange(change: { add?: ProducerSelector[]; remove?: ProducerSelector[] }): Promise<void> {
    try {
      await this.session.requests.ask("change-subscription", { subscription: this.id, ...change }, "mafalda.result.subscribe.v1", this.closedSignal);
    } catch (error) {
      if (!(error instanceof Refused && error.code === "bad-input")) throw error;
      await this.#say(this.closedSignal); // the fleet has selectors of closed producers, which count
    }
  }

  async #say(signal: AbortSignal, rtpCapabilities?: types.RtpCapabilities): Promise<void> {
    const capable = rtpCapabilities && { rtpCapabilities: rtpCapabilities as never };
    await this.session.requests.ask("subscribe", { subscription: this.id, select: [...this.select], paused: true, ...capable }, "mafalda.result.subscribe.v1", signal);
  }
}
