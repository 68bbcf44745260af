/** Who watches and listens only: how many they are, and for a host who, and who of them raises a hand. */

import { signal } from "@preact/signals";
import type { PeerInfo, Room } from "mafalda-client";
import { panel } from "./view.js";

export interface Watcher {
  readonly id: string;
  readonly name: string;
  readonly hasHandUp: boolean;
}

/** What the page has of a call that is needed here. */
export interface Host {
  isHost(): boolean;
  nameOf(peer: Pick<PeerInfo, "id" | "appData">): string;
  note(text: string): void;
}

/** How often a host asks for the audience, which is announced to nobody; others ask how many they are, while they look at the people. */
const POLL_MS = 3_000;
/** Hands first; nobody scrolls through thousands. */
const LISTED = 100;

export const audienceCount = signal(0);
/** For a host. */
export const watchers = signal<readonly Watcher[]>([]);

let look: () => void = () => undefined;

/** Asks again at once. */
export function refreshAudience(): void {
  look();
}

/** Follows the audience until what it returns is called. */
export function watchAudience(room: Room, host: Host): () => void {
  let isLooking = false;
  look = () => {
    if (isLooking || room.state !== "joined" || (!host.isHost() && panel.value !== "people")) return;
    isLooking = true;
    void ask(room, host)
      .catch((error: unknown) => console.info("mafalda: the audience is not known", error)) // asked again soon
      .finally(() => (isLooking = false));
  };
  const timer = setInterval(() => look(), POLL_MS);
  const stopLooking = panel.subscribe(() => look());
  look();
  return () => {
    clearInterval(timer);
    stopLooking();
    look = () => undefined;
    audienceCount.value = 0;
    watchers.value = [];
  };
}

async function ask(room: Room, host: Host): Promise<void> {
  if (!host.isHost()) return void (audienceCount.value = await room.audienceCount());
  const found: Watcher[] = [];
  for await (const peer of room.audience()) found.push({ id: peer.id, name: host.nameOf(peer), hasHandUp: peer.appData["hand"] === true });
  const before = new Set(watchers.value.filter((it) => it.hasHandUp).map(({ id }) => id));
  for (const { id, name, hasHandUp } of found) if (hasHandUp && !before.has(id)) host.note(`${name}, in the audience, raises a hand`);
  found.sort((a, b) => Number(b.hasHandUp) - Number(a.hasHandUp) || a.name.localeCompare(b.name));
  audienceCount.value = found.length;
  watchers.value = found.slice(0, LISTED);
}
