/** What of the call is on the screen. */

import { signal } from "@preact/signals";

export type Panel = "people" | "fleet" | "settings";

export const layout = signal<"grid" | "speaker">("grid");
export const panel = signal<Panel | undefined>(undefined);

export function togglePanel(which: Panel): void {
  panel.value = panel.value === which ? undefined : which;
}
