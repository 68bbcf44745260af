/**
 * One membership of a room: joins, follows what is stored about it, keeps an endpoint at the present placement, and joins again when an
 * outage has cost the place.
 *
 *     joining ──▶ joined ◀──▶ reconnecting ──▶ left
 */

import { Closed, MafaldaError } from "../errors.js";
import type { Bus, Stored } from "../nats/bus.js";
import type { AnyMessage } from "../protocol/envelope.js";
import type { JoinResult, RoomSnapshotAnswer } from "../protocol/messages.js";
import { PeerSubjects } from "../protocol/subjects.js";
import { Endpoint } from "./endpoint.js";
import { Requests } from "./requests.js";
import type { Resource } from "./resource.js";
import { Roster, type AppData, type RosterChange } from "./roster.js";

export type SessionState = "joining" | "joined" | "reconnecting" | "left";

export interface SessionOptions {
  readonly room: string;
  readonly peer: string;
  readonly appData: AppData;
  readonly region?: string;
  readonly inboxPrefix?: string;
}

export interface SessionListener {
  changed(changes: RosterChange[]): void;
  state(state: SessionState, reason: string): void;
  ended(error: MafaldaError | undefined): void;
}

const REJOIN_PAUSE_MS = 1_000;
/** An agent lets go of a peer that neither has a connected transport nor asks for anything for a minute. */
const HEARTBEAT_MS = 20_000;

/** See the module. `join` starts it. */
export class Session {
  readonly roster = new Roster();
  readonly requests: Requests;
  readonly resources = new Set<Resource>();
  readonly #stop: (() => void)[] = [];
  readonly #ended = new AbortController();
  #state: SessionState = "joining";
  #early: Stored[] | undefined = [];
  #endpoint: Endpoint | undefined;
  #waiting = Promise.withResolvers<Endpoint>();
  #opening: Promise<void> | undefined;
  #placement: JoinResult | undefined;
  #rejoining: Promise<void> | undefined;

  constructor(
    private readonly bus: Bus,
    private readonly options: SessionOptions,
    private readonly listener: SessionListener,
  ) {
    const inbox = bus.newInbox(options.inboxPrefix);
    this.requests = new Requests(bus, new PeerSubjects(options.room, options.peer), inbox, `/client/${options.peer}`);
    this.#waiting.promise.catch(() => undefined);
  }

  get state(): SessionState {
    return this.#state;
  }

  get placement(): JoinResult | undefined {
    return this.#placement;
  }

