/** A track of ours that is sent into the room, wherever this peer is placed. */

import type { types } from "mediasoup-client";
import { MafaldaError } from "../errors.js";
import { newId } from "../protocol/subjects.js";
import type { Endpoint, ProduceOptions } from "../session/endpoint.js";
import { Resource, type ResourceState } from "../session/resource.js";
import type { PauseCause } from "../session/roster.js";
import type { Session } from "../session/session.js";
import { svcUpTo, type SvcEncoding } from "./layers.js";

/** Where a track comes from; carried in the producer's `appData.source`. */
export type Source = "camera" | "microphone" | "screen" | "screen-audio" | "file";

export interface PublishOptions {
  source?: Source;
  /** Several resolutions at once, of which each receiver gets what it needs. Default: for cameras. */
  simulcast?: boolean;
  /** `VP8` (default), `VP9`, `H264` or `AV1`, if the browser and the room have it. */
  codec?: string;
  /** Of the highest resolution, in bits per second. */
  maxBitrate?: number;
  /** Stop sending resolutions that nobody receives, until somebody does. Default: true. */
  dynacast?: boolean;
  /** Start muted. */
  muted?: boolean;
  appData?: Record<string, unknown>;
}

const CAMERA_BITRATE_BPS = 1_700_000;
const SCREEN_BITRATE_BPS = 2_500_000;

/** Sends one track until it is closed. */
export class LocalPublication extends Resource {
  readonly id = newId();
  readonly kind: "audio" | "video";
  readonly source: Source;
  #track: MediaStreamTrack;
  #muted: boolean;
  /** Whether the worker has confirmed what `#muted` is. */
  #isSettled = true;
  #mutedBy: "us" | "moderator" | undefined;
  #moderator: string | undefined;
  #producer: types.Producer | undefined;
  /** Sends at the former placement until the producer at the present one is open. */
  #former: types.Producer | undefined;
  /** Aborts when the producer is of no more use. */
  #gone: AbortSignal | undefined;
  /** Of the placement where the producer is open, or is being opened. */
  #generation: number | undefined;
  /** The highest layer that is sent; -1: none. */
  #highestLayer = Number.POSITIVE_INFINITY;
  /** What is sent of a video whose only encoding has spatial layers in it. */
  #svc: SvcEncoding | undefined;
  #applyingLayers: Promise<void> = Promise.resolve();

  constructor(
    session: Session,
    track: MediaStreamTrack,
    private readonly options: PublishOptions,
    private readonly onChange: (publication: LocalPublication) => void,
    private readonly onModerated: (publication: LocalPublication) => void,
  ) {
    super(session);
    this.#track = track;
    this.#muted = options.muted ?? false;
    this.#mutedBy = this.#muted ? "us" : undefined;
    this.kind = track.kind === "audio" ? "audio" : "video";
    this.source = options.source ?? (this.kind === "audio" ? "microphone" : "camera");
  }

  get track(): MediaStreamTrack {
    return this.#track;
  }

  get muted(): boolean {
    return this.#muted;
  }

  /** Who has muted it, while it is muted. */
  get mutedBy(): "us" | "moderator" | undefined {
    return this.#mutedBy;
  }

  /** The peer that has muted it, while `mutedBy` is `moderator`; unknown if it was an application's server, or we missed it. */
  get moderator(): string | undefined {
    return this.#moderator;
  }

  /** Sends nothing until `unmute`; the others are told. The wish holds across outages. */
  async mute(): Promise<void> {
    await this.#setMuted(true);
  }

  async unmute(): Promise<void> {
    await this.#setMuted(false);
  }

