/** Data channels: what we send to the room, and what we receive of one who sends. */

import type { types } from "mediasoup-client";
import { delay } from "../abort.js";
import { Closed, MafaldaError, Refused, Unavailable } from "../errors.js";
import { newId } from "../protocol/subjects.js";
import type { Endpoint } from "../session/endpoint.js";
import { Resource, type ResourceState } from "../session/resource.js";
import type { MadeConsumer, RoomSubscription } from "../session/room-subscription.js";
import type { ProducerInfo } from "../session/roster.js";
import type { Session } from "../session/session.js";
import { Received } from "./received.js";

/** What a data channel takes and gives. */
export type DataMessage = string | ArrayBuffer;

export interface PublishDataOptions {
  /** By which the others tell channels apart; at most 256 characters. */
  label?: string;
  protocol?: string;
  /** `reliable` (default): in order, and sent again until it is there. `lossy`: sent once, in any order. */
  delivery?: "reliable" | "lossy";
  appData?: Record<string, unknown>;
}

/** Sends messages to everybody in the room who receives data, until it is closed. */
export class LocalDataPublication extends Resource {
  readonly id = newId();
  readonly label: string;
  #producer: types.DataProducer | undefined;

  constructor(
    session: Session,
    private readonly options: PublishDataOptions,
    private readonly onChange: (publication: LocalDataPublication) => void,
  ) {
    super(session);
    this.label = options.label ?? "";
  }

  /**
   * Sends one message. Throws `Unavailable` while the channel is not open, as during an outage, or more waits to be sent than the
   * browser keeps; `Refused` (`message-too-large`) above 256 KiB; and `Closed` afterwards. Nobody who comes later gets it.
   */
  send(message: DataMessage): void {
    if (this.state === "closed") throw new Closed("the data channel is closed");
    if (this.#producer?.readyState !== "open") throw new Unavailable("interrupted", "the data channel is not open at the moment");
    try {
      this.#producer.send(message as string);
    } catch (error) {
      if (error instanceof TypeError) throw new Refused("message-too-large", "the message is larger than a data channel takes");
      throw new Unavailable("interrupted", `the data channel takes no more now: ${(error as Error).message}`);
    }
  }

  /** Stops sending. */
  async close(): Promise<void> {
    if (this.state === "closed") return;
    this.end();
    await this.#closeOnWorker();
  }

  override get serverId(): string {
    return this.id;
  }

  override async check(): Promise<void> {
    if (!this.session.roster.producers.has(this.id)) throw new MafaldaError("not-found", "the data producer is not in the room any more");
  }

  protected override async open(endpoint: Endpoint, signal: AbortSignal): Promise<void> {
    const { label = "", protocol = "", delivery = "reliable", appData: custom = {} } = this.options;
    const transport = await endpoint.sendTransport();
    const reliability = delivery === "lossy" ? { ordered: false, maxRetransmits: 0 } : { ordered: true };
    let producer: types.DataProducer;
    try {
      producer = await transport.produceData({ ...reliability, label, protocol, appData: { id: this.id, appData: custom } });
    } catch (error) {
      // A try whose answer was lost may have been carried out.
      if (error instanceof MafaldaError && error.code === "already-exists") await this.#closeOnWorker();
      throw error;
    }
    if (signal.aborted) producer.close();
    signal.throwIfAborted();
    this.#producer = producer;
    producer.on("close", () => this.reopen());
    if (producer.readyState === "connecting") await new Promise<void>((resolve) => producer.on("open", resolve));
  }

  protected override mayRetry(error: unknown, openedOnce: boolean): boolean {
    return (error instanceof MafaldaError && error.code === "already-exists") || super.mayRetry(error, openedOnce);
  }

  protected override dropLocal(): void {
    const producer = this.#producer;
    this.#producer = undefined;
    producer?.close();
  }

  protected override keepFormer(): void {
    this.dropLocal();
  }

  protected override dropFormer(): void {}

  protected override async flows(): Promise<void> {}

  /** Nobody waits for data before the peer counts as joined, or is handed over. */
  protected override isExpected(): boolean {
    return false;
  }

  protected override onState(_state: ResourceState): void {
    this.onChange(this);
  }

  async #closeOnWorker(): Promise<void> {
    await this.session.requests.ask("close-data-producer", { dataProducer: this.id }, "mafalda.result.done.v1").catch(() => undefined);
  }
}

/** Receives the messages of one data producer while it is in the room; `Room` emits them as `dataReceived`. */
export class RemoteDataSubscription extends Received {
  #consumer: types.DataConsumer | undefined;

  constructor(
    session: Session,
    wish: RoomSubscription,
    producer: ProducerInfo,
    private readonly onChange: (subscription: RemoteDataSubscription) => void,
    private readonly onMessage: (message: DataMessage, producer: ProducerInfo) => void,
  ) {
    super(session, wish, producer);
  }

  protected override get isOpenHere(): boolean {
    return this.#consumer !== undefined;
  }

  protected override async receive(made: MadeConsumer, endpoint: Endpoint, signal: AbortSignal): Promise<void> {
    const transport = await endpoint.receiveTransport();
    await delay(0, signal); // mediasoup-client negotiates one thing after another: what is seen and heard comes first
    const { sctpStreamParameters, label = "", protocol = "" } = made.data ?? {};
    const consumer = await transport.consumeData({
      id: made.id,
      dataProducerId: this.producer.id,
      sctpStreamParameters: sctpStreamParameters as types.SctpStreamParameters,
      label,
      protocol,
    });
    if (signal.aborted) consumer.close();
    signal.throwIfAborted();
    consumer.binaryType = "arraybuffer";
    consumer.on("message", (message: DataMessage) => this.onMessage(message, this.producer));
    this.#consumer = consumer;
  }

  protected override dropLocal(): void {
    super.dropLocal();
    this.#consumer?.close();
    this.#consumer = undefined;
  }

  protected override keepFormer(): void {
    this.dropLocal();
  }

  protected override dropFormer(): void {}

  protected override async flows(): Promise<void> {}

  /** Nobody waits for data before the peer counts as joined, or is handed over. */
  protected override isExpected(): boolean {
    return false;
  }

  protected override onState(_state: ResourceState): void {
    this.onChange(this);
  }
}
