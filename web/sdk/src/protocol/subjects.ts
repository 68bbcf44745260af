/** NATS subjects of a participant. Source: docs/subjects.md. */

import { MafaldaError } from "../errors.js";

const ID = /^[A-Za-z0-9_-]{1,64}$/;

/** Returns `id`; throws when it cannot stand in a subject. */
export function checkId(what: string, id: string): string {
  if (!ID.test(id)) throw new MafaldaError("illegal-id", `a ${what} id is 1 to 64 of A-Z a-z 0-9 _ -`, { id });
  return id;
}

/** A new id that nobody else has: 22 characters, 128 random bits. */
export function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** The subjects of one peer of one room. What is stored is received under `live.`. */
export class PeerSubjects {
  readonly #room: string;
  readonly #peer: string;

  constructor(room: string, peer: string) {
    this.#room = `mafalda.room.${checkId("room", room)}`;
    this.#peer = `${this.#room}.peer.${checkId("peer", peer)}`;
  }

  intent = (action: string): string => `${this.#peer}.intent.${action}`;
  result = (action: string): string => `live.${this.#peer}.result.${action}`;
  query = (name: string): string => `${this.#peer}.query.${name}`;

  get results(): string {
    return `live.${this.#peer}.result.>`;
  }

  get peerEvents(): string {
    return `live.${this.#peer}.event.>`;
  }

  get roomEvents(): string {
    return `live.${this.#room}.event.>`;
  }
}
