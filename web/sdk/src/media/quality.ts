/** How good a connection is. docs/protocol.md#connection-quality has the same table. No I/O. */

import type { WayStatistics } from "../protocol/messages.js";

/** Best first; `lost`: nothing arrives. */
export type Quality = "excellent" | "good" | "poor" | "lost";

const ORDER: readonly Quality[] = ["excellent", "good", "poor", "lost"];

/** What a quality is made of; what is not known is left out. */
export interface Figures {
  /** Part of the packets that were lost, 0 to 1. */
  readonly loss?: number | undefined;
  readonly roundTripMs?: number | undefined;
  /** mediasoup's score, 0 to 10. */
  readonly score?: number | undefined;
}

/** The worst of the three decides. */
export function qualityOf({ loss = 0, roundTripMs = 0, score = 10 }: Figures): Quality {
  if (loss >= 0.5 || score <= 0) return "lost";
  if (loss >= 0.05 || roundTripMs >= 400 || score < 6) return "poor";
  if (loss >= 0.01 || roundTripMs >= 150 || score < 9) return "good";
  return "excellent";
}

/** The quality of a way that was measured, with the lowest score of what is sent on it. */
export function wayQuality(way: Pick<WayStatistics, "lossRatio" | "roundTripMs">, score?: number): Quality {
  return qualityOf({ loss: way.lossRatio, roundTripMs: way.roundTripMs, score });
}

/** What is shown of one way: it falls at once, and rises only when two measurements in a row were better. */
export class SteadyQuality {
  #shown: Quality | undefined;
  #better: Quality | undefined;

  get shown(): Quality | undefined {
    return this.#shown;
  }

  /** Takes a measurement; returns whether what is shown is another quality now. */
  take(measured: Quality): boolean {
    const before = this.#shown;
    const rises = before !== undefined && ORDER.indexOf(measured) < ORDER.indexOf(before);
    if (!rises) this.#shown = measured;
    else if (this.#better !== undefined) this.#shown = ORDER[Math.max(ORDER.indexOf(measured), ORDER.indexOf(this.#better))] ?? measured;
    this.#better = rises && this.#shown === before ? measured : undefined;
    return this.#shown !== before;
  }
}
