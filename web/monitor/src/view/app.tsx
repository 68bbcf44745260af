/** The frame of all views: name, navigation, the fleet in numbers, and the time line. */

import { useEffect } from "preact/hooks";
import { signal } from "@preact/signals";
import { Activity, Monitor, Moon, ScrollText, Sun, TriangleAlert, Users } from "lucide-preact";
import type { Totals } from "../state/api.js";
import { isLive } from "../state/moment.js";
import { address, route } from "../state/route.js";
import { useJson } from "../state/use-json.js";
import { LogView } from "./log.js";
import { Overview } from "./overview.js";
import { Problems } from "./problems.js";
import { Rooms } from "./rooms.js";
import { Timeline } from "./timeline.js";

const TABS = [
  ["overview", "Fleet", Activity],
  ["rooms", "Rooms", Users],
  ["log", "Log", ScrollText],
  ["problems", "Problems", TriangleAlert],
] as const;

export function App() {
  const fleet = useJson<Totals>("fleet");
  const { view } = route.value;
  useEffect(() => {
    document.title = `${TABS.find(([name]) => name === view)?.[1]} · Mafalda monitor`;
  }, [view]);
  return (
    <div class={`frame ${isLive.value ? "live" : "past"}`}>
      <header>
        <a class="brand" href={address("overview")}>
          <img src="./icon.svg" alt="" width={26} height={26} />
          <span>Mafalda</span>
        </a>
        <nav aria-label="Views">
          {TABS.map(([name, label, Icon]) => (
            <a key={name} href={address(name)} aria-current={view === name ? "page" : undefined}>
              <Icon size={17} aria-hidden />
              <span>{label}</span>
            </a>
          ))}
        </nav>
        <ThemeSwitch />
      </header>
      {fleet.problem && (
        <p class="notice" role="alert">
          The monitor does not answer as it should: {fleet.problem}
        </p>
      )}
      <main>
        {view === "overview" && <Overview fleet={fleet.value} />}
        {view === "rooms" && <Rooms />}
        {view === "log" && <LogView />}
        {view === "problems" && <Problems />}
      </main>
      <Timeline fleet={fleet.value} />
    </div>
  );
}

type Theme = "auto" | "light" | "dark";
const NEXT: Record<Theme, Theme> = { auto: "light", light: "dark", dark: "auto" };
const ICONS = { auto: Monitor, light: Sun, dark: Moon };
const LABELS = { auto: "as the system", light: "light", dark: "dark" };
const theme = signal<Theme>((localStorage.getItem("mafalda-theme") as Theme | null) ?? "auto");
theme.subscribe((value) => {
  if (value === "auto") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = value;
  localStorage.setItem("mafalda-theme", value);
});

function ThemeSwitch() {
  const Icon = ICONS[theme.value] ?? Monitor;
  const label = `Colours: ${LABELS[theme.value]}`;
  return (
    <button class="plain" onClick={() => (theme.value = NEXT[theme.value])} aria-label={label} title={label}>
      <Icon size={18} aria-hidden />
    </button>
  );
}
