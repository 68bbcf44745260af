/** Which servers and workers there are and who of this room is where, as `mafalda` tells the page. */

import { signal } from "@preact/signals";
import { api } from "./access.js";
import { roomId } from "./settings.js";

export interface Place {
  readonly server: string;
  readonly worker: string;
}

export interface FleetView {
  readonly servers: readonly {
    readonly server: string;
    readonly status: string;
    readonly workers: readonly { readonly worker: string; readonly pid: number; readonly load: { readonly cpuRatio: number } | null }[];
  }[];
  readonly peers: readonly (Place & { readonly peer: string; readonly generation: number })[];
  readonly relays: readonly { readonly source: Place; readonly target: Place; readonly status: string }[];
}

export const fleet = signal<FleetView | undefined>(undefined);
export const fleetProblem = signal("");
const POLL_MS = 1_500;

/** Kills a worker's process: in a demo, for its host. */
export async function killWorker(worker: string): Promise<void> {
  const answer = await api(`api/workers/${encodeURIComponent(worker)}/kill`, { method: "POST" });
  if (!answer.ok) throw new Error(((await answer.json()) as { error: { message: string } }).error.message);
}

/** Asks again and again; returns what stops it. */
export function watchFleet(): () => void {
  const stopped = new AbortController();
  void (async () => {
    while (!stopped.signal.aborted) {
      try {
        const answer = await api(`api/rooms/${encodeURIComponent(roomId.value)}`, { signal: stopped.signal });
        if (!answer.ok) throw new Error(await answer.text());
        fleet.value = (await answer.json()) as FleetView;
        fleetProblem.value = "";
      } catch (error) {
        if (stopped.signal.aborted) return;
        fleetProblem.value = "The fleet does not answer at the moment.";
        console.info("mafalda: no view of the fleet", error);
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  })();
  return () => stopped.abort();
}
