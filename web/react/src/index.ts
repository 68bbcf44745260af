/** Hooks for rooms: what is in a room as React state, and tracks in elements. */

import { useCallback, useEffect, useRef, useState, useSyncExternalStore, type RefCallback } from "react";
import {
  joinRoom,
  type DataReceived,
  type JoinOptions,
  type LocalPublication,
  type PeerInfo,
  type PeerQuality,
  type ProducerInfo,
  type RemoteSubscription,
  type Room,
  type RoomEvents,
  type SessionState,
  type Speaker,
} from "mafalda-client";

/** What `useJoinedRoom` returns. */
export interface JoinedRoom {
  /** Undefined until it is joined, and after an error. */
  readonly room: Room | undefined;
  /** Why it could not be joined, or why it ended by itself. */
  readonly error: Error | undefined;
}

/**
 * Joins a room while the component is mounted, and leaves it afterwards. Another `room`, `peer` or `token` joins again; the other
 * options count when it joins. `undefined` joins nothing.
 */
export function useJoinedRoom(options: JoinOptions | undefined): JoinedRoom {
  const [joined, setJoined] = useState<JoinedRoom>({ room: undefined, error: undefined });
  const latest = useRef(options);
  latest.current = options;
  const token = typeof options?.token === "string" ? options.token : undefined;
  useEffect(() => {
    if (!latest.current) return;
    const aborting = new AbortController();
    const left = joinRoom({ ...latest.current, signal: aborting.signal }).then(
      (room) => {
        if (aborting.signal.aborted) return room.leave();
        room.on("ended", ({ error }) => setJoined({ room: undefined, error }), { signal: aborting.signal });
        setJoined({ room, error: undefined });
        return new Promise<void>((resolve) => aborting.signal.addEventListener("abort", () => resolve(room.leave())));
      },
      (error: Error) => {
        if (!aborting.signal.aborted) setJoined({ room: undefined, error });
      },
    );
    void left.catch(() => undefined);
    return () => {
      aborting.abort();
      setJoined({ room: undefined, error: undefined });
    };
  }, [options?.room, options?.peer, token]);
  return joined;
}

/** `joining`, `joined`, `reconnecting` or `left`; `left` without a room. */
export function useRoomState(room: Room | undefined): SessionState {
  return useRoomValue(room, ["stateChanged"], (it) => it.state, "left");
}

/** Everybody in the room but its audience, ourselves included. */
export function usePeers(room: Room | undefined): readonly PeerInfo[] {
  return useRoomValue(room, ["peerJoined", "peerChanged", "peerLeft"], (it) => [...it.peers.values()], []);
}

/** Everything that is sent in the room. */
export function useProducers(room: Room | undefined): readonly ProducerInfo[] {
  return useRoomValue(room, ["producerAdded", "producerChanged", "producerRemoved"], (it) => [...it.producers.values()], []);
}

/** The tracks that we receive; of one peer, if it is given. */
export function useSubscriptions(room: Room | undefined, peer?: string): readonly RemoteSubscription[] {
  const all = useRoomValue(room, ["subscriptionChanged", "producerChanged"], (it) => [...it.subscriptions.values()], []);
  return peer === undefined ? all : all.filter((it) => it.producer.peer === peer);
}

/** The tracks that we send. */
export function usePublications(room: Room | undefined): readonly LocalPublication[] {
  return useRoomValue(room, ["publicationChanged"], (it) => [...it.publications.values()], []);
}

/** Who speaks now, loudest first, ourselves included. */
export function useSpeakers(room: Room | undefined): readonly Speaker[] {
  return useRoomValue(room, ["speakersChanged"], (it) => it.speakers, []);
}

/** How good both ways of a peer are; without `peer` our own. */
export function useQuality(room: Room | undefined, peer?: string): PeerQuality {
  const [quality, setQuality] = useState<PeerQuality>({});
  useEffect(() => {
    setQuality(room?.quality(peer) ?? {});
    return room?.on("qualityChanged", (change) => {
      if (change.peer === (peer ?? room.peerId)) setQuality(room.quality(peer));
    });
  }, [room, peer]);
  return quality;
}

/** Calls back with each message of a data channel with this label. */
export function useData(room: Room | undefined, label: string, onMessage: (received: DataReceived) => void): void {
  const latest = useRef(onMessage);
  latest.current = onMessage;
  useEffect(() => room?.on("dataReceived", (received) => received.label === label && latest.current(received)), [room, label]);
}

/** Whether the browser lets nothing be heard before a click, and what to call then. */
export function usePlaybackBlocked(room: Room | undefined): readonly [boolean, () => void] {
  const [isBlocked, setBlocked] = useState(false);
  useEffect(() => room?.on("playbackBlocked", () => setBlocked(true)), [room]);
  const start = useCallback(() => {
    setBlocked(false);
    room?.startPlayback();
  }, [room]);
  return [isBlocked, start];
}

/** For the `ref` of a `<video>` or `<audio>`: it shows or plays what is received, in the resolution that it needs. */
export function useTrack(subscription: RemoteSubscription | undefined): RefCallback<HTMLMediaElement> {
  const shown = useRef<HTMLMediaElement | null>(null);
  return useCallback(
    (element) => {
      if (shown.current) subscription?.detach(shown.current);
      shown.current = element;
      if (element) subscription?.attach(element);
    },
    [subscription],
  );
}

/** A value of the room that changes with some of its events. */
function useRoomValue<T>(room: Room | undefined, names: readonly (keyof RoomEvents)[], read: (room: Room) => T, without: T): T {
  const cached = useRef<{ room: Room | undefined; value: T }>(undefined);
  if (!cached.current || cached.current.room !== room) cached.current = { room, value: room ? read(room) : without };
  const subscribe = useCallback(
    (changed: () => void) => {
      if (!room) return () => undefined;
      const update = () => {
        cached.current = { room, value: read(room) };
        changed();
      };
      update(); // it may have changed between the first reading and this
      const stops = names.map((name) => room.on(name, update));
      return () => stops.forEach((stop) => stop());
    },
    // The events and the reading of a hook are always the same.
    [room],
  );
  const get = () => (cached.current as { value: T }).value;
  return useSyncExternalStore(subscribe, get, get);
}