  /** Sends another track of the same kind from now on, such as another camera's. */
  async replaceTrack(track: MediaStreamTrack): Promise<void> {
    this.#track = track;
    await (this.#producer ?? this.#former)?.replaceTrack({ track });
    this.onChange(this);
  }

  /** Stops sending. The track itself goes on, for it is the application's. */
  async close(): Promise<void> {
    if (this.state === "closed") return;
    this.end();
    await this.#closeOnWorker();
  }

  /** @internal Its place in the statistics of the transport, while it is open. */
  get mid(): string | undefined {
    return this.#producer?.localId;
  }

  /** @internal Whether something of it is to arrive at the worker: it is open, not muted, and somebody receives it. */
  get isSent(): boolean {
    return this.#producer?.closed === false && !this.#muted && this.#highestLayer >= 0;
  }

  /** WebRTC statistics of the sender, if it is open. */
  async getStats(): Promise<RTCStatsReport | undefined> {
    return await this.#producer?.getStats();
  }

  /** @internal The room was told that it is paused, or flows again, in the order of the log. */
  pausedInRoom(paused: boolean, cause: PauseCause): void {
    const isOwn = cause.intent !== undefined && this.session.requests.isOwnPause(cause.intent);
    if (paused && !isOwn) this.#moderated(cause.by);
    // Our own unmute was on its way when a moderator muted it, and came later.
    else if (!paused && this.#mutedBy === "moderator") this.#unmoderated();
  }

  override get serverId(): string {
    return this.id;
  }

  override async check(): Promise<void> {
    const known = this.session.roster.producers.get(this.id);
    if (!known) throw new MafaldaError("not-found", "the producer is not in the room any more");
    this.#sendLayers(Number.POSITIVE_INFINITY); // what has been said meanwhile was missed
    if (known.paused && !this.#muted && this.#isSettled) this.#moderated();
    else await this.#applyMuted();
  }

  /** @internal The highest layer that anybody receives at a placement is another one; -1: nobody receives any. */
  layersChanged(highest: number, generation: number): void {
    if (generation === this.#generation) this.#sendLayers(highest); // an earlier placement's may come late
  }

  protected override async open(endpoint: Endpoint, signal: AbortSignal): Promise<void> {
    const transport = await endpoint.sendTransport();
    const muted = this.#muted;
    const reportLayers = this.kind === "video" && (this.options.dynacast ?? true);
    const appData: ProduceOptions = { id: this.id, paused: muted, reportLayers, appData: { ...this.options.appData, source: this.source } };
    this.#generation = endpoint.generation;
    this.#highestLayer = Number.POSITIVE_INFINITY;
    const codec = this.#codec(endpoint.device);
    const track = this.#track;
    let producer: types.Producer;
    try {
      producer = await transport.produce({
        track,
        stopTracks: false,
        disableTrackOnPause: false,
        zeroRtpOnPause: true,
        appData: appData as unknown as types.AppData,
        ...(codec ? { codec } : {}),
        ...this.#encodings(codec),
      });
    } catch (error) {
      // A try whose answer was lost may have been carried out.
      if (error instanceof MafaldaError && error.code === "already-exists") await this.#closeOnWorker();
      throw error;
    }
    if (signal.aborted) producer.close();
    signal.throwIfAborted();
    this.#producer = producer;
    this.#isSettled = true;
    this.#gone = signal;
    this.dropFormer();
    if (this.#highestLayer !== Number.POSITIVE_INFINITY) this.#sendLayers(this.#highestLayer); // said before its result was here
    if (muted) producer.pause();
    if (this.#muted !== muted) await this.#applyMuted();
    if (this.#track !== track) await producer.replaceTrack({ track: this.#track });
  }

  protected override mayRetry(error: unknown, openedOnce: boolean): boolean {
    return (error instanceof MafaldaError && error.code === "already-exists") || super.mayRetry(error, openedOnce);
  }

  protected override dropLocal(): void {
    this.#producer?.close();
    this.#producer = undefined;
  }

  protected override keepFormer(isHandedOver: boolean): void {
    if (!isHandedOver) return this.dropLocal(); // its server side is gone: nothing is sent
    if (!this.#producer) return;
    this.#former?.close();
    this.#former = this.#producer;
    this.#producer = undefined;
  }

  protected override dropFormer(): void {
    this.#former?.close();
    this.#former = undefined;
  }

  protected override async flows(endpoint: Endpoint, signal: AbortSignal): Promise<void> {
    await endpoint.connected("send", signal);
  }

  protected override onState(_state: ResourceState): void {
    this.onChange(this);
  }

  async #closeOnWorker(): Promise<void> {
    await this.session.requests.ask("close-producer", { producer: this.id }, "mafalda.result.done.v1").catch(() => undefined);
  }

  #moderated(by?: string): void {
    if (this.#muted) return;
    this.#muted = true;
    this.#mutedBy = "moderator";
    this.#moderator = by;
    this.#producer?.pause();
    this.onChange(this);
    this.onModerated(this);
  }

  #unmoderated(): void {
    this.#muted = false;
    this.#mutedBy = this.#moderator = undefined;
    this.#producer?.resume();
    this.onChange(this);
  }

  async #setMuted(muted: boolean): Promise<void> {
    this.#muted = muted;
    this.#moderator = undefined;
    this.#mutedBy = muted ? "us" : undefined;
    this.onChange(this);
    await this.#applyMuted();
  }

  /** Makes the producer what `muted` says: here at once, on the worker as soon as it answers; at the latest when it is opened again. */
  async #applyMuted(): Promise<void> {
    if (this.#muted) this.#former?.pause();
    else this.#former?.resume();
    const producer = this.#producer;
    if (!producer || producer.closed) return;
    if (this.#muted) producer.pause();
    else producer.resume();
    const action = this.#muted ? "pause-producer" : "resume-producer";
    this.#isSettled = false;
    try {
      await this.session.requests.ask(action, { producer: this.id }, "mafalda.result.done.v1", this.#gone);
      this.#isSettled = this.#producer === producer;
    } catch (error) {
      if (this.#producer === producer && !producer.closed) throw error; // else it is opened again as `muted` says
    }
  }

  #sendLayers(highest: number): void {
    this.#highestLayer = highest;
    this.#applyingLayers = this.#applyingLayers
      .then(() => this.#applyLayers())
      .catch((error: unknown) => console.warn("mafalda: layers not changed", error));
  }

  async #applyLayers(): Promise<void> {
    const sender = this.#producer?.closed === false ? this.#producer.rtpSender : undefined;
    if (!sender) return; // it begins with all of them
    const parameters = sender.getParameters();
    const wanted = parameters.encodings.map((_, layer) => ({ active: layer <= this.#highestLayer, ...this.#svcUpTo(this.#highestLayer) }));
    const isApplied = parameters.encodings.every((encoding, layer) =>
      Object.entries(wanted[layer] ?? {}).every(([name, value]) => (encoding as unknown as Record<string, unknown>)[name] === value),
    );
    if (isApplied) return;
    parameters.encodings.forEach((encoding, layer) => Object.assign(encoding, wanted[layer]));
    await sender.setParameters(parameters);
  }

  /** What is to be sent of a single encoding with spatial layers in it, as long as somebody receives any of them. */
  #svcUpTo(highest: number): SvcEncoding | undefined {
    const { width, height } = this.#track.getSettings?.() ?? {};
    return this.#svc && highest >= 0 && width && height ? svcUpTo(highest, this.#svc, width, height) : undefined;
  }

  #codec(device: types.Device): types.RtpCodecCapability | undefined {
    if (this.kind === "audio") return undefined;
    const wanted = `video/${(this.options.codec ?? "VP8").toLowerCase()}`;
    return device.sendRtpCapabilities.codecs?.find((codec) => codec.mimeType.toLowerCase() === wanted) as types.RtpCodecCapability | undefined;
  }

  #encodings(codec: types.RtpCodecCapability | undefined): Pick<types.ProducerOptions, "encodings" | "codecOptions"> {
    if (this.kind === "audio") return { codecOptions: { opusDtx: true, opusFec: true } };
    const isScreen = this.source === "screen";
    const maxBitrate = this.options.maxBitrate ?? (isScreen ? SCREEN_BITRATE_BPS : CAMERA_BITRATE_BPS);
    const isSvc = /\/(vp9|av1)$/i.test(codec?.mimeType ?? "");
    this.#svc = isSvc && !isScreen ? { maxBitrate, scalabilityMode: "L3T3_KEY", scaleResolutionDownBy: 1 } : undefined;
    if (isSvc) return { encodings: [{ maxBitrate, scalabilityMode: this.#svc?.scalabilityMode ?? "L1T3" }] };
    if (!(this.options.simulcast ?? !isScreen)) return { encodings: [{ maxBitrate }] };
    return {
      encodings: [4, 2, 1].map((scaleResolutionDownBy) => ({
        scaleResolutionDownBy,
        maxBitrate: Math.round(maxBitrate / scaleResolutionDownBy ** 1.5),
        scalabilityMode: "L1T3",
      })),
    };
  }
}