  /** Joins; resolves with a place and the room's snapshot. */
  async join(signal?: AbortSignal): Promise<void> {
    const { subjects, inbox } = this.requests;
    this.#stop.push(
      this.bus.subscribeStored(subjects.results, ({ message }) => this.#result(message)),
      this.bus.subscribeStored(subjects.peerEvents, ({ message }) => this.#peerEvent(message)),
      this.bus.subscribeStored(subjects.roomEvents, (stored) => this.#roomEvent(stored)),
      this.bus.subscribeInbox(inbox, (message) => this.requests.receivePrivate(message)),
      this.bus.onChange(
        () => this.#setState("reconnecting", "the connection to NATS is interrupted"),
        () => void this.#resync(),
      ),
    );
    try {
      await this.bus.flush();
      await this.#join(signal);
      const heartbeat = setInterval(() => void this.#heartbeat(), HEARTBEAT_MS);
      this.#stop.push(() => clearInterval(heartbeat));
    } catch (error) {
      this.end(error instanceof MafaldaError ? error : undefined);
      throw error;
    }
  }

  /** The endpoint of the present placement, as soon as there is one. */
  async endpoint(signal: AbortSignal): Promise<Endpoint> {
    signal.throwIfAborted();
    if (this.#endpoint && !this.#endpoint.lost.aborted) return this.#endpoint;
    this.#ended.signal.throwIfAborted();
    return await Promise.race([
      this.#waiting.promise,
      new Promise<never>((_, reject) => signal.addEventListener("abort", () => reject(signal.reason), { once: true })),
    ]);
  }

  /** Leaves the room and tells the fleet. */
  async leave(): Promise<void> {
    if (this.#state === "left") return;
    const told = this.requests.ask("leave", {}, "mafalda.result.done.v1", AbortSignal.timeout(3_000)).catch(() => undefined);
    this.#setState("left", "left");
    await told;
    this.end();
  }

  /** Ends everything here. */
  end(error?: MafaldaError): void {
    if (this.#ended.signal.aborted) return;
    const reason = error ?? new Closed("the room was left");
    this.#setState("left", reason.message);
    this.#ended.abort(reason);
    for (const resource of [...this.resources]) resource.end(error);
    this.#endpoint?.lose("the room was left");
    this.#waiting.reject(reason);
    for (const stop of this.#stop.splice(0)) stop();
    this.listener.ended(error);
  }

  // --- joining ------------------------------------------------------------------------------------

  async #join(signal?: AbortSignal): Promise<void> {
    const { appData, region } = this.options;
    const data = { appData: { ...appData }, ...(region === undefined ? {} : { region }) };
    this.#early = [];
    const placement = await this.requests.ask("join", data, "mafalda.result.join.v1", signal);
    await this.#loadRoster();
    this.#placed(placement);
  }

  async #loadRoster(): Promise<void> {
    this.#early ??= [];
    const pages: RoomSnapshotAnswer[] = [];
    for (let after: string | undefined; ; ) {
      const page = await this.requests.query("room", after === undefined ? {} : { after }, "mafalda.answer.room.v1");
      pages.push(page);
      after = page.next;
      if (after === undefined) break;
    }
    const changes = this.roster.reset(pages);
    const early = this.#early;
    this.#early = undefined;
    for (const { seq, message } of early ?? []) changes.push(...this.roster.apply(seq, message));
    this.#changed(changes);
  }

  #placed(placement: JoinResult): void {
    if (this.#placement && placement.generation <= this.#placement.generation && this.#endpoint && !this.#endpoint.lost.aborted) return;
    this.#placement = placement;
    this.#endpoint?.lose("the peer was placed again");
    this.#openEndpoint();
  }

  #openEndpoint(): void {
    if (this.#opening || !this.#placement || this.#ended.signal.aborted) return;
    this.#opening = Endpoint.create(this.#placement, this.requests)
      .then((endpoint) => {
        this.#opening = undefined;
        if (this.#ended.signal.aborted) return endpoint.lose("the room was left");
        if (endpoint.generation !== this.#placement?.generation) return this.#openEndpoint();
        this.#endpoint = endpoint;
        endpoint.lost.addEventListener("abort", () => this.#endpointLost(endpoint), { once: true });
        const waiting = this.#waiting;
        this.#waiting = Promise.withResolvers();
        this.#waiting.promise.catch(() => undefined);
        waiting.resolve(endpoint);
        this.#setState("joined", "");
      })
      .catch((error: unknown) => this.end(new MafaldaError("webrtc-failed", error instanceof Error ? error.message : String(error))));
  }

  #endpointLost(endpoint: Endpoint): void {
    if (this.#endpoint !== endpoint || this.#ended.signal.aborted) return;
    this.#setState("reconnecting", String((endpoint.lost.reason as Error).message));
    if (this.#placement?.generation === endpoint.generation) {
      void endpoint.closeRemote(); // the place is still ours: begin there with new transports
      this.#openEndpoint();
    }
  }

  /** The place was lost, by an outage or by the fleet's decision: become a peer again under the same id. */
  #rejoin(reason: string): void {
    if (this.#rejoining || this.#state === "left") return;
    this.#setState("reconnecting", reason);
    this.#endpoint?.lose(reason);
    this.#placement = undefined;
    this.#rejoining = (async () => {
      while (!this.#ended.signal.aborted) {
        try {
          return await this.#join(this.#ended.signal);
        } catch (error) {
          if (error instanceof MafaldaError && error.code === "permission-denied") return this.end(error);
          if (error instanceof MafaldaError && error.code === "already-exists") {
            await this.requests.ask("leave", {}, "mafalda.result.done.v1").catch(() => undefined);
          }
          await new Promise((resolve) => setTimeout(resolve, REJOIN_PAUSE_MS));
        }
      }
    })().finally(() => (this.#rejoining = undefined));
  }

  // --- after an interruption --------------------------------------------------------------------------

  /** What was published while the connection was away was missed: ask for the room as it is, and for our own transports. */
  async #resync(): Promise<void> {
    if (this.#state === "left" || this.#rejoining) return;
    try {
      this.#early ??= [];
      await this.#loadRoster();
      const endpoint = this.#endpoint;
      if (endpoint && !endpoint.lost.aborted) {
        for (const transport of await endpoint.transportIds()) await this.requests.query("transport", { transport }, "mafalda.result.transport.v1");
        this.#setState("joined", "");
      }
      for (const resource of this.resources) this.#check(resource);
    } catch (error) {
      const code = error instanceof MafaldaError ? error.code : "";
      if (code === "not-joined") this.#rejoin("the fleet let go of this peer during an outage");
      else if (code === "not-found") this.#endpoint?.lose("the transports are gone");
      else if (code === "deadline-exceeded") this.#rejoin("no agent answers for this peer");
      else if (this.bus.isUp) setTimeout(() => void this.#resync(), REJOIN_PAUSE_MS);
    }
  }

  /** Lets a resource compare itself with the room. */
  #check(resource: Resource): void {
    (resource as Resource & { check?: () => void }).check?.();
  }

  async #heartbeat(): Promise<void> {
    if (this.#state !== "joined" || !this.bus.isUp) return;
    await this.requests.query("room", {}, "mafalda.answer.room.v1").catch((error: unknown) => {
      if (error instanceof MafaldaError && error.code === "not-joined") this.#rejoin("the fleet let go of this peer");
    });
  }

  // --- what is stored -------------------------------------------------------------------------------------

  #result(message: AnyMessage): void {
    this.requests.receiveResult(message);
    if (message.type === "mafalda.result.join.v1" && this.#placement && message.data.generation > this.#placement.generation) this.#placed(message.data);
  }

  #peerEvent(message: AnyMessage): void {
    if (message.type === "mafalda.event.transport-closed.v1") {
      const closed = message.data;
      void this.#endpoint?.transportIds().then((ids) => {
        if (ids.includes(closed.transport)) this.#endpoint?.lose(`transport closed: ${closed.reason}`);
      });
    } else if (message.type === "mafalda.event.consumer-closed.v1") {
      for (const resource of this.resources) if ((resource as { consumerId?: string }).consumerId === message.data.consumer) resource.reopen();
    } else if (message.type === "mafalda.event.data-consumer-closed.v1") {
      for (const resource of this.resources) if ((resource as { consumerId?: string }).consumerId === message.data.dataConsumer) resource.reopen();
    }
  }

  #roomEvent(stored: Stored): void {
    if (this.#early) this.#early.push(stored);
    else this.#changed(this.roster.apply(stored.seq, stored.message));
    const { message } = stored;
    const generation = this.#placement?.generation ?? 0;
    if (message.type === "mafalda.event.peer-moved.v1" && message.data.peer === this.options.peer && message.data.generation > generation) {
      this.#endpoint?.lose(`the peer was placed again: ${message.data.cause}`);
    } else if (message.type === "mafalda.event.peer-left.v1" && message.data.peer === this.options.peer && message.data.generation >= generation && generation > 0) {
      if (this.#state !== "left") this.#rejoin(`the fleet let go of this peer: ${message.data.reason ?? "left"}`);
    }
  }

  #changed(changes: RosterChange[]): void {
    if (changes.length > 0) this.listener.changed(changes);
  }

  #setState(state: SessionState, reason: string): void {
    if (this.#state === state || this.#state === "left") return;
    this.#state = state;
    this.listener.state(state, reason);
  }
}
