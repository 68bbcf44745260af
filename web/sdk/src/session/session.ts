/**
 * One membership of a room: joins, follows what is stored about it, keeps an endpoint at the present placement, and joins again when an
 * outage has cost the place.
 *
 *     joining ──▶ joined ◀──▶ reconnecting ──▶ left
 */

import { abortable, anyAborted, delay } from "../abort.js";
import { Closed, MafaldaError, Refused } from "../errors.js";
import type { Bus, Stored } from "../nats/bus.js";
import type { AnyMessage } from "../protocol/envelope.js";
import type { JoinResult, RoomSnapshotAnswer, Speaker } from "../protocol/messages.js";
import { PeerSubjects } from "../protocol/subjects.js";
import { TransportsAhead, type Direction } from "./ahead.js";
import { Endpoint } from "./endpoint.js";
import { PeerLog } from "./peer-log.js";
import { Requests } from "./requests.js";
import type { Resource } from "./resource.js";
import { Roster, type AppData, type RosterChange } from "./roster.js";
import { every } from "./timer.js";

export type SessionState = "joining" | "joined" | "reconnecting" | "left";

export interface SessionOptions {
  readonly room: string;
  readonly peer: string;
  readonly appData: AppData;
  readonly region?: string;
  readonly audience?: boolean;
  readonly inboxPrefix?: string;
  /** Requested in one flight with the join. */
  readonly transports?: readonly Direction[];
}

export interface SessionListener {
  changed(changes: RosterChange[]): void;
  /** Something happened to the peer's own objects. */
  peerEvent(message: AnyMessage): void;
  /** Other people speak than before. */
  speakers(speakers: readonly Speaker[]): void;
  state(state: SessionState, reason: string): void;
  ended(error: MafaldaError | undefined): void;
}

const REJOIN_PAUSE_MS = 1_000;
const LEAVE_TIMEOUT_MS = 3_000;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;
/** After an outage of NATS the agents reconnect too. Without an answer for this long, this peer's agent is taken to be gone. */
const AGENT_PATIENCE_MS = 20_000;
/** An agent lets go of a peer that neither has a connected transport nor asks for anything for a minute. */
const HEARTBEAT_MS = 20_000;
/** After a handover the transports at the former place are closed when media flows at the new one, or after this: agents go on for 15 s. */
const HANDOVER_MS = 12_000;

/** See the module. `join` starts it. */
export class Session {
  readonly roster = new Roster();
  readonly requests: Requests;
  readonly resources = new Set<Resource>();
  readonly #log: PeerLog;
  readonly #ahead: TransportsAhead;
  readonly #stop: (() => void)[] = [];
  readonly #ended = new AbortController();
  #state: SessionState = "joining";
  #early: Stored[] | undefined = [];
  #endpoint: Endpoint | undefined;
  /** The last endpoint at which media was seen to flow. */
  #flowsAt: Endpoint | undefined;
  #placement: JoinResult | undefined;
  /** The generation of the placement that we should be at; its parameters may still be on their way. */
  #wantedGeneration = 0;
  #reloading = false;
  #rejoining = false;
  #leaving = false;
  /** Whether a join is as one of the audience: as the log has this peer, whoever has changed that. */
  #audience: boolean;
  #appData: AppData;
  /** The last join that was asked for; it may be answered after it was given up. */
  #asked: Promise<JoinResult> | undefined;
  #changedPlace = Promise.withResolvers<void>();

