/** What is known of a room: a snapshot from the agent, and the room's events on top of it. No I/O. */

import type { AnyMessage } from "../protocol/envelope.js";
import type { RoomSnapshotAnswer } from "../protocol/messages.js";

export type AppData = Readonly<Record<string, unknown>>;

export interface PeerInfo {
  readonly id: string;
  readonly appData: AppData;
  /** The server and worker that it is placed on, as far as events have told: a snapshot does not. */
  readonly place?: Place;
}

export interface Place {
  readonly server: string;
  readonly worker: string;
}

/** Something that a peer sends: a track, or data messages. */
export interface ProducerInfo {
  readonly id: string;
  readonly peer: string;
  readonly kind: "audio" | "video" | "data";
  readonly paused: boolean;
  readonly appData: AppData;
  /** Of a data producer. */
  readonly label?: string;
}

/** What has paused a producer, or let it flow again. */
export interface PauseCause {
  /** The id of the intent. */
  readonly intent: string | undefined;
  /** The peer that muted it, if not its owner, as far as it has said so. */
  readonly by: string | undefined;
}

/** Why a producer closes although its owner opens it again under the same id. */
const COMES_BACK = new Set(["transport-closed", "peer-moved", "worker-died"]);

export type RosterChange =
  | { type: "peer-joined"; peer: PeerInfo }
  | { type: "peer-changed"; peer: PeerInfo }
  | { type: "peer-left"; peer: PeerInfo; reason: string }
  | { type: "producer-added"; producer: ProducerInfo }
  /** `cause`: of a pause or its end, unless it is only known by a snapshot. */
  | { type: "producer-changed"; producer: ProducerInfo; cause?: PauseCause }
  /** It was opened at another place, to which its peer was handed over: whoever receives it must begin again. */
  | { type: "producer-reopened"; producer: ProducerInfo }
  /** `moved`: its peer was placed again and opens it again under the same id. */
  | { type: "producer-removed"; producer: ProducerInfo; moved: boolean };

/** The peers and producers of one room, as of log sequence `seq`. */
export class Roster {
  readonly peers = new Map<string, PeerInfo>();
  readonly producers = new Map<string, ProducerInfo>();
  readonly #generations = new Map<string, number>();
  /** Producers of peers that are being handed over. */
  readonly #moving = new Set<string>();
  seq = 0;

