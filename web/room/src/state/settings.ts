/** What the page remembers in this browser, and what its address says. */

import { effect, signal } from "@preact/signals";

export type Theme = "auto" | "light" | "dark";

const query = new URLSearchParams(location.search);
const WORDS = [
  ["calm", "bright", "quick", "gentle", "bold", "merry", "quiet", "sunny"],
  ["otter", "heron", "maple", "comet", "harbor", "meadow", "falcon", "willow"],
] as const;

function remembered(key: string, initial: string) {
  const value = signal(localStorage.getItem(`mafalda.${key}`) ?? initial);
  effect(() => localStorage.setItem(`mafalda.${key}`, value.value));
  return value;
}

function randomRoom(): string {
  return [...WORDS.map((words) => words[Math.floor(Math.random() * words.length)]), Math.floor(Math.random() * 900 + 100)].join("-");
}

export const roomFromAddress = query.get("room");
export const roomId = signal(roomFromAddress ?? randomRoom());
export const MAX_NAME_LENGTH = 60;
export const displayName = remembered("name", "");
export const theme = remembered("theme", "auto");
export const cameraId = remembered("camera", "");
export const microphoneId = remembered("microphone", "");
export const speakerId = remembered("speaker", "");

/** `?audience`: join as one who watches and listens. Whether one may do more is up to the link's key. */
export const asAudience = query.has("audience");

/** `?video=320x180`: the camera's resolution, for slow machines. Such a small picture is sent in one resolution only. */
export const videoSize = /^(\d+)x(\d+)$/.exec(query.get("video") ?? "")?.slice(1).map(Number) as [number, number] | undefined;

effect(() => {
  if (theme.value === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme.value;
});
