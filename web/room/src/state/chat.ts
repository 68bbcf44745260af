/** Messages and reactions over a data channel of the room, and raised hands: a data producer with the label `hand` is one. */

import { computed, signal } from "@preact/signals";
import type { DataReceived, LocalDataPublication, Room } from "mafalda-client";
import { panel } from "./view.js";

export interface ChatMessage {
  readonly id: number;
  readonly peer: string;
  readonly name: string;
  readonly text: string;
  readonly at: Date;
}

export const CHAT = "chat";
export const HAND = "hand";
export const REACTIONS = ["👍", "👏", "❤️", "😂", "😮", "🎉"];
export const MAX_LENGTH = 2_000;
const KEPT = 500;
const REACTION_MS = 4_000;
const READS_ONLY = "You can write when a host has brought you to the stage.";

export const messages = signal<readonly ChatMessage[]>([]);
const seen = signal(0);
export const unread = computed(() => (panel.value === "chat" ? 0 : messages.value.filter(({ id }) => id > seen.value).length));
/** What each peer has just reacted with. */
export const reactions = signal<ReadonlyMap<string, { id: number; emoji: string }>>(new Map());
export const handRaised = signal(false);
/** Why nothing can be sent; empty if it can. */
export const chatProblem = signal("Connecting…");

let room: Room | undefined;
let channel: LocalDataPublication | undefined;
let nameOf: (peer: string) => string = (peer) => peer;
let ownName = "";
let number = 0;

/** Opens the channel. Messages that were sent before are not shown: nobody keeps them. */
export function startChat(joined: Room, names: (peer: string) => string, own: string): void {
  room = joined;
  ownName = own;
  nameOf = names;
  joined.on("dataReceived", receive);
  joined.on("dataPublicationChanged", (it) => {
    if (it.label === HAND && room === joined) handRaised.value = it.state !== "closed";
  });
  if (joined.isAudience) chatProblem.value = READS_ONLY;
  else openChannel(joined);
}

/** We have come to the stage, where one can write, or have left it. */
export function changeChatStage(isOnStage: boolean): void {
  const wasRaised = handRaised.value;
  channel = undefined;
  handRaised.value = false;
  chatProblem.value = isOnStage ? "Connecting…" : READS_ONLY;
  if (!room || !isOnStage) return;
  openChannel(room);
  if (wasRaised) void raiseInAudience(room, false);
}

function openChannel(joined: Room): void {
  joined.publishData({ label: CHAT }).then(
    (opened) => {
      if (room !== joined) return; // we have left it meanwhile
      channel = opened;
      chatProblem.value = "";
    },
    (error: Error) => {
      if (room === joined) chatProblem.value = `You cannot write here: ${error.message}`;
    },
  );
}

export function stopChat(): void {
  room = channel = undefined;
  messages.value = [];
  reactions.value = new Map();
  handRaised.value = false;
  chatProblem.value = "Connecting…";
}

/** Returns whether it was sent. */
export function say(text: string): boolean {
  return text.trim() !== "" && send({ text: text.trim().slice(0, MAX_LENGTH) });
}

export function react(emoji: string): void {
  send({ emoji });
}

export async function toggleHand(): Promise<void> {
  if (room?.isAudience) return await raiseInAudience(room, !handRaised.value);
  const raised = [...(room?.dataPublications.values() ?? [])].find(({ label }) => label === HAND);
  handRaised.value = !raised;
  if (raised) await raised.close();
  else await room?.publishData({ label: HAND }).catch((error: Error) => (chatProblem.value = `Your hand is not raised: ${error.message}`));
}

/** Nobody is told of the audience, so its hands are data of their own that a host asks for. */
async function raiseInAudience(joined: Room, isRaised: boolean): Promise<void> {
  handRaised.value = isRaised;
  try {
    await joined.setAppData({ name: ownName, ...(isRaised && { hand: true }) });
  } catch (error) {
    handRaised.value = false;
    chatProblem.value = `Your hand is not raised: ${(error as Error).message}`;
  }
}

export function markSeen(): void {
  seen.value = number;
}

function send(content: { text: string } | { emoji: string }): boolean {
  if (!room || !channel) return false;
  try {
    channel.send(JSON.stringify(content));
  } catch (error) {
    chatProblem.value = `Not sent: ${(error as Error).message}`;
    return false;
  }
  chatProblem.value = "";
  show(room.peerId, content);
  return true;
}

function receive({ peer, label, message }: DataReceived): void {
  if (label !== CHAT || typeof message !== "string") return;
  try {
    show(peer, JSON.parse(message) as Record<string, unknown>);
  } catch {
    console.info("mafalda: a chat message that cannot be read", peer);
  }
}

function show(peer: string, { text, emoji }: Record<string, unknown>): void {
  const id = ++number;
  if (typeof text === "string" && text) {
    const message = { id, peer, name: nameOf(peer), text: text.slice(0, MAX_LENGTH), at: new Date() };
    messages.value = [...messages.value, message].slice(-KEPT);
  } else if (typeof emoji === "string" && REACTIONS.includes(emoji)) {
    reactions.value = new Map(reactions.value).set(peer, { id, emoji });
    setTimeout(() => {
      if (reactions.value.get(peer)?.id === id) reactions.value = new Map([...reactions.value].filter(([key]) => key !== peer));
    }, REACTION_MS);
  }
}
