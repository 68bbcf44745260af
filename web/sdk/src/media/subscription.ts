/** A producer of the room that we receive, wherever it and we are placed. */

import type { types } from "mediasoup-client";
import { abortable } from "../abort.js";
import { MafaldaError } from "../errors.js";
import { newId } from "../protocol/subjects.js";
import type { Endpoint } from "../session/endpoint.js";
import { Resource, type ResourceState } from "../session/resource.js";
import type { ProducerInfo } from "../session/roster.js";
import type { Session } from "../session/session.js";
import { AdaptiveStream } from "./adaptive.js";

/** What is wanted of the worker's consumer. */
interface Wish {
  readonly paused: boolean;
  readonly spatialLayer: number | undefined;
}

/** How long a producer may be away (its owner is being placed again) before the subscription ends. */
const PRODUCER_PATIENCE_MS = 60_000;

/** Receives one track while its producer is in the room. */
export class RemoteSubscription extends Resource {
  #consumerId: string | undefined;
  #consumer: types.Consumer | undefined;
  #applied: Wish = { paused: true, spatialLayer: undefined };
  #applying: Promise<void> | undefined;
  #isPaused = false;
  #isHidden = false;
  #spatialLayer: number | undefined;
  #away: ReturnType<typeof setTimeout> | undefined;
  #back = Promise.withResolvers<void>();
  #producer: ProducerInfo;
  readonly #adaptive: AdaptiveStream;