  constructor(
    private readonly bus: Bus,
    private readonly options: SessionOptions,
    private readonly listener: SessionListener,
  ) {
    this.#audience = options.audience ?? false;
    this.#appData = options.appData;
    const inbox = bus.newInbox(options.inboxPrefix);
    this.requests = new Requests(bus, new PeerSubjects(options.room, options.peer), inbox, `/client/${options.peer}`);
    this.#ahead = new TransportsAhead(this.requests);
    this.#log = new PeerLog(
      (after) => this.requests.query("entries", { after }, "mafalda.answer.entries.v1"),
      (stored) => this.#take(stored),
    );
  }

  get state(): SessionState {
    return this.#state;
  }

  get placement(): JoinResult | undefined {
    return this.#placement;
  }

  /** The endpoint of the present placement, if it is of use. */
  get presentEndpoint(): Endpoint | undefined {
    return this.#endpoint?.lost.aborted === false ? this.#endpoint : undefined;
  }

  /** Aborted when the room is left. */
  get ended(): AbortSignal {
    return this.#ended.signal;
  }

  /** Joins; resolves with a place and the room's snapshot. */
  async join(signal?: AbortSignal): Promise<void> {
    const { subjects, inbox } = this.requests;
    for (const subject of [subjects.results, subjects.peerEvents, subjects.roomEvents]) {
      this.#stop.push(this.bus.subscribeStored(subject, (stored) => this.#log.receive(stored)));
    }
    this.#stop.push(
      this.bus.subscribeInbox(inbox, (message) => {
        if (message.type === "mafalda.answer.speakers.v1") this.listener.speakers(message.data.speakers);
        else this.requests.receivePrivate(message);
      }),
      this.bus.onChange(
        () => this.#interrupted(),
        () => void this.#restored(),
      ),
    );
    this.#stop.push(this.bus.onClosed((error) => this.end(error)));
    this.#run();
    try {
      const joining = this.#join(signal);
      for (const direction of this.options.transports ?? []) this.#ahead.request(direction);
      await joining;
    } catch (error) {
      if (!(error instanceof MafaldaError && ["interrupted", "already-exists"].includes(error.code))) {
        await this.#withdraw();
        this.end(error instanceof MafaldaError ? error : undefined);
        throw error;
      }
      void this.#rejoin(error.message);
    }
  }

  /** Runs until the end. */
  #run(): void {
    this.#stop.push(every(HEARTBEAT_MS, () => void this.#heartbeat()));
    void this.#keepEndpoint().catch((error: unknown) => {
      if (!this.#ended.signal.aborted) this.end(new MafaldaError("webrtc-failed", error instanceof Error ? error.message : String(error)));
    });
  }

  /** The endpoint of the present placement, as soon as there is one. */
  async endpoint(signal: AbortSignal): Promise<Endpoint> {
    const either = AbortSignal.any([signal, this.#ended.signal]);
    while (true) {
      either.throwIfAborted();
      if (this.#endpoint && !this.#endpoint.lost.aborted) return this.#endpoint;
      await abortable(this.#changedPlace.promise, either);
    }
  }

  /** Becomes one of the audience, which closes what is sent, or stops being one, to be able to send. */
  async setAudience(audience: boolean): Promise<void> {
    while (true) {
      const { generation } = await this.requests.ask("set-audience", { audience }, "mafalda.result.done.v1", this.#ended.signal);
      if (generation >= Math.max(this.#wantedGeneration, this.#placement?.generation ?? 0)) return;
      // The former place has done it after the move was decided, so the present one does not know.
    }
  }

  /** Whether this peer is one of the audience now. */
  get isAudience(): boolean {
    return this.#audience;
  }

  /** Changes what the others see of the application's own data of this peer. */
  async setAppData(appData: AppData): Promise<void> {
    this.#appData = appData;
    await this.requests.ask("set-app-data", { appData: { ...appData } }, "mafalda.result.done.v1", this.#ended.signal);
  }

  /** Leaves the room and tells the fleet. */
  async leave(): Promise<void> {
    if (this.#leaving || this.#ended.signal.aborted) return;
    this.#leaving = true;
    const answer = this.requests.ask("leave", {}, "mafalda.result.done.v1", AbortSignal.timeout(LEAVE_TIMEOUT_MS)).catch(() => undefined);
    this.#setState("left", "left");
    for (const resource of [...this.resources]) resource.end();
    this.#closeEndpoint();
    await answer;
    this.end();
  }

  /** Ends everything here. */
  end(error?: MafaldaError): void {
    if (this.#ended.signal.aborted) return;
    const reason = error ?? new Closed("the room was left");
    this.#setState("left", reason.message);
    this.#ended.abort(reason);
    for (const resource of [...this.resources]) resource.end(error);
    this.#closeEndpoint();
    for (const stop of this.#stop.splice(0)) stop();
    this.listener.ended(error);
  }

  /** Closes what is here, also of an endpoint that is being handed over. */
  #closeEndpoint(): void {
    this.#endpoint?.lose("the room was left");
    this.#endpoint?.close();
  }

  // --- joining ------------------------------------------------------------------------------------

  async #join(signal?: AbortSignal): Promise<void> {
    const { region } = this.options;
    const data = { appData: { ...this.#appData }, ...(region === undefined ? {} : { region }), ...(this.#audience && { audience: true }) };
    this.#early = [];
    this.#asked = this.requests.ask("join", data, "mafalda.result.join.v1");
    const placement = await abortable(this.#asked, signal);
    if (this.#state === "joining") this.#placed(placement); // nothing is to be opened at it that the roster must know first
    await abortable(this.#loadRoster(), signal);
    this.#placed(placement);
  }

  /** Leaves the place that a join which was given up has got, or is getting: the others would see a peer that is nobody. */
  async #withdraw(): Promise<void> {
    const ends = AbortSignal.timeout(LEAVE_TIMEOUT_MS);
    const left = this.#asked?.then(() => this.requests.ask("leave", {}, "mafalda.result.done.v1", ends));
    if (left) await abortable(left, ends).catch(() => undefined); // nobody was placed, or nobody answers
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
    this.#log.reached(this.roster.seq);
    const early = this.#early;
    this.#early = undefined;
    for (const { seq, message } of early ?? []) changes.push(...this.roster.apply(seq, message));
    this.#changed(changes);
  }

  #placed(placement: JoinResult): void {
    if (placement.generation < this.#wantedGeneration) return;
    if (this.#placement && placement.generation <= this.#placement.generation) return;
    this.#placement = placement;
    this.requests.generation = placement.generation;
    this.#leavePlace(placement.generation, "the peer was placed again", placement.handover);
    this.#placeChanged();
  }

  /** There is, or will be, another placement: what we have at the present one is gone. */
  #leavePlace(wantedGeneration: number, reason: string, handover = false): void {
    this.#wantedGeneration = Math.max(this.#wantedGeneration, wantedGeneration);
    if (this.#endpoint && this.#endpoint.generation < this.#wantedGeneration) this.#endpoint.lose(reason, { handover });
  }

  #placeChanged(): void {
    const before = this.#changedPlace;
    this.#changedPlace = Promise.withResolvers();
    before.resolve();
  }

  /** Keeps an endpoint at the wanted placement: another one after each loss. */
  async #keepEndpoint(): Promise<void> {
    const ended = this.#ended.signal;
    let pause = 0;
    while (!ended.aborted) {
      while (!this.#placement || this.#placement.generation < this.#wantedGeneration) await abortable(this.#changedPlace.promise, ended);
      const openedAt = performance.now();
      const former = this.#endpoint?.isHandedOver ? this.#endpoint : undefined;
      const endpoint = await Endpoint.create(this.#placement, this.requests, this.#ahead, former !== undefined);
      if (endpoint.generation !== this.#placement.generation) continue;
      if (ended.aborted || this.#leaving) return; // what is here is closed
      this.#endpoint = endpoint;
      this.#placeChanged();
      void this.#announce(endpoint);
      if (former) void this.#closeFormer(former, endpoint);
      await anyAborted(endpoint.lost, ended);
      if (ended.aborted) return endpoint.lose("the room was left");
      if (endpoint.isHandedOver) continue; // nothing is interrupted
      this.#setState("reconnecting", String((endpoint.lost.reason as Error).message));
      if (performance.now() - openedAt > LONGEST_PAUSE_MS) pause = 0;
      if (this.#placement?.generation === endpoint.generation && this.#wantedGeneration <= endpoint.generation) {
        void endpoint.closeRemote(); // the place is still ours: begin there with new transports
        await delay(pause, ended);
        pause = Math.min(2 * pause + FIRST_PAUSE_MS, LONGEST_PAUSE_MS);
      }
    }
  }

  /** Reports the peer as joined when media flows at the endpoint; where there is nothing to flow, when its agent answers. */
  async #announce(endpoint: Endpoint): Promise<void> {
    try {
      if (this.#state !== "joining") {
        while (this.resources.size === 0) {
          try {
            await abortable(this.requests.query("room", {}, "mafalda.answer.room.v1"), endpoint.lost);
            break;
          } catch (error) {
            endpoint.lost.throwIfAborted();
            if (error instanceof MafaldaError && error.code === "not-joined") return void this.#rejoin("the fleet let go of this peer");
            await delay(REJOIN_PAUSE_MS, endpoint.lost);
          }
        }
        await this.#allFlow(endpoint);
      }
    } catch {
      return; // it is lost
    }
    this.#flowsAt = endpoint;
    if (this.bus.isUp && !endpoint.lost.aborted) this.#setState("joined", "");
  }

  /** Waits until media flows of everything that can be open now. */
  async #allFlow(endpoint: Endpoint): Promise<void> {
    await Promise.all([...this.resources].map((resource) => resource.flowing(endpoint)));
  }

  /** Closes what is left at the former place when media flows at the new one, or some time later. */
  async #closeFormer(former: Endpoint, endpoint: Endpoint): Promise<void> {
    await Promise.race([this.#allFlow(endpoint), delay(HANDOVER_MS, endpoint.lost)]).catch(() => undefined);
    former.close();
  }

  /** The place was lost, by an outage or by the fleet's decision: become a peer again under the same id. */
  async #rejoin(reason: string): Promise<void> {
    if (this.#rejoining || this.#leaving || this.#ended.signal.aborted) return;
    this.#rejoining = true;
    this.#setState("reconnecting", reason);
    this.#placement = undefined;
    this.#wantedGeneration = 0;
    this.#endpoint?.lose(reason);
    try {
      while (!this.#ended.signal.aborted) {
        try {
          return await this.#join(this.#ended.signal);
        } catch (error) {
          if (error instanceof MafaldaError && error.code === "permission-denied") return this.end(error);
          if (error instanceof MafaldaError && error.code === "already-exists") {
            await this.requests.ask("leave", {}, "mafalda.result.done.v1", this.#ended.signal).catch(() => undefined);
          }
          console.info("mafalda: not joined yet", error);
          await delay(REJOIN_PAUSE_MS, this.#ended.signal).catch(() => undefined);
        }
      }
    } finally {
      this.#rejoining = false;
    }
  }

  // --- after an interruption --------------------------------------------------------------------------

  #interrupted(): void {
    this.#log.interrupted();
    this.#setState("reconnecting", "the connection to NATS is interrupted");
  }

  /** Takes what the log has of the time in between; where that cannot be had, the room as it is and what is ours are asked for. */
  async #restored(): Promise<void> {
    try {
      if (!(await this.#log.catchUp(this.#ended.signal))) return; // it broke again, so this is called again
    } catch (error) {
      if (this.#ended.signal.aborted) return;
      console.info("mafalda: what was missed cannot be had; loading the room", error);
      this.#early ??= [];
      this.#log.release();
      this.requests.interrupted();
    }
    if (this.#early) return await this.#reload();
    this.#joinedAgain();
    const { untold } = this.requests;
    const late = [...this.resources].filter((it) => it.state === "open" && untold.has(it.serverId ?? ""));
    await Promise.all(late.map((it) => this.#check(it))).catch((error: unknown) => console.warn("mafalda: not paused or resumed", error));
  }

  /** Loads the room as it is, and checks what is ours. */
  async #reload(): Promise<void> {
    if (this.#reloading || this.#rejoining || this.#leaving) return;
    this.#reloading = true;
    try {
      const giveUpAt = performance.now() + AGENT_PATIENCE_MS;
      while (!this.#ended.signal.aborted && this.bus.isUp && this.#placement) {
        try {
          await this.#loadRoster();
          await this.#checkOwn();
          if (!this.#early) return; // else another interruption cost entries meanwhile
        } catch (error) {
          const code = error instanceof MafaldaError ? error.code : "";
          if (code === "not-joined") return void this.#rejoin("the fleet let go of this peer during an outage");
          if (performance.now() > giveUpAt) return void this.#rejoin("no agent answers for this peer");
          await delay(REJOIN_PAUSE_MS, this.#ended.signal).catch(() => undefined);
        }
      }
    } finally {
      this.#reloading = false;
    }
  }

  /** Compares what we have with what the agent has; what is gone there is opened again. */
  async #checkOwn(): Promise<void> {
    if (this.#placement && this.#placement.generation < this.#wantedGeneration) {
      // The result with the new placement was missed. All routers of the fleet are alike, so the old parameters do.
      this.#placed({ ...this.#placement, generation: this.#wantedGeneration });
    }
    const endpoint = this.#endpoint;
    if (!endpoint || endpoint.lost.aborted) return;
    try {
      for (const transport of await endpoint.transportIds()) await this.requests.query("transport", { transport }, "mafalda.result.transport.v1");
    } catch (error) {
      if (!(error instanceof MafaldaError && error.code === "not-found")) throw error;
      return endpoint.lose("the transports are gone");
    }
    for (const resource of this.resources) if (resource.state === "open") await this.#check(resource);
    this.#joinedAgain();
  }

  async #check(resource: Resource): Promise<void> {
    try {
      await resource.check();
    } catch (error) {
      if (!(error instanceof MafaldaError && error.code === "not-found")) throw error;
      resource.reopen();
    }
  }

  #joinedAgain(): void {
    if (this.#endpoint && this.#flowsAt === this.#endpoint && !this.#endpoint.lost.aborted) this.#setState("joined", "");
  }

  /** Without a connected transport, only a question tells the agent that this peer is still there. */
  async #heartbeat(): Promise<void> {
    if (this.#leaving || !this.#placement || !this.bus.isUp || this.#endpoint?.isConnected) return;
    await this.requests.query("room", {}, "mafalda.answer.room.v1").catch((error: unknown) => {
      if (error instanceof MafaldaError && error.code === "not-joined") void this.#rejoin("the fleet let go of this peer");
    });
  }

  // --- what is stored -------------------------------------------------------------------------------------

  #take(stored: Stored): void {
    if (this.#ended.signal.aborted) return;
    const [, , , scope, , kind] = stored.subject.split("."); // mafalda.room.{room}.event.… or mafalda.room.{room}.peer.{peer}.{kind}.…
    if (scope === "event") this.#roomEvent(stored);
    else if (kind === "result") this.#result(stored.message);
    else this.#peerEvent(stored.message);
  }

  #result(message: AnyMessage): void {
    this.requests.receiveResult(message);
    if (message.type === "mafalda.result.join.v1" && this.#placement && message.data.generation > this.#placement.generation) this.#placed(message.data);
  }

  #peerEvent(message: AnyMessage): void {
    switch (message.type) {
      case "mafalda.event.transport-closed.v1": {
        const { transport, reason } = message.data;
        if (this.#endpoint?.hasTransport(transport)) this.#endpoint.lose(`transport closed: ${reason}`);
        return;
      }
      case "mafalda.event.consumer-closed.v1":
        return this.#consumerClosed(message.data.consumer);
      case "mafalda.event.data-consumer-closed.v1":
        return this.#consumerClosed(message.data.dataConsumer);
      case "mafalda.event.peer-joined.v1":
      case "mafalda.event.peer-moved.v1":
      case "mafalda.event.peer-stranded.v1":
      case "mafalda.event.peer-left.v1":
        return this.#ownMembership(message, true);
      default:
        return this.listener.peerEvent(message);
    }
  }

  #consumerClosed(consumer: string): void {
    for (const resource of this.resources) if (resource.serverId === consumer) resource.reopen();
  }

  #roomEvent(stored: Stored): void {
    if (this.#early) this.#early.push(stored);
    else this.#changed(this.roster.apply(stored.seq, stored.message));
    this.#ownMembership(stored.message, false);
  }

  /** What has become of this peer's own place, if the event is about that. `isAudience`: it was not published to the room. */
  #ownMembership(message: AnyMessage, isAudience: boolean): void {
    const present = this.#placement?.generation;
    if (present === undefined || !("peer" in message.data) || message.data.peer !== this.options.peer) return;
    switch (message.type) {
      case "mafalda.event.peer-demoted.v1":
        this.#audience = true;
        return;
      case "mafalda.event.peer-joined.v1":
        this.#audience = message.data.audience ?? false;
        return;
      case "mafalda.event.peer-moved.v1":
        if (isAudience !== this.#audience && message.data.generation >= present) {
          // The place was decided before a change that the former one has made.
          this.setAudience(this.#audience).catch((error: unknown) => console.warn("mafalda: the audience was not changed", error));
        }
        return this.#leavePlace(message.data.generation, `the peer was placed again: ${message.data.cause}`, message.data.handover);
      case "mafalda.event.peer-stranded.v1":
        if (message.data.generation >= present) this.#leavePlace(message.data.generation + 1, message.data.error.message);
        return;
      case "mafalda.event.peer-left.v1":
        if (message.data.generation < present || this.#leaving) return;
        if (message.data.reason === "timed-out") return void this.#rejoin("the fleet had no sign of this peer for too long");
        if (message.data.reason === "evicted") return void this.#rejoin("this peer's worker could not take it");
        return this.end(new Refused("not-joined", `this peer is out of the room: ${message.data.cause ?? message.data.reason ?? "left"}`));
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
