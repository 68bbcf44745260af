/** The room that we are in, as signals for the views. One call at a time. */

import { computed, effect, signal } from "@preact/signals";
import { joinRoom, MafaldaError, type LocalPublication, type PeerInfo, type RemoteSubscription, type Room, type SessionState, type Speaker } from "mafalda-client";
import type { Admission } from "./access.js";
import { refreshAudience, watchAudience } from "./audience.js";
import { changeChatStage, HAND, startChat, stopChat } from "./chat.js";
import { cameraOn, cameraTrack, microphoneOn, microphoneTrack, startDevices } from "./devices.js";
import { takeEntrance } from "./entrance.js";
import { followQuality } from "./quality.js";
import { pinned } from "./view.js";
import { asAudience, displayName, MAX_NAME_LENGTH, roomId, speakerId, videoSize } from "./settings.js";

export interface Person {
  readonly id: string;
  readonly name: string;
  readonly isSelf: boolean;
  readonly isMuted: boolean;
  readonly hasHandUp: boolean;
  readonly camera: RemoteSubscription | MediaStreamTrack | undefined;
  readonly screen: RemoteSubscription | MediaStreamTrack | undefined;
  /** Its media is on its way, for the first time or again. */
  readonly isWaiting: boolean;
}

export const phase = signal<"lobby" | "joining" | "call" | "ended">("lobby");
/** Why the call ended or could not begin; empty if we left. */
export const problem = signal("");
export const connection = signal<{ state: SessionState; reason: string }>({ state: "joining", reason: "" });
export const people = signal<readonly Person[]>([]);
export const speaking = signal<ReadonlySet<string>>(new Set());
export const activeSpeaker = signal<string | undefined>(undefined);
export const playbackBlocked = signal(false);
/** Whether our token does not let us send a camera or a microphone. */
export const onlyReceives = signal(false);
export const sharing = signal(false);
/** What just happened, for screen readers and as a short note on the screen. */
export const notes = signal<readonly { id: number; text: string }[]>([]);
/** What our link allows. */
export const allowed = signal<Pick<Admission, "moderate" | "killWorkers" | "guestKey" | "audienceKey">>({});
/** Whether we may send; else we are audience. */
export const onStage = signal(true);
export const sharer = computed(() => people.value.find((person) => person.screen));

let room: Room | undefined;
let screenTrack: MediaStreamTrack | undefined;
let stops: (() => void)[] = [];
let noteId = 0;
const players = new Map<string, HTMLAudioElement>();

export function note(text: string): void {
  const id = ++noteId;
  notes.value = [...notes.value, { id, text }].slice(-3);
  setTimeout(() => (notes.value = notes.value.filter((it) => it.id !== id)), 5_000);
}

/** Joins the room that is chosen, with what is switched on. */
export async function join(): Promise<void> {
  phase.value = "joining";
  problem.value = "";
  try {
    const { admission, options, connection: bus } = await takeEntrance(roomId.value);
    const { peer, moderate, killWorkers, guestKey, audienceKey } = admission;
    allowed.value = { moderate: moderate ?? false, killWorkers: killWorkers ?? false, ...(guestKey && { guestKey }), ...(audienceKey && { audienceKey }) };
    const audience = asAudience || (admission.audience ?? false);
    if (audience) cameraOn.value = microphoneOn.value = false;
    const name = displayName.value.trim() || "Guest";
    const joined = await joinRoom({
      ...options,
      peer,
      connection: bus,
      room: roomId.value,
      appData: { name },
      reportStatistics: true,
      audience,
      transports: audience ? "receive" : "both",
    });
    room = joined;
    history.replaceState(null, "", addressOf(roomId.value));
    follow(joined, name);
    phase.value = "call";
  } catch (error) {
    problem.value = `Joining failed: ${error instanceof Error ? error.message : String(error)}`;
    phase.value = "lobby";
  }
}

