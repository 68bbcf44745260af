/** What a token with the grant `moderate` may do to other peers of the room. */

import type { Bus } from "../nats/bus.js";
import { PeerSubjects } from "../protocol/subjects.js";
import { Requests, type IntentData } from "./requests.js";

export type ModerationAction = "leave" | "set-audience" | "pause-producer" | "close-producer" | "close-data-producer";

/** Publishes an intent in another peer's name and waits for its result. Rejects with `permission-denied` without the grant. */
export async function moderate<A extends ModerationAction>(
  bus: Bus,
  own: { room: string; peer: string; inbox: string },
  peer: string,
  action: A,
  data: IntentData<A>,
): Promise<void> {
  const subjects = new PeerSubjects(own.room, peer);
  const requests = new Requests(bus, subjects, own.inbox, `/client/${own.peer}`);
  const stop = bus.subscribeStored(subjects.result(action), ({ message }) => requests.receiveResult(message));
  try {
    await requests.ask(action, data, "mafalda.result.done.v1");
  } finally {
    stop();
  }
}
