/** How good everybody's connection is, as a signal for the views. */

import { signal } from "@preact/signals";
import type { Quality, Room } from "mafalda-client";

const ORDER: readonly Quality[] = ["excellent", "good", "poor", "lost"];

/** The worse one of both ways, of those who are not fine: by peer. */
export const badConnections = signal<ReadonlyMap<string, "poor" | "lost">>(new Map());

/** Follows a room; returns what stops it. */
export function followQuality(room: Room): () => void {
  const update = (peer: string) => {
    const { up = "excellent", down = "excellent" } = room.quality(peer);
    const worse = ORDER[Math.max(ORDER.indexOf(up), ORDER.indexOf(down))];
    const next = new Map(badConnections.peek());
    if (worse === "poor" || worse === "lost") next.set(peer, worse);
    else next.delete(peer);
    badConnections.value = next;
  };
  const stops = [room.on("qualityChanged", ({ peer }) => update(peer)), room.on("peerLeft", ({ id }) => update(id))];
  return () => {
    for (const stop of stops) stop();
    badConnections.value = new Map();
  };
}
