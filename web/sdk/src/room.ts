/** A room that we are in: the application's side of the SDK. */

import { Emitter, type Listener } from "./emitter.js";
import { Refused, type MafaldaError } from "./errors.js";
import { LocalDataPublication, RemoteDataSubscription, type DataMessage, type PublishDataOptions } from "./media/data.js";
import { LocalPublication, type PublishOptions } from "./media/publication.js";
import type { Received } from "./media/received.js";
import { RemoteSubscription } from "./media/subscription.js";
import { Bus, connectBus, type BusOptions } from "./nats/bus.js";
import type { ProducerSelector, Speaker } from "./protocol/messages.js";
import { newId } from "./protocol/subjects.js";
import type { Direction } from "./session/ahead.js";
import { ConnectionMonitor, type PeerQuality, type QualityChange } from "./session/connection-monitor.js";
import { moderate, type ModerationAction } from "./session/moderation.js";
import type { IntentData } from "./session/requests.js";
import type { AppData, PeerInfo, ProducerInfo, RosterChange } from "./session/roster.js";
import { RoomSubscription } from "./session/room-subscription.js";
import { Session, type SessionState } from "./session/session.js";
import { Speakers } from "./session/speakers.js";

/** What is received by itself: everything (media and data), one kind of media, or nothing. */
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
  /** Report WebRTC statistics to the fleet, for its operator: `mafalda explain PEER --at TIME`. Default: false. */
  reportStatistics?: boolean;
  /** Default: `everything`. */
  autoSubscribe?: AutoSubscribe;
  /**
   * Which transports are opened in one flight with the join; any other one when it is first needed. Default: `receive`, or `none` if
   * nothing is received by itself.
   */
  transports?: "both" | "send" | "receive" | "none";
  /** From `connect`, with the same `servers`, `token` and `inboxPrefix`. The room closes it. */
  connection?: Connection;
  signal?: AbortSignal;
}

/** A connection to NATS that was opened before a room is joined by it. */
export interface Connection {
  /** Whether it was closed for good; a join would open another one. */
  readonly isClosed: boolean;
  close(): Promise<void>;
}

/** One message of a data channel. */
export interface DataReceived {
  /** Who sent it. */
  readonly peer: string;
  /** Of the channel. */
  readonly label: string;
  readonly message: DataMessage;
  readonly producer: ProducerInfo;
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
  /** A moderator has muted what we send; `unmute` sends it again. */
  mutedByModerator: LocalPublication;
  dataReceived: DataReceived;
  dataSubscriptionChanged: RemoteDataSubscription;
  dataPublicationChanged: LocalDataPublication;
  /** The browser lets nothing be heard before the person has done something here: call `startPlayback` when they click. */
  playbackBlocked: Record<string, never>;
  /** Others speak than before, loudest first; at most every 0.3 s. Told from the first listener on. */
  speakersChanged: readonly Speaker[];
  /** How good a way of a peer is, ourselves included. Measured from the first listener on. */
  qualityChanged: QualityChange;
  /** `reason` is for people. */
  stateChanged: { state: SessionState; reason: string };
  /** `error` is undefined if we left. */
  ended: { error: MafaldaError | undefined };
}

