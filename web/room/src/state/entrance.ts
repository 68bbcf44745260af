/** What joining a room needs, had already while the lobby is shown: a token, and a connection to NATS. */

import { connect, type BusOptions, type Connection } from "mafalda-client";
import { access, type Admission } from "./access.js";

export interface Entrance {
  readonly admission: Admission;
  readonly options: BusOptions;
  readonly connection: Connection;
}

let prepared: { readonly room: string; readonly entrance: Promise<Entrance> } | undefined;

/** Gets ready to join a room, instead of the one before. What fails is tried again when the room is joined. */
export function prepare(room: string): void {
  if (prepared?.room === room) return;
  discard();
  const entrance = enter(room);
  prepared = { room, entrance };
  entrance.catch((error: unknown) => console.info("mafalda: not connected yet", error));
}

/** What was prepared for a room; if nothing was, or it failed or ended, the same anew. */
export async function takeEntrance(room: string): Promise<Entrance> {
  const entrance = prepared?.room === room ? prepared.entrance : undefined;
  if (entrance) prepared = undefined;
  else discard();
  const ready = await entrance?.catch(() => undefined);
  return ready && !ready.connection.isClosed ? ready : await enter(room);
}

function discard(): void {
  prepared?.entrance.then(({ connection }) => connection.close()).catch(() => undefined);
  prepared = undefined;
}

async function enter(room: string): Promise<Entrance> {
  const { websocketPort, ...admission } = await access(room);
  const { token, inboxPrefix } = admission;
  const servers = `${location.protocol === "https:" ? "wss" : "ws"}://${location.hostname}:${websocketPort}`;
  const options = { servers, ...(token !== undefined && { token }), ...(inboxPrefix !== undefined && { inboxPrefix }) };
  return { admission, options, connection: await connect(options) };
}
