/** What opens beside the stage: people, devices. */

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { ComponentChildren } from "preact";
import { ArrowDownToLine, ArrowUpToLine, Check, Hand, Link, Mic, MicOff, Pin, PinOff, UserX, Video, VideoOff, X } from "lucide-preact";
import { audienceCount, watchers } from "../state/audience.js";
import { allowed, bringToStage, invitation, lowerHand, moveToAudience, mute, people, remove, speaking, type Person } from "../state/call.js";
import { panel, pinned, togglePin } from "../state/view.js";
import { DeviceChoice } from "./device-choice.js";
import { Avatar } from "./tile.js";

export function PanelFrame({ title, children }: { title: string; children: ComponentChildren }) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => heading.current?.focus(), []);
  return (
    <aside class="panel" aria-label={title}>
      <header>
        <h2 ref={heading} tabIndex={-1}>
          {title}
        </h2>
        <button class="plain" onClick={() => (panel.value = undefined)} aria-label={`Close: ${title}`} title="Close">
          <X size={20} aria-hidden />
        </button>
      </header>
      <div class="panel-body" tabIndex={0}>
        {children}
      </div>
    </aside>
  );
}

export function PeoplePanel() {
  return (
    <PanelFrame title="People">
      <Invitation who="guest" label="Copy the room's address" />
      {allowed.value.audienceKey && <Invitation who="audience" label="Copy the audience's address" />}
      <ul class="people">
        {people.value.map((person) => (
          <li key={person.id} class={speaking.value.has(person.id) ? "speaking" : ""}>
            <Avatar person={person} size="small" />
            <span class="people-name">
              {person.name} {person.isSelf && <small>you</small>}
            </span>
            {person.hasHandUp && <Hand size={17} class="hand" aria-label="hand raised" />}
            {person.isMuted ? <MicOff size={17} class="muted-mark" aria-label="microphone off" /> : <Mic size={17} aria-label="microphone on" />}
            {person.camera ? <Video size={17} aria-label="camera on" /> : <VideoOff size={17} class="dim" aria-label="camera off" />}
            <Actions person={person} />
          </li>
        ))}
      </ul>
      <Audience />
    </PanelFrame>
  );
}

/** How many watch and listen; for a host who, to bring them to the stage. */
function Audience() {
  const count = audienceCount.value;
  if (count === 0) return null;
  return (
    <section class="audience" aria-labelledby="audience-title">
      <h3 id="audience-title">Audience: {count}</h3>
      <ul class="people">
        {watchers.value.map((watcher) => (
          <li key={watcher.id}>
            <Avatar person={watcher} size="small" />
            <span class="people-name">{watcher.name}</span>
            {watcher.hasHandUp && <Hand size={17} class="hand" aria-label="hand raised" />}
            <button class="plain" onClick={() => void bringToStage(watcher)} aria-label={`Bring ${watcher.name} to the stage`} title={`Bring ${watcher.name} to the stage`}>
              <ArrowUpToLine size={17} aria-hidden />
            </button>
          </li>
        ))}
      </ul>
      {watchers.value.length > 0 && count > watchers.value.length && <p class="dim">and {count - watchers.value.length} more</p>}
    </section>
  );
}

/** What can be done with a person; most of it by a host alone. */
function Actions({ person }: { person: Person }) {
  const isPinned = pinned.value === person.id;
  const actions = [
    { label: isPinned ? "Unpin" : "Pin", Icon: isPinned ? PinOff : Pin, act: () => togglePin(person.id), isOffered: true },
    { label: "Lower the hand of", Icon: Hand, act: () => void lowerHand(person), isOffered: person.hasHandUp && !person.isSelf && allowed.value.moderate },
    { label: "Mute", Icon: MicOff, act: () => void mute(person), isOffered: !person.isMuted && !person.isSelf && allowed.value.moderate },
    { label: "Move to the audience:", Icon: ArrowDownToLine, act: () => void moveToAudience(person), isOffered: !person.isSelf && allowed.value.moderate },
    { label: "Remove", Icon: UserX, act: () => void remove(person), isOffered: !person.isSelf && allowed.value.moderate },
  ].filter(({ isOffered }) => isOffered);
  return (
    <span class="actions">
      {actions.map(({ label, Icon, act }) => (
        <button key={label} class="plain" onClick={act} aria-label={`${label} ${person.name}`} title={`${label} ${person.name}`}>
          <Icon size={17} aria-hidden />
        </button>
      ))}
    </span>
  );
}

function Invitation({ who, label }: { who: "guest" | "audience"; label: string }) {
  const isCopied = useSignal(false);
  const copy = async () => {
    await navigator.clipboard.writeText(invitation(who));
    isCopied.value = true;
    setTimeout(() => (isCopied.value = false), 2_000);
  };
  return (
    <button class="button wide" onClick={() => void copy()}>
      {isCopied.value ? <Check size={17} aria-hidden /> : <Link size={17} aria-hidden />}
      <span aria-live="polite">{isCopied.value ? "Copied" : label}</span>
    </button>
  );
}

export function SettingsPanel() {
  return (
    <PanelFrame title="Devices">
      <DeviceChoice />
    </PanelFrame>
  );
}
