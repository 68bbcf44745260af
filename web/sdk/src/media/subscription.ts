/** A producer of the room that we receive, wherever it and we are placed. */

import type { types } from "mediasoup-client";
import { MafaldaError } from "../errors.js";
import { newId } from "../protocol/subjects.js";
import type { Endpoint } from "../session/endpoint.js";
import { Resource, type ResourceState } from "../session/resource.js";
import type { ProducerInfo } from "../session/roster.js";
import type { Session } from "../session/session.js";
import { AdaptiveStream } from "./adaptive.js";

/** Receives one track while its producer is in the room. */
export class RemoteSubscription extends Resource {
  /** Of the consumer at the present placement. */
  consumerId = "";
  #consumer: types.Consumer | undefined;
  #paused = false;
  #layers: { spatialLayer: number } | undefined;
  readonly #adaptive: AdaptiveStream;

  constructor(
    session: Session,
    readonly producer: ProducerInfo,
    private readonly onChange: (subscription: RemoteSubscription) => void,
  ) {
    super(session);
    this.#adaptive = new AdaptiveStream((wanted) => void this.#apply(wanted));
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
    this.#paused = true;
    await this.#applyPaused();
  }

  async resume(): Promise<void> {
    this.#paused = false;
    await this.#applyPaused();
  }

  async getStats(): Promise<RTCStatsReport | undefined> {
    return await this.#consumer?.getStats();
  }

  /** Stops receiving. */
  async close(): Promise<void> {
    if (this.state === "closed") return;
    const consumer = this.consumerId;
    this.end();
    if (consumer) await this.session.requests.ask("close-consumer", { consumer }, "mafalda.result.done.v1").catch(() => undefined);
  }

  protected override async open(endpoint: Endpoint): Promise<void> {
    if (!this.session.roster.producers.has(this.producer.id)) throw new MafaldaError("not-found", "the producer is not in the room");
    const transport = await endpoint.receiveTransport();
    this.consumerId = newId();
    const result = await this.session.requests.ask(
      "consume",
      { consumer: this.consumerId, transport: transport.id, producer: this.producer.id, rtpCapabilities: endpoint.device.recvRtpCapabilities as never, paused: true },
      "mafalda.result.consume.v1",
      endpoint.lost,
    );
    const consumer = await transport.consume({
      id: result.consumer,
      producerId: result.producer,
      kind: result.mediaKind,
      rtpParameters: result.rtpParameters as unknown as types.RtpParameters,
    });
    this.#consumer = consumer;
    consumer.on("transportclose", () => this.reopen());
    if (this.#layers) await this.#setLayers(this.#layers);
    await this.#applyPaused();
    for (const element of this.#adaptive.elements) this.#show(element);
  }

  protected override dropLocal(): void {
    this.#consumer?.close();
    this.#consumer = undefined;
    this.consumerId = "";
  }

  protected override onEnded(_error: MafaldaError | undefined): void {
    for (const element of this.#adaptive.elements) element.srcObject = null;
    this.#adaptive.close();
    this.onChange(this);
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
    void element.play().catch(() => undefined); // autoplay is blocked: the room tells the application
  }

  async #apply(wanted: { visible: boolean; spatialLayer: number }): Promise<void> {
    if (this.producer.kind !== "video") return;
    this.#layers = { spatialLayer: wanted.spatialLayer };
    try {
      await (wanted.visible ? this.resume() : this.pause());
      if (wanted.visible) await this.#setLayers(this.#layers);
    } catch (error) {
      if (this.state === "open") console.warn("mafalda: layers not changed", error);
    }
  }

  async #setLayers(layers: { spatialLayer: number }): Promise<void> {
    if (!this.consumerId || this.producer.kind !== "video") return;
    await this.session.requests.ask("set-preferred-layers", { consumer: this.consumerId, ...layers }, "mafalda.result.done.v1", this.closedSignal);
  }

  async #applyPaused(): Promise<void> {
    if (!this.#consumer || !this.consumerId) return;
    const action = this.#paused ? "pause-consumer" : "resume-consumer";
    await this.session.requests.ask(action, { consumer: this.consumerId }, "mafalda.result.done.v1", this.closedSignal);
    if (this.#paused) this.#consumer?.pause();
    else this.#consumer?.resume();
  }
}