  constructor(
    session: Session,
    producer: ProducerInfo,
    private readonly onChange: (subscription: RemoteSubscription) => void,
    private readonly onBlocked: () => void,
  ) {
    super(session);
    this.#producer = producer;
    this.#adaptive = new AdaptiveStream(({ visible, spatialLayer }) => {
      if (this.#producer.kind !== "video") return;
      this.#isHidden = !visible;
      if (visible) this.#spatialLayer = spatialLayer;
      this.#apply().catch((error: unknown) => console.warn("mafalda: layers not changed", error));
    });
  }

  /** The producer as it is in the room, or was last while its owner is being placed again. */
  get producer(): ProducerInfo {
    return (this.#producer = this.session.roster.producers.get(this.#producer.id) ?? this.#producer);
  }

  /** The id of the consumer at the present placement. */
  override get serverId(): string | undefined {
    return this.#consumerId;
  }

  /** The received track; another one after a new placement. */
  get track(): MediaStreamTrack | undefined {
    return this.#consumer?.track;
  }

  /**
   * Shows or plays the track in an element, now and after each new placement. A video is received in the resolution that its
   * largest visible element needs, and not at all while none is visible.
   */
  attach(element: HTMLMediaElement): void {
    this.#adaptive.attach(element);
    this.#show(element);
  }

  detach(element: HTMLMediaElement): void {
    this.#adaptive.detach(element);
    element.srcObject = null;
  }

  /** Receives nothing until `resume`. */
  async pause(): Promise<void> {
    this.#isPaused = true;
    await this.#apply();
  }

  async resume(): Promise<void> {
    this.#isPaused = false;
    await this.#apply();
  }

  /** How loud it is now, from 0 to 1; 0 while nothing is received. */
  get audioLevel(): number {
    return this.#consumer?.rtpReceiver?.getSynchronizationSources()[0]?.audioLevel ?? 0;
  }

  /** @internal Tries again to play what the browser did not let play. */
  startPlayback(): void {
    for (const element of this.#adaptive.elements) if (element.paused) this.#play(element);
  }

  async getStats(): Promise<RTCStatsReport | undefined> {
    return await this.#consumer?.getStats();
  }

  /** Stops receiving. */
  async close(): Promise<void> {
    if (this.state === "closed") return;
    const consumer = this.#consumerId;
    this.end();
    if (consumer) await this.#closeOnWorker(consumer);
  }

  /** @internal The producer's owner is being placed again: wait for it to open the producer again. */
  producerAway(): void {
    clearTimeout(this.#away);
    this.#away = setTimeout(() => this.end(new MafaldaError("not-found", "the producer did not come back in time")), PRODUCER_PATIENCE_MS);
    this.reopen();
  }

  /** @internal */
  producerBack(): void {
    clearTimeout(this.#away);
    this.#back.resolve();
    this.#back = Promise.withResolvers();
  }

  override async check(): Promise<void> {
    if (!this.#consumerId) return;
    await this.session.requests.query("stats", { target: "consumer", id: this.#consumerId }, "mafalda.answer.stats.v1");
  }

  protected override async open(endpoint: Endpoint): Promise<void> {
    const producerId = this.#producer.id;
    while (!this.session.roster.producers.has(producerId)) {
      await abortable(this.#back.promise, AbortSignal.any([endpoint.lost, this.closedSignal]));
    }
    const transport = await endpoint.receiveTransport();
    const consumer = newId();
    this.#consumerId = consumer;
    const data = { consumer, transport: transport.id, producer: producerId, rtpCapabilities: endpoint.device.recvRtpCapabilities as never, paused: true };
    try {
      const result = await this.session.requests.ask("consume", data, "mafalda.result.consume.v1", endpoint.lost);
      this.#consumer = await transport.consume({
        id: result.consumer,
        producerId: result.producer,
        kind: result.mediaKind,
        rtpParameters: result.rtpParameters as unknown as types.RtpParameters,
      });
      this.#applied = { paused: true, spatialLayer: undefined };
      await this.#apply();
    } catch (error) {
      if (!endpoint.lost.aborted) void this.#closeOnWorker(consumer);
      throw error;
    }
    for (const element of this.#adaptive.elements) this.#show(element);
  }

  protected override dropLocal(): void {
    this.#consumer?.close();
    this.#consumer = undefined;
    this.#consumerId = undefined;
  }

  protected override onEnded(): void {
    for (const element of this.#adaptive.elements) element.srcObject = null;
    this.#adaptive.close();
    clearTimeout(this.#away);
  }

  protected override onState(_state: ResourceState): void {
    this.onChange(this);
  }

  protected override mayRetry(error: unknown, openedOnce: boolean): boolean {
    // The room's events may be ahead of our own agent's view of them for a moment.
    const isAhead = error instanceof MafaldaError && error.code === "not-found" && this.session.roster.producers.has(this.producer.id);
    return isAhead || super.mayRetry(error, openedOnce);
  }

  #show(element: HTMLMediaElement): void {
    if (!this.track) return;
    element.srcObject = new MediaStream([this.track]);
    this.#play(element);
  }

  #play(element: HTMLMediaElement): void {
    element.play().catch((error: unknown) => {
      if ((error as DOMException).name === "NotAllowedError") this.onBlocked();
    });
  }

  /** Makes the worker's consumer what is wanted; one change at a time, and the latest wish last. */
  #apply(): Promise<void> {
    this.#applying ??= this.#applyAll().finally(() => (this.#applying = undefined));
    return this.#applying;
  }

  async #applyAll(): Promise<void> {
    while (this.#consumer && this.#consumerId) {
      const consumer = this.#consumer;
      const id = this.#consumerId;
      const wish: Wish = { paused: this.#isPaused || this.#isHidden, spatialLayer: this.#spatialLayer };
      if (wish.paused === this.#applied.paused && wish.spatialLayer === this.#applied.spatialLayer) return;
      try {
        if (wish.spatialLayer !== undefined && wish.spatialLayer !== this.#applied.spatialLayer) {
          await this.session.requests.ask("set-preferred-layers", { consumer: id, spatialLayer: wish.spatialLayer }, "mafalda.result.done.v1", this.closedSignal);
        }
        if (wish.paused !== this.#applied.paused) {
          const action = wish.paused ? "pause-consumer" : "resume-consumer";
          await this.session.requests.ask(action, { consumer: id }, "mafalda.result.done.v1", this.closedSignal);
          if (wish.paused) consumer.pause();
          else consumer.resume();
        }
      } catch (error) {
        if (this.#consumer !== consumer) continue; // opened again meanwhile: there is another one to apply it to
        throw error;
      }
      if (this.#consumer === consumer) this.#applied = wish;
    }
  }

  async #closeOnWorker(consumer: string): Promise<void> {
    await this.session.requests.ask("close-consumer", { consumer }, "mafalda.result.done.v1").catch(() => undefined);
  }
}
