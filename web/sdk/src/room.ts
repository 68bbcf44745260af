/** A room that we are in: the application's side of the SDK. */

import { Emitter } from "./emitter.js";
import { Refused, type MafaldaError } from "./errors.js";
import { LocalPublication, type PublishOptions } from "./media/publication.js";
import { RemoteSubscription } from "./media/subscription.js";
import { connectBus, type Bus, type BusOptions } from "./nats/bus.js";
import type { ProducerSelector } from "./protocol/messages.js";
import { newId } from "./protocol/subjects.js";
import type { AppData, PeerInfo, ProducerInfo, RosterChange } from "./session/roster.js";
import { RoomSubscription } from "./session/room-subscription.js";
import { Session, type SessionState } from "./session/session.js";

/** What is received by itself: everything, one kind, or nothing. */
export type AutoSubscribe = "everything" | "audio" | "video" | "nothing";

export interface JoinOptions extends BusOptions {
  room: string;
  /** This participant's id. Default: a new one. */
  peer?: string;
  /** The application's own data, which the others see: at most 16 KB of JSON. */
  appData?: AppData;
  /** Where this participant is; a policy may prefer servers near it. */
  region?: string;
  /** Only receive, and be announced to nobody: for rooms of thousands. `peers` has no audience. */
  audience?: boolean;
  /** Default: `everything`. */
  autoSubscribe?: AutoSubscribe;
  signal?: AbortSignal;
}

export interface RoomEvents {
  peerJoined: PeerInfo;
  /** It was placed on another worker. */
  peerChanged: PeerInfo;
  peerLeft: PeerInfo;
  producerAdded: ProducerInfo;
  producerChanged: ProducerInfo;
  /** It is over, or its owner is being placed again and will open it again under the same id; subscriptions wait for that. */
  producerRemoved: ProducerInfo;
  /** A subscription was made, opened, lost its placement, opened again, or ended; see its `state`. */
  subscriptionChanged: RemoteSubscription;
  publicationChanged: LocalPublication;
  /** The browser lets nothing be heard before the person has done something here: call `startPlayback` when they click. */
  playbackBlocked: Record<string, never>;
  /** `reason` is for people. */
  stateChanged: { state: SessionState; reason: string };
  /** `error` is undefined if we left. */
  ended: { error: MafaldaError | undefined };
}

/** Get one from `joinRoom`. */
export class Room extends Emitter<RoomEvents> {
  readonly publications = new Map<string, LocalPublication>();
  readonly subscriptions = new Map<string, RemoteSubscription>();
  readonly #session: Session;
  readonly #bus: Bus;
  readonly #wish: RoomSubscription;
  #isWishing = false;

