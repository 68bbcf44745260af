/** What opens beside the stage: people, devices. */

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { ComponentChildren } from "preact";
import { Check, Link, Mic, MicOff, Video, VideoOff, X } from "lucide-preact";
import { addressOf, people, speaking } from "../state/call.js";
import { roomId } from "../state/settings.js";
import { panel } from "../state/view.js";
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
      <div class="panel-body">{children}</div>
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
            {person.isMuted ? <MicOff size={17} class="muted-mark" aria-label="microphone off" /> : <Mic size={17} aria-label="microphone on" />}
            {person.camera ? <Video size={17} aria-label="camera on" /> : <VideoOff size={17} class="dim" aria-label="camera off" />}
          </li>
        ))}
      </ul>
    </PanelFrame>
  );
}

function Invitation() {
  const isCopied = useSignal(false);
  const copy = async () => {
    await navigator.clipboard.writeText(addressOf(roomId.value));
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
