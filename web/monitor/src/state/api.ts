/** The shapes of the monitor's JSON (docs/monitor.md), and how they are asked for. */

export interface Totals {
  readonly seq: number;
  readonly time: string;
  readonly servers: number;
  readonly draining: number;
  readonly workers: number;
  readonly unresponsive: number;
  readonly rooms: number;
  readonly peers: number;
  readonly unplaced: number;
  readonly producers: number;
  readonly relays: number;
  readonly consumers: number | null;
  readonly receiveBps: number | null;
  readonly sendBps: number | null;
  readonly cpuRatio: number | null;
  readonly log: {
    readonly firstSeq: number;
    readonly lastSeq: number;
    readonly firstTime: string | null;
    readonly entries: number;
    readonly bytes: number;
    readonly limitBytes: number | null;
    readonly full: boolean;
    readonly entriesPerS: number;
    readonly behind: number;
  };
}

export interface WorkerLoad {
  readonly cpuRatio: number;
  readonly memoryBytes?: number;
  readonly channelLatencyS?: number;
  readonly state?: string;
  readonly consumers?: number;
  readonly producers?: number;
  readonly relaysIn?: number;
  readonly relaysOut?: number;
  readonly receiveBps?: number;
  readonly sendBps?: number;
}

export interface ServerRow {
  readonly row: "server";
  readonly server: string;
  readonly status: string;
  readonly region: string | null;
  readonly announcedAddress: string;
  readonly workers: number;
  readonly cpuRatio: number | null;
  readonly memoryUsedRatio: number | null;
  readonly appendError: string | null;
}

export interface WorkerRow {
  readonly row: "worker";
  readonly server: string;
  readonly worker: string;
  readonly pid: number;
  readonly peers: number;
  readonly rooms: number;
  readonly relays: number;
  readonly load: WorkerLoad | null;
  readonly cpuHistory: readonly number[];
}

export interface RoomRow {
  readonly room: string;
  readonly peers: number;
  readonly producers: number;
  readonly relays: number;
  readonly workers: number;
  readonly unplaced: number;
}

export interface TreeNode {
  readonly server: string;
  readonly worker: string;
  readonly status: string;
  readonly consumers: number;
  readonly children: readonly TreeNode[];
}

export interface RelayTree {
  readonly id: string;
  readonly producers: readonly { readonly producer: string; readonly peer: string; readonly name: string; readonly kind: string; readonly paused: boolean }[];
  readonly count: number;
  readonly relays: number;
  readonly root: TreeNode;
}

export interface Room extends RoomRow {
  readonly servedBy: readonly { readonly server: string; readonly worker: string; readonly peers: number; readonly producers: number; readonly consumers: number }[];
  readonly trees: readonly RelayTree[];
  readonly more: number;
}

export interface PeerRow {
  readonly peer: string;
  readonly name: string;
  readonly server: string;
  readonly worker: string;
  readonly generation: number;
  readonly status: string;
  readonly transports: number;
  readonly producers: number;
  readonly consumers: number;
}

export interface Explanation {
  readonly policy: string;
  readonly summary: string;
  readonly candidates?: readonly { readonly server: string; readonly worker: string; readonly outcome: string; readonly load?: number | null; readonly score?: number | null }[];
  readonly passedOver?: Readonly<Record<string, number>>;
}

export interface Decision extends Explanation {
  readonly seq: number;
  readonly time: string;
  readonly text: string;
}

export interface Peer extends Partial<PeerRow> {
  readonly peer: string;
  readonly status: string;
  readonly producing?: readonly { readonly producer: string; readonly kind: string; readonly paused: boolean }[];
  readonly consuming?: readonly { readonly consumer: string; readonly producer: string; readonly paused: boolean }[];
  readonly decisions: readonly Decision[];
}

export interface LogRow {
  readonly seq: number;
  readonly time: string | null;
  readonly kind: string;
  readonly action: string;
  readonly room: string | null;
  readonly peer: string | null;
  readonly server: string | null;
  readonly text: string;
  readonly problem: boolean;
}

export interface LogEntry extends LogRow {
  readonly message?: unknown;
  readonly error?: string;
  readonly reasons: Explanation | null;
}

export interface Problem {
  readonly kind: string;
  readonly cause: string;
  readonly action: string;
  readonly count: number;
  readonly lastSeq: number;
  readonly lastTime: string | null;
  readonly example: string;
  readonly room: string | null;
  readonly server: string | null;
}

export interface Page<Row> {
  readonly total: number;
  readonly rows: readonly Row[];
}

export type Params = Readonly<Record<string, string | number | boolean | null | undefined>>;

/** A path with those parameters that are set. */
export function withParams(path: string, params: Params): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (value !== undefined && value !== null && value !== "" && value !== false) query.set(name, String(value));
  }
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}

/** Asks for JSON; what the server answers as an error is thrown with its words. */
export async function ask<T>(path: string, params: Params, signal?: AbortSignal): Promise<T> {
  const answer = await fetch(withParams(`api/${path}`, params), signal ? { signal } : {});
  const found = (await answer.json()) as T & { error?: { message: string } };
  if (!answer.ok) throw new Error(found.error?.message ?? answer.statusText);
  return found;
}
