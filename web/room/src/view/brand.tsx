/** The product's name, and the switch between light and dark. */

import { Monitor, Moon, Sun } from "lucide-preact";
import { theme, type Theme } from "../state/settings.js";

export function Brand() {
  return (
    <div class="brand">
      <img src="./icon.svg" alt="" width={28} height={28} />
      <span>Mafalda</span>
    </div>
  );
}

const NEXT: Record<Theme, Theme> = { auto: "light", light: "dark", dark: "auto" };
const ICONS = { auto: Monitor, light: Sun, dark: Moon };
const LABELS = { auto: "as the system", light: "light", dark: "dark" };

export function ThemeSwitch() {
  const current = theme.value as Theme;
  const Icon = ICONS[current];
  const label = `Colours: ${LABELS[current]}`;
  return (
    <button class="plain" onClick={() => (theme.value = NEXT[current])} aria-label={label} title={label}>
      <Icon size={20} aria-hidden />
    </button>
  );
}
