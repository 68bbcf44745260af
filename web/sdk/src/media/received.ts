/** What we receive of one producer of the room, wherever it and we are placed: it waits while the producer's owner is placed again. */

import { abortable } from "../abort.js";
import { MafaldaError } from "../errors.js";
import type { Endpoint } from "../session/endpoint.js";
import { Resource } from "../session/resource.js";
import type { MadeConsumer, RoomSubscription } from "../session/room-subscription.js";
import type { ProducerInfo } from "../session/roster.js";
import type { Session } from "../session/session.js";

/** How long a producer may be away (its owner is being placed again) before the subscription ends. */
const PRODUCER_PATIENCE_MS = 60_000;
/** How long media is waited for once the transport is connected, and a producer that is away: it may be open and send nothing. */
export const MEDIA_WAIT_MS = 4_000;

/** Base of the subscriptions to media and to data. */
export abstract class Received extends Resource {
  /** The consumer at the present placement. */
  #consumerId: string | undefined;
  /** The last consumer that we had; when it is gone, only another one is of use. */
  #used: string | undefined;
  #away: ReturnType<typeof setTimeout> | undefined;
  #missing: ReturnType<typeof setTimeout> | undefined;
  /** Whether the producer has been away for so long that only this subscription waits for it. */
  #isMissed = false;
  #back = Promise.withResolvers<void>();
  #producer: ProducerInfo;

  constructor(
    session: Session,
    private readonly wish: RoomSubscription,
    producer: ProducerInfo,
  ) {
    super(session);
    this.#producer = producer;
  }

  /** The producer as it is in the room, or was last while its owner is being placed again. */
  get producer(): ProducerInfo {
    return (this.#producer = this.session.roster.producers.get(this.#producer.id) ?? this.#producer);
  }

  /** The id of the consumer at the present placement. */
  override get serverId(): string | undefined {
    return this.#consumerId;
  }

  /** Stops receiving. */
  async close(): Promise<void> {
    if (this.state === "closed") return;
    this.end();
    await this.wish.remove(this.#producer.id).catch(() => undefined); // said again when the subscription is opened again
  }

  /** @internal The producer's owner is being placed again: wait for it to open the producer again. */
  producerAway(): void {
    this.#clearTimers();
    this.#away = setTimeout(() => this.end(new MafaldaError("not-found", "the producer did not come back in time")), PRODUCER_PATIENCE_MS);
    this.reopen();
    this.#missing = setTimeout(() => this.#miss(), MEDIA_WAIT_MS);
  }

  /** @internal The producer is open at another place already. */
  producerReopened(): void {
    this.producerBack();
    this.reopen();
  }

  /** @internal */
  producerBack(): void {
    this.#clearTimers();
    this.#isMissed = false;
    this.#back.resolve();
    this.#back = Promise.withResolvers();
  }

  /** @internal The agent has made a consumer of the producer. */
  made(consumer: string): void {
    if (this.isOpenHere && this.#consumerId !== consumer) this.reopen();
  }

  override async check(): Promise<void> {
    if (!this.#consumerId) return;
    const target = this.#producer.kind === "data" ? "data-consumer" : "consumer";
    await this.session.requests.query("stats", { target, id: this.#consumerId }, "mafalda.answer.stats.v1");
  }

  /** Whether mediasoup-client has a consumer that is up to date. */
  protected abstract get isOpenHere(): boolean;
  /** Has mediasoup-client receive what the agent's consumer sends. */
  protected abstract receive(made: MadeConsumer, endpoint: Endpoint, signal: AbortSignal): Promise<void>;

  protected override async open(endpoint: Endpoint, signal: AbortSignal): Promise<void> {
    const producerId = this.#producer.id;
    while (!this.session.roster.canConsume(producerId)) await abortable(this.#back.promise, signal);
    const transport = await endpoint.receiveTransport();
    const made = await this.wish.consumer(producerId, transport.id, this.#used, signal);
    this.#consumerId = made.id;
    await this.receive(made, endpoint, signal);
    this.#used = made.id;
  }

  protected override dropLocal(): void {
    this.#consumerId = undefined;
  }

  protected override keepFormer(_isHandedOver: boolean): void {
    this.#consumerId = undefined;
  }

  protected override onEnded(): void {
    this.#clearTimers();
    this.wish.forget(this.#producer.id);
  }

  protected override isExpected(): boolean {
    return !this.#isMissed;
  }

  /** Nothing waits for the producer any more, but this subscription. */
  #miss(): void {
    this.#isMissed = true;
    this.notify();
  }

  #clearTimers(): void {
    clearTimeout(this.#away);
    clearTimeout(this.#missing);
  }
}
