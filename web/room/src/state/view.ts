/** What of the call is on the screen. */

import { signal } from "@preact/signals";

export type Panel = "people" | "chat" | "fleet" | "settings";

export const layout = signal<"grid" | "speaker">("grid");
/** Who is shown large, whoever speaks. */
export const pinned = signal<string | undefined>(undefined);
export const panel = signal<Panel | undefined>(undefined);

export function togglePin(peer: string): void {
  pinned.value = pinned.value === peer ? undefined : peer;
  if (pinned.value) layout.value = "speaker";
}

export function togglePanel(which: Panel): void {
  panel.value = panel.value === which ? undefined : which;
}
