/** What lets this page in: a key in the fragment of its link, which no server but its own is sent. */

interface Credential {
  readonly token?: string;
  readonly inboxPrefix?: string;
}

const key = new URLSearchParams(location.hash.slice(1)).get("key") ?? "";

/** Asks `mafalda`, with the key. */
export function api(path: string, init: RequestInit = {}): Promise<Response> {
  return fetch(path, { ...init, headers: key ? { Authorization: `Bearer ${key}` } : {} });
}

/** Where NATS is, and what a peer of a room needs to connect to it: nothing if the fleet is open. */
export async function access(room: string, peer: string): Promise<{ websocketPort: number } & Credential> {
  const { websocketPort, needsToken } = (await (await api("api/config")).json()) as { websocketPort: number; needsToken: boolean };
  if (!needsToken) return { websocketPort };
  const answer = await api("api/token", { method: "POST", body: JSON.stringify({ room, peer }) });
  if (answer.status === 401) throw new Error("open the link that mafalda printed: it carries a key");
  if (!answer.ok) throw new Error(await answer.text());
  return { websocketPort, ...((await answer.json()) as Credential) };
}
