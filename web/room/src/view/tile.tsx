/** One picture on the stage: a camera or a screen, or who it would show. */

import { useEffect, useRef } from "preact/hooks";
import type { RemoteSubscription } from "mafalda-client";
import { Hand, MicOff, MonitorUp } from "lucide-preact";
import { reactions } from "../state/chat.js";
import { speaking, type Person } from "../state/call.js";
import { QualityMark } from "./quality-mark.js";

export function TrackVideo({ track, mirrored = false, label }: { track: MediaStreamTrack; mirrored?: boolean; label: string }) {
  const element = useRef<HTMLVideoElement>(null);
  useEffect(() => {
    if (element.current) element.current.srcObject = new MediaStream([track]);
  }, [track]);
  return <video ref={element} class={mirrored ? "mirrored" : ""} autoplay playsInline muted aria-label={label} />;
}

function RemoteVideo({ subscription, label }: { subscription: RemoteSubscription; label: string }) {
  const element = useRef<HTMLVideoElement>(null);
  useEffect(() => {
    const video = element.current;
    if (!video) return;
    subscription.attach(video);
    return () => subscription.detach(video);
  }, [subscription]);
  return <video ref={element} autoplay playsInline muted aria-label={label} />;
}

function Video({ source, mirrored, label }: { source: RemoteSubscription | MediaStreamTrack; mirrored: boolean; label: string }) {
  if (source instanceof MediaStreamTrack) return <TrackVideo track={source} mirrored={mirrored} label={label} />;
  return <RemoteVideo subscription={source} label={label} />;
}

/** A colour of one's own, from the id. */
export function hueOf(id: string): number {
  let hash = 2166136261; // FNV-1a
  for (const character of id) hash = Math.imul(hash ^ character.charCodeAt(0), 16777619) >>> 0;
  return hash % 360;
}

export function initialsOf(name: string): string {
  const words = name.trim().split(/\s+/);
  return words
    .slice(0, 2)
    .map((word) => [...word][0] ?? "")
    .join("")
    .toUpperCase();
}

export function Avatar({ person, size }: { person: Pick<Person, "id" | "name">; size: "small" | "large" }) {
  return (
    <span class={`avatar ${size}`} style={{ "--hue": hueOf(person.id) }} aria-hidden>
      {initialsOf(person.name)}
    </span>
  );
}

export interface TileProps {
  person: Person;
  what: "camera" | "screen";
  style?: Record<string, string>;
}

export function Tile({ person, what, style }: TileProps) {
  const source = what === "camera" ? person.camera : person.screen;
  const title = person.isSelf ? `${person.name} (you)` : person.name;
  const isSpeaking = what === "camera" && speaking.value.has(person.id);
  const reaction = what === "camera" ? reactions.value.get(person.id) : undefined;
  const isWaiting = !person.isSelf && person.isWaiting;
  return (
    <figure class={`tile ${what} ${isSpeaking ? "speaking" : ""} ${isWaiting ? "waiting" : ""}`} style={style} data-peer={person.id} data-what={what}>
      {source ? <Video source={source} mirrored={person.isSelf && what === "camera"} label={what === "camera" ? `Video of ${title}` : `Screen of ${title}`} /> : <Avatar person={person} size="large" />}
      {isWaiting && <div class="tile-wait">Reconnecting…</div>}
      {reaction && (
        <span key={reaction.id} class="reaction" role="img" aria-label={`${person.name} reacts with ${reaction.emoji}`}>
          {reaction.emoji}
        </span>
      )}
      <figcaption>
        {what === "screen" && <MonitorUp size={14} aria-hidden />}
        {what === "camera" && person.hasHandUp && <Hand size={14} class="hand" aria-label="Hand raised" />}
        {what === "camera" && person.isMuted && <MicOff size={14} class="muted-mark" aria-label="Microphone off" />}
        {what === "camera" && <QualityMark peer={person.id} />}
        <span>{what === "screen" ? `${title}: screen` : title}</span>
      </figcaption>
    </figure>
  );
}
