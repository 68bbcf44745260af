/** Transports that are requested in one flight with the join, before the peer's place is known. */

import type { TransportResult } from "../protocol/messages.js";
import { newId } from "../protocol/subjects.js";
import type { Requests } from "./requests.js";

export type Direction = "send" | "receive";

/** What was requested ahead. Each is taken once, by the endpoint at the place where it is. */
export class TransportsAhead {
  readonly #requested = new Map<Direction, Promise<TransportResult | undefined>>();

  constructor(private readonly requests: Requests) {}

  request(direction: Direction): void {
    const result = this.requests.askTransport("create-transport", transportIntent(newId(), direction)).catch((error: unknown) => {
      console.info("mafalda: no transport ahead", direction, error); // the endpoint requests one when it needs it
      return undefined;
    });
    this.#requested.set(direction, result);
  }

  /** Whether a transport of this direction was requested and is not taken. */
  has(direction: Direction): boolean {
    return this.#requested.has(direction);
  }

  /** The transport, if one was requested and is at the place of this generation. */
  async take(direction: Direction, generation: number): Promise<TransportResult | undefined> {
    const requested = this.#requested.get(direction);
    this.#requested.delete(direction);
    const result = await requested;
    return result?.generation === generation ? result : undefined;
  }
}

/** The intent of a transport. */
export function transportIntent(transport: string, direction: Direction) {
  return { transport, direction, enableTcp: true, enableSctp: true, numSctpStreams: { OS: 1024, MIS: 1024 } };
}