/** The address of a room, for ourselves. */
export function addressOf(id: string): string {
  const address = new URL(location.href);
  address.searchParams.set("room", id);
  return address.href;
}

/** The address that others open to come here: it does not make them hosts. */
export function invitation(who: "guest" | "audience" = "guest"): string {
  const address = new URL(addressOf(roomId.value));
  for (const name of [...address.searchParams.keys()]) if (name !== "room") address.searchParams.delete(name);
  if (who === "audience") address.searchParams.set("audience", "");
  const key = who === "audience" ? allowed.value.audienceKey : allowed.value.guestKey;
  if (key) address.hash = `key=${key}`;
  return address.href;
}

// --- what a host may do to others ---------------------------------------------------------------------

export const mute = (person: Person) =>
  moderated(`${person.name} is muted`, async (joined) => {
    const microphones = [...joined.producers.values()].filter((it) => it.peer === person.id && it.kind === "audio" && !it.paused);
    await Promise.all(microphones.map((it) => joined.muteProducer(it.id)));
  });

export const lowerHand = (person: Person) =>
  moderated("", async (joined) => {
    const hand = [...joined.producers.values()].find((it) => it.peer === person.id && it.label === HAND);
    if (hand) await joined.closeProducer(hand.id);
  });

export const bringToStage = ({ id, name }: Pick<Person, "id" | "name">) => moderated(`${name} is on the stage`, (joined) => joined.setPeerAudience(id, false));

export const moveToAudience = (person: Person) => moderated(`${person.name} is in the audience`, (joined) => joined.setPeerAudience(person.id, true));

export const remove = (person: Person) => moderated(`${person.name} was removed`, (joined) => joined.removePeer(person.id));

async function moderated(done: string, act: (joined: Room) => Promise<void>): Promise<void> {
  if (!room) return;
  try {
    await act(room);
    if (done) note(done);
    refreshAudience();
  } catch (error) {
    note(`That failed: ${(error as Error).message}`);
  }
}

export async function leave(): Promise<void> {
  await room?.leave();
}

export function startPlayback(): void {
  playbackBlocked.value = false;
  room?.startPlayback();
}

/** The server and worker that this peer is on. */
export function ownPlacement() {
  return room?.placement;
}

export function ownPeerId(): string | undefined {
  return room?.peerId;
}

export async function toggleScreen(): Promise<void> {
  if (sharing.value) return stopScreen();
  let stream: MediaStream;
  try {
    stream = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: { ideal: 15, max: 30 } }, audio: true });
  } catch (error) {
    if ((error as DOMException).name !== "NotAllowedError") note(`The screen cannot be shared: ${(error as Error).message}`);
    return;
  }
  const [video] = stream.getVideoTracks();
  const [audio] = stream.getAudioTracks();
  if (!room || !video) return stream.getTracks().forEach((track) => track.stop());
  video.contentHint = "detail"; // where there is too little of anything: fewer pictures, not blurred text
  screenTrack = video;
  sharing.value = true;
  video.addEventListener("ended", () => void stopScreen());
  refresh();
  try {
    await room.publish(video, { source: "screen" });
    if (audio) await room.publish(audio, { source: "screen-audio" });
  } catch (error) {
    note(`The screen cannot be shared: ${(error as Error).message}`);
    await stopScreen();
  }
}

async function stopScreen(): Promise<void> {
  sharing.value = false;
  screenTrack = undefined;
  const shared = publicationsOf("screen", "screen-audio");
  refresh();
  await Promise.all(shared.map(async (publication) => (publication.track.stop(), await publication.close())));
}

function publicationsOf(...sources: string[]): LocalPublication[] {
  return [...(room?.publications.values() ?? [])].filter((publication) => sources.includes(publication.source));
}

// --- following the room -----------------------------------------------------------------------------