  /**
   * Replaces everything by the pages of a snapshot; returns what is different from before. What a peer of the room does not send any more
   * counts as moved: the snapshot does not say whether it comes back.
   */
  reset(pages: readonly RoomSnapshotAnswer[]): RosterChange[] {
    const peers = new Map<string, PeerInfo>();
    const producers = new Map<string, ProducerInfo>();
    for (const page of pages) {
      for (const { peer, appData } of page.peers) {
        const place = this.peers.get(peer)?.place;
        peers.set(peer, { id: peer, appData: appData ?? {}, ...(place && { place }) });
      }
      for (const it of page.producers) {
        producers.set(it.producer, { id: it.producer, peer: it.peer, kind: it.mediaKind, paused: it.paused ?? false, appData: it.appData ?? {} });
      }
      for (const it of page.dataProducers) {
        producers.set(it.dataProducer, { id: it.dataProducer, peer: it.peer, kind: "data", paused: false, appData: it.appData ?? {}, label: it.label });
      }
    }
    const changes: RosterChange[] = [];
    for (const producer of this.producers.values()) {
      if (!producers.has(producer.id)) changes.push({ type: "producer-removed", producer, moved: peers.has(producer.peer) });
    }
    for (const peer of this.peers.values()) {
      if (!peers.has(peer.id)) changes.push({ type: "peer-left", peer, reason: "left" });
    }
    for (const peer of peers.values()) if (!this.peers.has(peer.id)) changes.push({ type: "peer-joined", peer });
    for (const producer of producers.values()) {
      const known = this.producers.get(producer.id);
      if (!known) changes.push({ type: "producer-added", producer });
      else if (this.#moving.has(producer.id)) changes.push({ type: "producer-reopened", producer });
      else if (known.paused !== producer.paused) changes.push({ type: "producer-changed", producer });
    }
    this.peers.clear();
    this.producers.clear();
    this.#generations.clear();
    this.#moving.clear();
    for (const [id, peer] of peers) this.peers.set(id, peer);
    for (const [id, producer] of producers) this.producers.set(id, producer);
    this.seq = pages[0]?.seq ?? 0;
    return changes;
  }

  /** Whether a producer is here and is not being handed over, in which case it is about to be opened again. */
  canConsume(producer: string): boolean {
    return this.producers.has(producer) && !this.#moving.has(producer);
  }

  /** Applies one room event; returns what it changed. Events up to `seq` are in the snapshot already. */
  apply(seq: number, message: AnyMessage): RosterChange[] {
    if (seq <= this.seq) return [];
    this.seq = seq;
    switch (message.type) {
      case "mafalda.event.peer-joined.v1": {
        const { peer: id, appData, server, worker } = message.data;
        const peer = { id, appData: appData ?? {}, place: { server, worker } };
        const isNew = !this.peers.has(id);
        this.peers.set(id, peer);
        return [{ type: isNew ? "peer-joined" : "peer-changed", peer }];
      }
      case "mafalda.event.peer-updated.v1": {
        const known = this.peers.get(message.data.peer);
        if (!known) return [];
        const peer = { ...known, appData: message.data.appData ?? {} };
        this.peers.set(peer.id, peer);
        return [{ type: "peer-changed", peer }];
      }
      case "mafalda.event.peer-moved.v1": {
        const { peer: id, server, worker, handover } = message.data;
        if (handover) {
          // Its producers go on at the former place until they are open at the new one.
          for (const producer of this.producers.values()) if (producer.peer === id) this.#moving.add(producer.id);
          return this.#setPlace(id, { server, worker });
        }
        return [...this.#removeProducersOf(id, true), ...this.#setPlace(id, { server, worker })];
      }
      case "mafalda.event.peer-stranded.v1":
        return this.#removeProducersOf(message.data.peer, true);
      case "mafalda.event.peer-demoted.v1":
      case "mafalda.event.peer-left.v1": {
        const peer = this.peers.get(message.data.peer);
        const changes = this.#removeProducersOf(message.data.peer, false);
        if (!peer) return changes;
        this.peers.delete(peer.id);
        const reason = message.type === "mafalda.event.peer-demoted.v1" ? "audience" : (message.data.cause ?? message.data.reason ?? "left");
        return [...changes, { type: "peer-left", peer, reason }];
      }
      case "mafalda.event.producer-opened.v1": {
        const { producer: id, peer, mediaKind, paused, appData, generation, server, worker } = message.data;
        const producer: ProducerInfo = { id, peer, kind: mediaKind, paused: paused ?? false, appData: appData ?? {} };
        return [...this.#setPlace(peer, { server, worker }), ...this.#add(producer, generation)];
      }
      case "mafalda.event.data-producer-opened.v1": {
        const { dataProducer: id, peer, label, appData, generation } = message.data;
        return this.#add({ id, peer, kind: "data", paused: false, appData: appData ?? {}, label: label ?? "" }, generation);
      }
      case "mafalda.event.producer-paused.v1":
        return this.#setPaused(message.data.producer, true, { intent: message.causationid, by: message.data.by });
      case "mafalda.event.producer-resumed.v1":
        return this.#setPaused(message.data.producer, false, { intent: message.causationid, by: undefined });
      case "mafalda.event.producer-closed.v1":
        return this.#remove(message.data.producer, message.data.peer, message.data.generation, message.data.reason);
      case "mafalda.event.data-producer-closed.v1":
        return this.#remove(message.data.dataProducer, message.data.peer, message.data.generation, message.data.reason);
      default:
        return [];
    }
  }

  /** A producer that is known already was opened anew: whoever received the former one must begin again. */
  #add(producer: ProducerInfo, generation: number): RosterChange[] {
    const former = this.producers.get(producer.id);
    this.#moving.delete(producer.id);
    this.producers.set(producer.id, producer);
    this.#generations.set(producer.id, generation);
    return [{ type: former ? "producer-reopened" : "producer-added", producer }];
  }

  #setPlace(id: string, place: Place): RosterChange[] {
    const known = this.peers.get(id);
    if (!known || (known.place?.worker === place.worker && known.place.server === place.server)) return [];
    const peer = { ...known, place };
    this.peers.set(id, peer);
    return [{ type: "peer-changed", peer }];
  }

  #setPaused(id: string, paused: boolean, cause: PauseCause): RosterChange[] {
    const known = this.producers.get(id);
    if (!known || known.paused === paused) return [];
    const producer = { ...known, paused };
    this.producers.set(id, producer);
    return [{ type: "producer-changed", producer, cause }];
  }

  #remove(id: string, peer: string, generation: number, reason: string): RosterChange[] {
    const producer = this.producers.get(id);
    if (!producer || producer.peer !== peer || (this.#generations.get(id) ?? generation) > generation) return [];
    this.producers.delete(id);
    this.#moving.delete(id);
    return [{ type: "producer-removed", producer, moved: COMES_BACK.has(reason) }];
  }

  #removeProducersOf(peer: string, moved: boolean): RosterChange[] {
    const gone = [...this.producers.values()].filter((producer) => producer.peer === peer);
    for (const producer of gone) {
      this.producers.delete(producer.id);
      this.#moving.delete(producer.id);
    }
    return gone.map((producer) => ({ type: "producer-removed", producer, moved }));
  }
}