/** Get one from `joinRoom`. */
export class Room extends Emitter<RoomEvents> {
  readonly publications = new Map<string, LocalPublication>();
  readonly subscriptions = new Map<string, RemoteSubscription>();
  readonly dataPublications = new Map<string, LocalDataPublication>();
  readonly dataSubscriptions = new Map<string, RemoteDataSubscription>();
  readonly #session: Session;
  readonly #bus: Bus;
  readonly #wish: RoomSubscription;
  readonly #speakers: Speakers;
  readonly #monitor: ConnectionMonitor;
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
        transports: directions(options),
      },
      {
        changed: (changes) => changes.forEach((change) => this.#changed(change)),
        peerEvent: (message) => {
          if (message.type === "mafalda.event.producer-layers-changed.v1") {
            const { producer, spatialLayer, generation } = message.data;
            this.publications.get(producer)?.layersChanged(spatialLayer ?? -1, generation);
          } else this.#wish.take(message);
        },
        speakers: (speakers) => this.#speakers.take(speakers),
        state: (state, reason) => {
          if (state === "joined") this.#speakers.renew();
          this.emit("stateChanged", { state, reason });
        },
        ended: (error) => this.#ended(error),
      },
    );
    this.#speakers = new Speakers(this.#session, (speakers) => this.emit("speakersChanged", speakers));
    this.#monitor = new ConnectionMonitor(this.#session, peerId, this.publications, this.subscriptions, (change) => this.emit("qualityChanged", change));
    if (options.reportStatistics) this.#monitor.report();
    this.#wish = new RoomSubscription(this.#session, selected(options.autoSubscribe ?? "everything"), {
      made: (producer) => this.#received(producer)?.made(this.#wish.present(producer)?.id ?? ""),
      failed: (producer, error) => this.#received(producer)?.end(error),
      ended: (error) => {
        for (const it of this.#allReceived()) it.end(error);
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

  /** Who speaks now, loudest first; known while somebody listens to `speakersChanged`. */
  get speakers(): readonly Speaker[] {
    return this.#speakers.present;
  }

  /** How good both ways of a peer are; known while somebody listens to `qualityChanged`. Default: our own. */
  quality(peerId: string = this.peerId): PeerQuality {
    return this.#monitor.qualityOf(peerId);
  }

  override on<K extends keyof RoomEvents>(name: K, listener: Listener<RoomEvents[K]>, options: { signal?: AbortSignal } = {}): () => void {
    if (name === "speakersChanged") this.#speakers.watch();
    if (name === "qualityChanged") this.#monitor.watchQuality();
    return super.on(name, listener, options);
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
    const onChange = (it: LocalPublication) => {
      if (it.state === "closed") this.publications.delete(it.id);
      this.emit("publicationChanged", it);
    };
    const publication = new LocalPublication(this.#session, track, options, onChange, (it) => this.emit("mutedByModerator", it));
    this.publications.set(publication.id, publication);
    await publication.start();
    return publication;
  }

  /** Opens a data channel to everybody in the room. Resolves when it can send; it is kept open across outages until it is closed. */
  async publishData(options: PublishDataOptions = {}): Promise<LocalDataPublication> {
    const publication = new LocalDataPublication(this.#session, options, (it) => {
      if (it.state === "closed") this.dataPublications.delete(it.id);
      this.emit("dataPublicationChanged", it);
    });
    this.dataPublications.set(publication.id, publication);
    await publication.start();
    return publication;
  }

  /** Receives the messages of a data producer, as `dataReceived`. Resolves when they can flow. */
  async subscribeData(producerId: string): Promise<RemoteDataSubscription> {
    const known = this.dataSubscriptions.get(producerId);
    if (known) return known;
    const producer = this.producers.get(producerId);
    if (producer?.kind !== "data") throw new Refused("not-found", "the room has no such data producer", { producer: producerId });
    const subscription = this.#subscribeData(producer);
    await this.#start(subscription);
    return subscription;
  }

  /** Receives a producer. Resolves when its media can flow; it is kept open across outages while the producer is there. */
  async subscribe(producerId: string): Promise<RemoteSubscription> {
    const known = this.subscriptions.get(producerId);
    if (known) return known;
    const producer = this.producers.get(producerId);
    if (!producer || producer.kind === "data") throw new Refused("not-found", "the room has no such producer", { producer: producerId });
    const subscription = this.#subscribe(producer);
    await this.#start(subscription);
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

  /** Whether we are one of the audience, and may not send. A moderator may have changed it: then we are in `peers`, or no more. */
  get isAudience(): boolean {
    return this.#session.isAudience;
  }

  /** Replaces our own data, which the others see: at most 16 KB of JSON. */
  async setAppData(appData: AppData): Promise<void> {
    await this.#session.setAppData(appData);
  }

  /** Mutes another peer's track or camera until its owner unmutes it. This and what follows needs the grant `moderate`. */
  async muteProducer(producerId: string): Promise<void> {
    await this.#moderate(this.#ownerOf(producerId), "pause-producer", { producer: producerId, by: this.peerId });
  }

  /** Ends what another peer sends. */
  async closeProducer(producerId: string): Promise<void> {
    const peer = this.#ownerOf(producerId);
    if (this.producers.get(producerId)?.kind === "data") await this.#moderate(peer, "close-data-producer", { dataProducer: producerId });
    else await this.#moderate(peer, "close-producer", { producer: producerId });
  }

  /** Puts another peer out of the room. It can come back while its token is valid; your server revokes that. */
  async removePeer(peerId: string): Promise<void> {
    await this.#moderate(peerId, "leave", {});
  }

  /** Promotes one of the audience, so that it can send (`false`), or makes another peer one of it. */
  async setPeerAudience(peerId: string, audience: boolean): Promise<void> {
    await this.#moderate(peerId, "set-audience", { audience });
  }

  /** Leaves the room and disconnects. */
  async leave(): Promise<void> {
    await this.#session.leave();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.leave();
  }

  async #moderate<A extends ModerationAction>(peer: string, action: A, data: IntentData<A>): Promise<void> {
    const { inbox } = this.#session.requests;
    await moderate(this.#bus, { room: this.id, peer: this.peerId, inbox }, peer, action, data);
  }

  #ownerOf(producerId: string): string {
    const producer = this.producers.get(producerId);
    if (!producer) throw new Refused("not-found", "the room has no such producer", { producer: producerId });
    return producer.peer;
  }

  #received(producerId: string): Received | undefined {
    return this.subscriptions.get(producerId) ?? this.dataSubscriptions.get(producerId);
  }

  #allReceived(): Received[] {
    return [...this.subscriptions.values(), ...this.dataSubscriptions.values()];
  }

  async #start(subscription: Received): Promise<void> {
    const { producer } = subscription;
    const opened = subscription.start();
    if (!this.#wish.wants(producer)) await this.#wish.add(producer.id);
    this.#begin();
    await opened;
  }

  #subscribeData(producer: ProducerInfo): RemoteDataSubscription {
    const onChange = (it: RemoteDataSubscription) => {
      if (it.state === "closed" && this.dataSubscriptions.get(producer.id) === it) this.dataSubscriptions.delete(producer.id);
      this.emit("dataSubscriptionChanged", it);
    };
    const onMessage = (message: DataMessage, from: ProducerInfo) =>
      this.emit("dataReceived", { peer: from.peer, label: from.label ?? "", message, producer: from });
    const subscription = new RemoteDataSubscription(this.#session, this.#wish, producer, onChange, onMessage);
    this.dataSubscriptions.set(producer.id, subscription);
    return subscription;
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
        if (change.peer.id === this.peerId) this.#speakers.renew(); // another agent does not know that we listen
        return this.emit("peerChanged", change.peer);
      case "peer-left":
        for (const it of this.#allReceived()) if (it.producer.peer === change.peer.id) it.end();
        this.#monitor.forget(change.peer.id);
        if (change.peer.id === this.peerId && change.reason === "audience") this.#endPublications();
        return this.emit("peerLeft", change.peer);
      case "producer-added":
        this.#received(change.producer.id)?.producerBack();
        this.emit("producerAdded", change.producer);
        return this.#autoSubscribe(change.producer);
      case "producer-reopened":
        this.#received(change.producer.id)?.producerReopened();
        return this.emit("producerChanged", change.producer);
      case "producer-changed":
        if (change.cause) this.publications.get(change.producer.id)?.pausedInRoom(change.producer.paused, change.cause);
        return this.emit("producerChanged", change.producer);
      case "producer-removed":
        if (change.moved) this.#received(change.producer.id)?.producerAway();
        else {
          this.#received(change.producer.id)?.end();
          this.#wish.producerClosed(change.producer.id);
          const own = this.publications.get(change.producer.id) ?? this.dataPublications.get(change.producer.id);
          if (this.peers.has(this.peerId)) own?.end(); // somebody closed it for us
        }
        return this.emit("producerRemoved", change.producer);
    }
  }

  /** We are one of the audience now: the fleet has closed what we sent. */
  #endPublications(): void {
    for (const it of [...this.publications.values(), ...this.dataPublications.values()]) it.end();
  }

  #autoSubscribe(producer: ProducerInfo): void {
    if (producer.peer === this.peerId || this.#received(producer.id) || !this.#wish.wants(producer)) return;
    this.#begin();
    let subscription: Received;
    if (producer.kind === "data") subscription = this.#subscribeData(producer);
    else this.emit("subscriptionChanged", (subscription = this.#subscribe(producer)));
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
      return [{}];
    case "nothing":
      return [];
    default:
      return [{ kind: wanted }];
  }
}

function directions({ transports, autoSubscribe }: JoinOptions): Direction[] {
  const wanted = transports ?? (autoSubscribe === "nothing" ? "none" : "receive");
  if (wanted === "none") return [];
  return wanted === "both" ? ["receive", "send"] : [wanted];
}

/** Connects to NATS ahead of `joinRoom`, which is then sooner in the room: while the person is still in a lobby, for instance. */
export async function connect(options: BusOptions): Promise<Connection> {
  return await connectBus(options);
}

/** Connects to NATS and becomes a peer of a room. Rejects when there is no place, or the token does not allow it. */
export async function joinRoom(options: JoinOptions): Promise<Room> {
  const { connection } = options;
  const bus = connection instanceof Bus && !connection.isClosed ? connection : await connectBus(options);
  const room = new Room(bus, options.room, options.peer ?? newId(), options);
  try {
    await room.join(options.signal);
    return room;
  } catch (error) {
    await bus.close();
    throw error;
  }
}