function follow(joined: Room, name: string): void {
  connection.value = { state: joined.state, reason: "" };
  joined.on("stateChanged", (change) => (connection.value = change));
  joined.on("peerJoined", (peer) => peer.id !== joined.peerId && note(`${nameOf(peer)} joined`));
  joined.on("peerLeft", (peer) => peer.id !== joined.peerId && note(`${nameOf(peer)} left`));
  for (const name of ["peerJoined", "peerLeft", "producerAdded", "producerChanged", "producerRemoved", "subscriptionChanged", "publicationChanged", "dataPublicationChanged"] as const) {
    joined.on(name, refresh);
  }
  joined.on("mutedByModerator", (it) => {
    if (it.source !== "microphone") return;
    microphoneOn.value = false;
    const moderator = it.moderator === undefined ? undefined : joined.peers.get(it.moderator);
    note(moderator ? `${nameOf(moderator)} has muted you` : "A host has muted you");
  });
  onStage.value = !joined.isAudience;
  startChat(joined, (id) => nameOf(joined.peers.get(id) ?? { id, appData: {} }), name);
  stops.push(watchAudience(joined, { isHost: () => allowed.value.moderate ?? false, nameOf, note }));
  joined.on("playbackBlocked", () => (playbackBlocked.value = true));
  joined.on("ended", ({ error }) => {
    if (error?.code === "not-joined") problem.value = "You were removed from the room, or it was ended.";
    else problem.value = error ? error.message : "";
    phase.value = "ended";
    stop();
  });
  stops.push(effect(publishCamera), effect(publishMicrophone), effect(routeSound));
  joined.on("speakersChanged", showSpeakers);
  stops.push(followQuality(joined));
  const onHide = () => void joined.leave();
  addEventListener("pagehide", onHide);
  stops.push(() => removeEventListener("pagehide", onHide));
  refresh();
}

function stop(): void {
  for (const it of stops.splice(0)) it();
  for (const player of players.values()) player.remove();
  players.clear();
  for (const track of [screenTrack, cameraTrack.peek(), microphoneTrack.peek()]) track?.stop();
  screenTrack = cameraTrack.value = microphoneTrack.value = undefined;
  room = undefined;
  stopChat();
  pinned.value = undefined;
  sharing.value = onlyReceives.value = false;
  people.value = [];
  speaking.value = new Set();
  activeSpeaker.value = undefined;
}

/** A host has brought us to the stage, or back: what we send begins with a click of our own. */
function changeStage(isOnStage: boolean): void {
  cameraOn.value = microphoneOn.value = false;
  if (!isOnStage) {
    microphoneTrack.value?.stop();
    microphoneTrack.value = undefined;
    if (sharing.value) void stopScreen();
  }
  onStage.value = isOnStage;
  note(isOnStage ? "You are on the stage: switch your microphone or camera on to be heard and seen" : "You are in the audience now");
  if (isOnStage) void startDevices();
  changeChatStage(isOnStage);
}

/** What a peer calls itself; its id if it does not, as a bot may. */
function nameOf(peer: Pick<PeerInfo, "id" | "appData">): string {
  const { name } = peer.appData;
  return typeof name === "string" && name ? name.slice(0, MAX_NAME_LENGTH) : peer.id;
}

let isStale = false;

/** Computes `people` again, once for all events of one turn. */
function refresh(): void {
  if (isStale) return;
  isStale = true;
  queueMicrotask(() => {
    isStale = false;
    if (!room) return;
    playSound(room);
    if (onStage.value === room.isAudience) changeStage(!room.isAudience);
    people.value = [...room.peers.values()].map((peer) => person(room as Room, peer)).sort((a, b) => Number(b.isSelf) - Number(a.isSelf));
  });
}

