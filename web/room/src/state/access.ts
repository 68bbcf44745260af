/** What lets this page in: a key in the fragment of its link, which no server but its own is sent. */

export interface Admission {
  /** Drawn by the server, so that nobody gets a token for another's. */
  readonly peer: string;
  readonly token?: string;
  readonly inboxPrefix?: string;
  /** What this page's link allows. */
  readonly moderate?: boolean;
  readonly killWorkers?: boolean;
  /** Whether this page's link is one of the audience's. */
  readonly audience?: boolean;
  /** For the links of those whom a host invites, to take part or to watch. */
  readonly guestKey?: string;
  readonly audienceKey?: string;
}

/** Asks `mafalda`, with the key; a new link in the same tab changes only the fragment. */
export function api(path: string, init: RequestInit = {}): Promise<Response> {
  const key = new URLSearchParams(location.hash.slice(1)).get("key") ?? "";
  return fetch(path, { ...init, headers: key ? { Authorization: `Bearer ${key}` } : {} });
}

/** Where NATS is, who we are in a room, and what that peer needs to connect: nothing more if the fleet is open. */
export async function access(room: string): Promise<{ websocketPort: number } & Admission> {
  const { websocketPort } = (await (await api("api/config")).json()) as { websocketPort: number };
  const answer = await api("api/token", { method: "POST", body: JSON.stringify({ room }) });
  if (answer.status === 401) throw new Error("open the link that mafalda printed: it carries a key");
  if (!answer.ok) throw new Error(await answer.text());
  return { websocketPort, ...((await answer.json()) as Admission) };
}
