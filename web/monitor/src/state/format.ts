/** Numbers and times as people read them. */

const COUNT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const WHOLE = new Intl.NumberFormat("en");

export const count = (value: number): string => (value < 10_000 ? WHOLE.format(value) : COUNT.format(value));
export const percent = (ratio: number | null | undefined): string => (ratio == null ? "–" : `${Math.round(ratio * 100)} %`);

export function bitrate(bps: number | null | undefined): string {
  if (bps == null) return "–";
  for (const [unit, factor] of [["Gbit/s", 1e9], ["Mbit/s", 1e6], ["kbit/s", 1e3]] as const) {
    if (bps >= factor) return `${(bps / factor).toFixed(bps / factor < 10 ? 1 : 0)} ${unit}`;
  }
  return `${Math.round(bps)} bit/s`;
}

export function bytes(value: number | null | undefined): string {
  if (value == null) return "–";
  for (const [unit, factor] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]] as const) {
    if (value >= factor) return `${(value / factor).toFixed(value / factor < 10 ? 1 : 0)} ${unit}`;
  }
  return `${value} B`;
}

export function seconds(value: number | null | undefined): string {
  if (value == null) return "–";
  return value < 1 ? `${(value * 1000).toFixed(value < 0.01 ? 1 : 0)} ms` : `${value.toFixed(1)} s`;
}

export function clock(time: string | number | null, milliseconds = false): string {
  if (time === null) return "--:--:--";
  const date = new Date(time);
  const text = date.toLocaleTimeString("en-GB", { hour12: false });
  return milliseconds ? `${text}.${String(date.getMilliseconds()).padStart(3, "0")}` : text;
}

/** `server-1-0-b96d7e` on `server-1` is worker 0, whoever fills its place after a crash. */
export function workerName(worker: string, server: string): string {
  if (!worker.startsWith(`${server}-`)) return worker;
  const [slot = worker] = worker.slice(server.length + 1).split("-");
  return `worker ${slot}`;
}