function person(joined: Room, peer: PeerInfo): Person {
  const { id } = peer;
  const isSelf = id === joined.peerId;
  const name = nameOf(peer);
  if (isSelf) {
    const publications = publicationsOf("camera", "microphone");
    return {
      id,
      name,
      isSelf,
      isMuted: !microphoneOn.value,
      hasHandUp: [...joined.dataPublications.values()].some((it) => it.label === HAND),
      camera: cameraTrack.value,
      screen: screenTrack,
      isWaiting: publications.some((publication) => publication.state === "opening"),
    };
  }
  const producers = [...joined.producers.values()].filter((producer) => producer.peer === id);
  const subscriptions = [...joined.subscriptions.values()].filter((it) => it.producer.peer === id);
  const video = (source: string) => subscriptions.find((it) => it.producer.kind === "video" && it.producer.appData.source === source);
  const microphone = producers.find((producer) => producer.kind === "audio" && producer.appData.source !== "screen-audio");
  return {
    id,
    name,
    isSelf,
    isMuted: !microphone || microphone.paused,
    hasHandUp: producers.some((producer) => producer.label === HAND),
    camera: video("camera") ?? video("file") ?? subscriptions.find((it) => it.producer.kind === "video" && it.producer.appData.source === undefined),
    screen: video("screen"),
    isWaiting: subscriptions.some((it) => it.state === "opening"),
  };
}

// --- what we send -----------------------------------------------------------------------------------

let cameraJob: Promise<void> = Promise.resolve();
let microphoneJob: Promise<void> = Promise.resolve();

function publishCamera(): void {
  const track = cameraTrack.value;
  const maySend = onStage.value;
  cameraJob = cameraJob.then(() => (maySend ? publishAs("camera", track) : undefined)).then(refresh);
}

function publishMicrophone(): void {
  const track = microphoneTrack.value;
  const isOn = microphoneOn.value;
  const maySend = onStage.value;
  microphoneJob = microphoneJob
    .then(async () => {
      if (!maySend) return;
      await publishAs("microphone", track);
      const [publication] = publicationsOf("microphone");
      if (publication && publication.muted === isOn) await (isOn ? publication.unmute() : publication.mute());
    })
    .catch((error: unknown) => console.warn("mafalda: not muted", error))
    .then(refresh);
}

async function publishAs(source: "camera" | "microphone", track: MediaStreamTrack | undefined): Promise<void> {
  const [publication] = publicationsOf(source);
  try {
    if (!track) await publication?.close();
    else if (publication) await publication.replaceTrack(track);
    else await room?.publish(track, { source, muted: source === "microphone" && !microphoneOn.peek(), simulcast: source === "camera" && !videoSize });
  } catch (error) {
    if (!room) return;
    (source === "camera" ? cameraOn : microphoneOn).value = false;
    if (error instanceof MafaldaError && error.code === "permission-denied") onlyReceives.value = true;
    else note(`The ${source} cannot be sent: ${(error as Error).message}`);
  }
}

// --- what we hear -----------------------------------------------------------------------------------

function playSound(joined: Room): void {
  for (const [id, subscription] of joined.subscriptions) {
    if (subscription.producer.kind !== "audio" || players.has(id)) continue;
    const player = new Audio();
    if (speakerId.value) void player.setSinkId?.(speakerId.value).catch(() => undefined);
    players.set(id, player);
    subscription.attach(player);
  }
  for (const id of [...players.keys()]) if (!joined.subscriptions.has(id)) players.delete(id);
}

function routeSound(): void {
  const sink = speakerId.value;
  for (const player of players.values()) void player.setSinkId?.(sink).catch(() => undefined);
}

/** Who speaks by what the fleet hears on all its workers: the tiles' borders, and who is shown large. */
function showSpeakers(speakers: readonly Speaker[]): void {
  speaking.value = new Set(speakers.map(({ peer }) => peer));
  const loudest = speakers.find(({ peer }) => peer !== room?.peerId);
  if (loudest) activeSpeaker.value = loudest.peer; // who spoke last stays
}

/** Switches for the views. */
export const toggleMicrophone = () => void (microphoneOn.value = !microphoneOn.value);
export const toggleCamera = () => void (cameraOn.value = !cameraOn.value);