  /** @internal */
  constructor(
    bus: Bus,
    readonly id: string,
    readonly peerId: string,
    options: JoinOptions,
  ) {
    super();
    this.#bus = bus;
    this.#session = new Session(
      bus,
      {
        room: id,
        peer: peerId,
        appData: options.appData ?? {},
        ...(options.region === undefined ? {} : { region: options.region }),
        ...(options.audience === undefined ? {} : { audience: options.audience }),
        ...(options.inboxPrefix === undefined ? {} : { inboxPrefix: options.inboxPrefix }),
      },
      {
        changed: (changes) => changes.forEach((change) => this.#changed(change)),
        peerEvent: (message) => this.#wish.take(message),
        state: (state, reason) => this.emit("stateChanged", { state, reason }),
        ended: (error) => this.#ended(error),
      },
    );
    this.#wish = new RoomSubscription(this.#session, selected(options.autoSubscribe ?? "everything"), {
      made: (producer) => this.subscriptions.get(producer)?.made(this.#wish.present(producer)?.id ?? ""),
      failed: (producer, error) => this.subscriptions.get(producer)?.end(error),
      ended: (error) => {
        for (const it of [...this.subscriptions.values()]) it.end(error);
      },
    });
  }

  get state(): SessionState {
    return this.#session.state;
  }

  /** Everybody in the room but its audience, ourselves included, by id. */
  get peers(): ReadonlyMap<string, PeerInfo> {
    return this.#session.roster.peers;
  }

  /** How many participants are audience now; asked of the fleet. */
  async audienceCount(): Promise<number> {
    return (await this.#session.requests.query("room", { audience: true }, "mafalda.answer.room.v1")).audience ?? 0;
  }

  /** The audience, by id, page by page; asked of the fleet. */
  async *audience(): AsyncGenerator<PeerInfo> {
    for (let after: string | undefined; ; ) {
      const page = await this.#session.requests.query("room", { audience: true, ...(after === undefined ? {} : { after }) }, "mafalda.answer.room.v1");
      for (const { peer, appData } of page.peers) yield { id: peer, appData: appData ?? {} };
      after = page.next;
      if (after === undefined) return;
    }
  }

  /** Everything that is sent in the room, by id. */
  get producers(): ReadonlyMap<string, ProducerInfo> {
    return this.#session.roster.producers;
  }

  /** The server and worker that this peer is placed on; for people who look at the fleet. */
  get placement(): { server: string; worker: string; generation: number } | undefined {
    const placement = this.#session.placement;
    return placement && { server: placement.server, worker: placement.worker, generation: placement.generation };
  }

  /** @internal */
  async join(signal?: AbortSignal): Promise<void> {
    await this.#session.join(signal);
  }

  /** Sends a track into the room. Resolves when the room can receive it; it is kept open across outages until it is closed. */
  async publish(track: MediaStreamTrack, options: PublishOptions = {}): Promise<LocalPublication> {
    const publication = new LocalPublication(this.#session, track, options, (it) => {
      if (it.state === "closed") this.publications.delete(it.id);
      this.emit("publicationChanged", it);
    });
    this.publications.set(publication.id, publication);
    await publication.start();
    return publication;
  }

  /** Receives a producer. Resolves when its media can flow; it is kept open across outages while the producer is there. */
  async subscribe(producerId: string): Promise<RemoteSubscription> {
    const known = this.subscriptions.get(producerId);
    if (known) return known;
    const producer = this.producers.get(producerId);
    if (!producer) throw new Refused("not-found", "the room has no such producer", { producer: producerId });
    const subscription = this.#subscribe(producer);
    const opened = subscription.start();
    if (!this.#wish.wants(producer)) await this.#wish.add(producerId);
    this.#begin();
    await opened;
    return subscription;
  }

  /** Plays what the browser did not let play by itself; call it from a click. */
  startPlayback(): void {
    for (const subscription of this.subscriptions.values()) subscription.startPlayback();
  }

  /** Becomes one of the audience, which closes what is sent, or stops being one, to be able to send. */
  async setAudience(audience: boolean): Promise<void> {
    await this.#session.setAudience(audience);
  }

  /** Leaves the room and disconnects. */
  async leave(): Promise<void> {
    await this.#session.leave();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.leave();
  }

  #subscribe(producer: ProducerInfo): RemoteSubscription {
    const onChange = (it: RemoteSubscription) => {
      if (it.state === "closed" && this.subscriptions.get(producer.id) === it) this.subscriptions.delete(producer.id);
      this.emit("subscriptionChanged", it);
    };
    const subscription = new RemoteSubscription(this.#session, this.#wish, producer, onChange, () => this.emit("playbackBlocked", {}));
    this.subscriptions.set(producer.id, subscription);
    return subscription;
  }

  #changed(change: RosterChange): void {
    switch (change.type) {
      case "peer-joined":
        return this.emit("peerJoined", change.peer);
      case "peer-changed":
        return this.emit("peerChanged", change.peer);
      case "peer-left":
        for (const it of [...this.subscriptions.values()]) if (it.producer.peer === change.peer.id) it.end();
        return this.emit("peerLeft", change.peer);
      case "producer-added":
        this.subscriptions.get(change.producer.id)?.producerBack();
        this.emit("producerAdded", change.producer);
        return this.#autoSubscribe(change.producer);
      case "producer-reopened":
        this.subscriptions.get(change.producer.id)?.producerReopened();
        return this.emit("producerChanged", change.producer);
      case "producer-changed":
        return this.emit("producerChanged", change.producer);
      case "producer-removed":
        if (change.moved) this.subscriptions.get(change.producer.id)?.producerAway();
        else {
          this.subscriptions.get(change.producer.id)?.end();
          this.#wish.producerClosed(change.producer.id);
          if (this.peers.has(this.peerId)) this.publications.get(change.producer.id)?.end(); // somebody closed it for us
        }
        return this.emit("producerRemoved", change.producer);
    }
  }

  #autoSubscribe(producer: ProducerInfo): void {
    if (producer.peer === this.peerId || producer.kind === "data" || this.subscriptions.has(producer.id)) return;
    if (!this.#wish.wants(producer)) return;
    this.#begin();
    const subscription = this.#subscribe(producer);
    this.emit("subscriptionChanged", subscription);
    subscription.start().catch(() => undefined); // its end is told by `subscriptionChanged`
  }

  /** Lets the subscription stand from now on; before the first producer that is wanted there is nothing to receive. */
  #begin(): void {
    if (this.#isWishing) return;
    this.#isWishing = true;
    this.#wish.start().catch(() => undefined); // what is received tells of its own end
  }

  #ended(error: MafaldaError | undefined): void {
    this.emit("ended", { error });
    this.endEvents();
    void this.#bus.close();
  }
}

function selected(wanted: AutoSubscribe): ProducerSelector[] {
  switch (wanted) {
    case "everything":
      return [{ kind: "audio" }, { kind: "video" }];
    case "nothing":
      return [];
    default:
      return [{ kind: wanted }];
  }
}

/** Connects to NATS and becomes a peer of a room. Rejects when there is no place, or the token does not allow it. */
export async function joinRoom(options: JoinOptions): Promise<Room> {
  const bus = await connectBus(options);
  const room = new Room(bus, options.room, options.peer ?? newId(), options);
  try {
    await room.join(options.signal);
    return room;
  } catch (error) {
    await bus.close();
    throw error;
  }
}
