/** Which view is shown: the address after `#`, so that a view can be linked to. */

import { signal } from "@preact/signals";

export interface Route {
  readonly view: "overview" | "rooms" | "log" | "problems";
  readonly room?: string;
  readonly peer?: string;
  readonly params: Readonly<Record<string, string>>;
}

const VIEWS = ["overview", "rooms", "log", "problems"] as const;

export function parse(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?");
  const [view, room, peer] = path.split("/").map(decodeURIComponent);
  const params = Object.fromEntries(new URLSearchParams(query));
  const known = VIEWS.find((it) => it === view) ?? "overview";
  return { view: known, params, ...(room ? { room } : {}), ...(peer ? { peer } : {}) };
}

export function address(view: Route["view"], ...rest: readonly string[]): string {
  return `#/${[view, ...rest.map(encodeURIComponent)].join("/")}`;
}

export const route = signal<Route>(parse(location.hash));
addEventListener("hashchange", () => (route.value = parse(location.hash)));
