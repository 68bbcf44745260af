/** A producer of the room that we receive, wherever it and we are placed. */

import type { types } from "mediasoup-client";
import { delay } from "../abort.js";
import type { Endpoint } from "../session/endpoint.js";
import type { ResourceState } from "../session/resource.js";
import type { MadeConsumer, RoomSubscription } from "../session/room-subscription.js";
import type { ProducerInfo } from "../session/roster.js";
import type { Session } from "../session/session.js";
import { AdaptiveStream } from "./adaptive.js";
import { MEDIA_WAIT_MS, Received } from "./received.js";

/** What is wanted of the worker's consumer. */
interface Wish {
  readonly paused: boolean;
  readonly spatialLayer: number | undefined;
}

/** The consumer at the present placement. */
interface LiveConsumer {
  readonly consumer: types.Consumer;
  /** Aborts when it is of no more use. */
  readonly gone: AbortSignal;
  applied: Wish;
  applying: Promise<void> | undefined;
}

/** Nothing tells that a frame was decoded, but the statistics. */
const MEDIA_POLL_MS = 50;

/** Receives one track while its producer is in the room. */
export class RemoteSubscription extends Received {
  #live: LiveConsumer | undefined;
  /** Is shown until the present consumer has media. */
  #former: LiveConsumer | undefined;
  readonly #streams = new WeakMap<HTMLMediaElement, MediaStream>();
  #isPaused = false;
  #isHidden = false;
  #spatialLayer: number | undefined;
  readonly #adaptive: AdaptiveStream;

