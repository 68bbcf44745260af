/** The browser's WebRTC side at one placement: a mediasoup device, and a transport each way, made when first needed. */

import { Device, type types } from "mediasoup-client";
import { abortable } from "../abort.js";
import { MafaldaError } from "../errors.js";
import type { JoinResult, TransportResult } from "../protocol/messages.js";
import { newId } from "../protocol/subjects.js";
import { transportIntent, type Direction, type TransportsAhead } from "./ahead.js";
import type { Requests } from "./requests.js";

/** How long a transport may be disconnected before its ICE is restarted. */
const DISCONNECTED_MS = 2_000;
/** A transport that is not connected after this is taken to have no connection. */
const CONNECTING_MS = 5_000;
const SIDE = { send: "send", receive: "recv" } as const;

/** What a producer is to be, given to mediasoup-client with the track so that its `produce` event can pass it on. */
export interface ProduceOptions {
  readonly id: string;
  readonly paused: boolean;
  /** Of a video: whether the agent is to say which of its layers anybody receives. */
  readonly reportLayers?: boolean;
  readonly appData: Record<string, unknown>;
}

/** Made for each placement, and again at the same one when its transports failed. */
export class Endpoint {
  readonly #lost = new AbortController();
  readonly #transports = new Map<Direction, Promise<types.Transport>>();
  readonly #askedAt = new Map<Direction, number>();
  readonly #ids = new Set<string>();
  readonly #isConnected = new Set<types.Transport>();
  #connectionChanged = Promise.withResolvers<void>();
  #isHandedOver = false;
  /** Whether the transport that receives was requested before it was known what can be received on it. */
  readonly #receivesAhead: boolean;

  private constructor(
    readonly placement: JoinResult,
    readonly device: Device,
    private readonly requests: Requests,
    private readonly ahead: TransportsAhead,
    private readonly connectsFirst: boolean,
  ) {
    this.#receivesAhead = ahead.has("receive");
  }

  /**
   * `ahead`: transports that may be there already. `connectsFirst`: producers are requested only when their transport is connected,
   * because another endpoint sends the same until then.
   */
  static async create(placement: JoinResult, requests: Requests, ahead: TransportsAhead, connectsFirst = false): Promise<Endpoint> {
    const device = await Device.factory();
    await device.load({ routerRtpCapabilities: placement.routerRtpCapabilities as unknown as types.RtpCapabilities });
    return new Endpoint(placement, device, requests, ahead, connectsFirst);
  }

  /** Aborted when this endpoint is of no more use; its reason says why. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /** Whether it is lost because the peer is handed over: its place goes on forwarding until `close`. */
  get isHandedOver(): boolean {
    return this.#isHandedOver;
  }

  get generation(): number {
    return this.placement.generation;
  }

  sendTransport(): Promise<types.Transport> {
    return this.#transport("send");
  }

  receiveTransport(): Promise<types.Transport> {
    return this.#transport("receive");
  }

