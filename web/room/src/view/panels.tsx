/** What opens beside the stage: people, devices. */

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { ComponentChildren } from "preact";
import { Check, Hand, Link, Mic, MicOff, Pin, PinOff, UserX, Video, VideoOff, X } from "lucide-preact";
import { allowed, invitation, lowerHand, mute, people, remove, speaking, type Person } from "../state/call.js";
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
      <Invitation />
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
    </PanelFrame>
  );
}

/** What can be done with a person; most of it by a host alone. */
function Actions({ person }: { person: Person }) {
  const isPinned = pinned.value === person.id;
  const actions = [
    { label: isPinned ? "Unpin" : "Pin", Icon: isPinned ? PinOff : Pin, act: () => togglePin(person.id), isOffered: true },
    { label: "Lower the hand of", Icon: Hand, act: () => void lowerHand(person), isOffered: person.hasHandUp && !person.isSelf && allowed.value.moderate },
    { label: "Mute", Icon: MicOff, act: () => void mute(person), isOffered: !person.isMuted && !person.isSelf && allowed.value.moderate },
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

function Invitation() {
  const isCopied = useSignal(false);
  const copy = async () => {
    await navigator.clipboard.writeText(invitation());
    isCopied.value = true;
    setTimeout(() => (isCopied.value = false), 2_000);
  };
  return (
    <button class="button wide" onClick={() => void copy()}>
      {isCopied.value ? <Check size={17} aria-hidden /> : <Link size={17} aria-hidden />}
      <span aria-live="polite">{isCopied.value ? "Copied" : "Copy the room's address"}</span>
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