  constructor(
    session: Session,
    wish: RoomSubscription,
    producer: ProducerInfo,
    private readonly onChange: (subscription: RemoteSubscription) => void,
    private readonly onBlocked: () => void,
  ) {
    super(session, wish, producer);
    this.#adaptive = new AdaptiveStream(({ visible, spatialLayer }) => {
      if (this.producer.kind !== "video") return;
      this.#isHidden = !visible;
      if (visible) this.#spatialLayer = spatialLayer;
      this.#apply().catch((error: unknown) => console.warn("mafalda: layers not changed", error));
    });
  }

  /** The received track; another one after a new placement. */
  get track(): MediaStreamTrack | undefined {
    return (this.#former ?? this.#live)?.consumer.track;
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
    this.#streams.delete(element);
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
    return this.#live?.consumer.rtpReceiver?.getSynchronizationSources()[0]?.audioLevel ?? 0;
  }

  /** @internal Tries again to play what the browser did not let play. */
  startPlayback(): void {
    for (const element of this.#adaptive.elements) if (element.paused) this.#play(element);
  }

  /** @internal Its place in the statistics of the transport, while it is open. */
  get mid(): string | undefined {
    return this.#live?.consumer.localId;
  }

  /** @internal Whether something of it is to arrive here. */
  get isReceived(): boolean {
    return this.#live?.applied.paused === false && !this.producer.paused;
  }

  async getStats(): Promise<RTCStatsReport | undefined> {
    return await this.#live?.consumer.getStats();
  }

  protected override get isOpenHere(): boolean {
    return this.#live !== undefined;
  }

  protected override async receive(made: MadeConsumer, endpoint: Endpoint, signal: AbortSignal): Promise<void> {
    const transport = await endpoint.receiveTransport();
    const kind = made.kind === "audio" ? "audio" : "video";
    const local = await transport.consume({ id: made.id, producerId: this.producer.id, kind, rtpParameters: made.rtpParameters as types.RtpParameters });
    if (signal.aborted) local.close();
    signal.throwIfAborted();
    this.#live = { consumer: local, gone: signal, applied: { paused: true, spatialLayer: undefined }, applying: undefined };
    await this.#apply();
    if (!this.#former) this.#showAll();
  }

  protected override dropLocal(): void {
    super.dropLocal();
    this.#live?.consumer.close();
    this.#live = undefined;
  }

  protected override keepFormer(isHandedOver: boolean): void {
    super.keepFormer(isHandedOver);
    if (this.#former && this.#live) this.#former.consumer.close();
    this.#former = this.#live ?? this.#former;
    this.#live = undefined;
  }

  protected override dropFormer(): void {
    const former = this.#former;
    this.#former = undefined;
    if (former && this.#live) this.#showAll();
    former?.consumer.close();
  }

  protected override async flows(endpoint: Endpoint, signal: AbortSignal): Promise<void> {
    await endpoint.connected("receive", signal);
    const giveUpAt = performance.now() + MEDIA_WAIT_MS;
    const live = this.#live;
    while (live && !live.applied.paused && !this.producer.paused && performance.now() < giveUpAt) {
      if (await hasMedia(live.consumer)) return;
      await delay(MEDIA_POLL_MS, signal);
    }
  }

  protected override onEnded(): void {
    for (const element of this.#adaptive.elements) element.srcObject = null;
    this.#adaptive.close();
    super.onEnded();
  }

  protected override onState(_state: ResourceState): void {
    this.onChange(this);
  }

  #show(element: HTMLMediaElement): void {
    const { track } = this;
    if (!track) return;
    const stream = this.#streams.get(element);
    if (stream && element.srcObject === stream) {
      // Another track in the same stream: the element goes on, and shows the last picture until the next one.
      const others = stream.getTracks().filter((it) => it !== track);
      stream.addTrack(track);
      for (const other of others) stream.removeTrack(other);
    } else {
      const fresh = new MediaStream([track]);
      this.#streams.set(element, fresh);
      element.srcObject = fresh;
    }
    this.#play(element);
  }

  #showAll(): void {
    for (const element of this.#adaptive.elements) this.#show(element);
  }

  #play(element: HTMLMediaElement): void {
    element.play().catch((error: unknown) => {
      if ((error as DOMException).name === "NotAllowedError") this.onBlocked();
    });
  }

  /** Makes the worker's consumer what is wanted; one change at a time, and the latest wish last. */
  #apply(): Promise<void> {
    const live = this.#live;
    if (!live) return Promise.resolve(); // applied when it is open again
    live.applying ??= this.#applyTo(live).finally(() => (live.applying = undefined));
    return live.applying;
  }

  async #applyTo(live: LiveConsumer): Promise<void> {
    const { consumer, gone } = live;
    const ask = this.session.requests.ask.bind(this.session.requests);
    try {
      while (this.#live === live) {
        const wish: Wish = { paused: this.#isPaused || this.#isHidden, spatialLayer: this.#spatialLayer };
        if (wish.paused === live.applied.paused && wish.spatialLayer === live.applied.spatialLayer) return;
        const changes: Promise<unknown>[] = []; // in one flight, and done in order
        if (wish.spatialLayer !== undefined && wish.spatialLayer !== live.applied.spatialLayer) {
          changes.push(ask("set-preferred-layers", { consumer: consumer.id, spatialLayer: wish.spatialLayer }, "mafalda.result.done.v1", gone));
        }
        if (wish.paused !== live.applied.paused) {
          changes.push(ask(wish.paused ? "pause-consumer" : "resume-consumer", { consumer: consumer.id }, "mafalda.result.done.v1", gone));
          if (wish.paused) consumer.pause();
          else consumer.resume();
        }
        await Promise.all(changes);
        live.applied = wish;
      }
    } catch (error) {
      if (!gone.aborted) throw error; // else it is opened again as it is wanted
    }
  }

}

/** Whether something of the media was decoded. */
async function hasMedia(consumer: types.Consumer): Promise<boolean> {
  for (const it of (await consumer.getStats()).values() as IterableIterator<Record<string, unknown>>) {
    if (it["type"] === "inbound-rtp" && Number(it["kind"] === "video" ? it["framesDecoded"] : it["packetsReceived"]) > 0) return true;
  }
  return false;
}