  /** Makes the transport that receives; returns what a subscription must say that can be received on it, if the transport does not. */
  async prepareToReceive(): Promise<types.RtpCapabilities | undefined> {
    const transport = this.receiveTransport();
    if (!this.#receivesAhead) return void (await transport);
    transport.catch(() => undefined); // whoever receives on it is told
    return this.device.recvRtpCapabilities;
  }

  /** Ids of the transports that were made here. */
  async transportIds(): Promise<string[]> {
    return (await Promise.all(this.#transports.values())).map((transport) => transport.id);
  }

  /** Whether the transport was made here, even if it is not open yet. */
  hasTransport(id: string): boolean {
    return this.#ids.has(id);
  }

  /** WebRTC statistics of the transport of this direction, if it is connected. */
  async stats(direction: "send" | "receive"): Promise<RTCStatsReport | undefined> {
    const transport = await this.#transports.get(direction)?.catch(() => undefined);
    return transport && this.#isConnected.has(transport) ? await transport.getStats() : undefined;
  }

  /** Whether the transport of this direction is not connected although it was asked for some time ago. */
  isOverdue(direction: "send" | "receive"): boolean {
    const askedAt = this.#askedAt.get(direction);
    return askedAt !== undefined && performance.now() - askedAt > CONNECTING_MS && ![...this.#isConnected].some((it) => it.direction === SIDE[direction]);
  }

  /** Whether a transport is connected, which shows the agent that this peer is there. */
  get isConnected(): boolean {
    return this.#isConnected.size > 0;
  }

  /** Waits until the transport of this direction is connected. */
  async connected(direction: Direction, signal: AbortSignal): Promise<void> {
    const transport = await abortable(this.#transport(direction), signal);
    while (!this.#isConnected.has(transport)) await abortable(this.#connectionChanged.promise, signal);
  }

  /**
   * This endpoint is of no more use: close what is here. The worker's side goes with the placement, or is closed by `closeRemote`.
   * `handover`: what is here works until the next endpoint carries media, so it stays open until `close`.
   */
  lose(reason: string, { handover = false } = {}): void {
    if (this.lost.aborted) return;
    this.#isHandedOver = handover;
    this.#lost.abort(new MafaldaError("placement-lost", reason));
    if (!handover) this.close();
  }

  /** Closes what is here of an endpoint that is lost. */
  close(): void {
    for (const transport of this.#transports.values()) transport.then((it) => it.close(), () => undefined);
  }

  /** Has the transports closed on the worker too, for a placement that stays. */
  async closeRemote(): Promise<void> {
    const transports = await Promise.allSettled(this.#transports.values());
    await Promise.allSettled(
      transports.flatMap((it) => (it.status === "fulfilled" ? [this.requests.ask("close-transport", { transport: it.value.id }, "mafalda.result.done.v1")] : [])),
    );
  }

  #transport(direction: Direction): Promise<types.Transport> {
    let transport = this.#transports.get(direction);
    if (!transport) {
      this.#askedAt.set(direction, performance.now());
      transport = this.#open(direction);
      this.#transports.set(direction, transport);
      transport.catch(() => this.#transports.delete(direction));
    }
    return transport;
  }

  async #open(direction: Direction): Promise<types.Transport> {
    const result = (await this.ahead.take(direction, this.generation)) ?? (await this.#request(direction));
    this.#ids.add(result.transport);
    if (!result.iceParameters) throw new MafaldaError("malformed-message", "the agent sent no ICE parameters");
    const options = {
      id: result.transport,
      iceParameters: result.iceParameters,
      iceCandidates: result.iceCandidates,
      dtlsParameters: result.dtlsParameters,
      ...(result.sctpParameters ? { sctpParameters: result.sctpParameters } : {}),
    } as unknown as types.TransportOptions;
    const transport = direction === "send" ? this.device.createSendTransport(options) : this.device.createRecvTransport(options);
    this.#serve(transport);
    if (this.lost.aborted) {
      transport.close();
      this.lost.throwIfAborted();
    }
    return transport;
  }

  async #request(direction: Direction): Promise<TransportResult> {
    const intent = transportIntent(newId(), direction);
    this.#ids.add(intent.transport);
    if (direction === "send") return await this.requests.askTransport("create-transport", intent, this.lost);
    const rtpCapabilities = this.device.recvRtpCapabilities as never;
    return await this.requests.askTransport("create-transport", { ...intent, rtpCapabilities }, this.lost);
  }

  /** Answers what mediasoup-client asks of its signalling. */
  #serve(transport: types.Transport): void {
    transport.on("connect", ({ dtlsParameters }, done, fail) => {
      const data = { transport: transport.id, dtlsParameters: dtlsParameters as never };
      this.requests.ask("connect-transport", data, "mafalda.result.done.v1", this.lost).then(
        () => done(),
        (error: Error) => {
          fail(error);
          this.lose(`the transport could not be connected: ${error.message}`);
        },
      );
    });
    if (transport.direction === "send") {
      transport.on("produce", ({ kind, rtpParameters, appData }, done, fail) => {
        const { id, paused, reportLayers = false, appData: custom } = appData as unknown as ProduceOptions;
        const data = { producer: id, transport: transport.id, mediaKind: kind, rtpParameters: rtpParameters as never, paused, reportLayers, appData: custom };
        const ready = this.connectsFirst ? this.connected("send", this.lost) : Promise.resolve();
        ready
          .then(() => this.requests.ask("produce", data, "mafalda.result.produce.v1", this.lost))
          .then((result) => done({ id: result.producer }), fail);
      });
      transport.on("producedata", ({ sctpStreamParameters, label, protocol, appData }, done, fail) => {
        const { id, appData: custom } = appData as unknown as Pick<ProduceOptions, "id" | "appData">;
        const data = { dataProducer: id, transport: transport.id, sctpStreamParameters: sctpStreamParameters as never, label: label ?? "", protocol: protocol ?? "", appData: custom };
        this.requests.ask("produce-data", data, "mafalda.result.produce-data.v1", this.lost).then((result) => done({ id: result.dataProducer }), fail);
      });
    }
    let timer: ReturnType<typeof setTimeout> | undefined;
    transport.on("connectionstatechange", (state) => {
      clearTimeout(timer);
      if (state === "connected") this.#isConnected.add(transport);
      else this.#isConnected.delete(transport);
      const changed = this.#connectionChanged;
      this.#connectionChanged = Promise.withResolvers();
      changed.resolve();
      if (state === "failed") this.lose(`${transport.direction} transport failed`);
      if (state === "disconnected") timer = setTimeout(() => void this.#restartIce(transport), DISCONNECTED_MS);
    });
  }

  async #restartIce(transport: types.Transport): Promise<void> {
    if (this.lost.aborted || transport.closed) return;
    try {
      const result = await this.requests.askTransport("restart-ice", { transport: transport.id }, this.lost);
      if (result.iceParameters) await transport.restartIce({ iceParameters: result.iceParameters as unknown as types.IceParameters });
    } catch (error) {
      this.lose(`ICE could not be restarted: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
}
