/** The call: stage, controls, panels, and what is said about the connection. */

import { useEffect, useRef } from "preact/hooks";
import { Hand, LayoutGrid, MessageSquare, Mic, MicOff, MonitorUp, MonitorX, Network, PhoneOff, Settings, Smile, SquareUser, Users, Video, VideoOff } from "lucide-preact";
import type { ComponentChildren } from "preact";
import { connection, leave, notes, onlyReceives, onStage, people, playbackBlocked, sharer, sharing, startPlayback, toggleCamera, toggleMicrophone, toggleScreen } from "../state/call.js";
import { handRaised, react, REACTIONS, toggleHand, unread } from "../state/chat.js";
import { cameraOn, deviceProblem, microphoneOn } from "../state/devices.js";
import { roomId } from "../state/settings.js";
import { layout, panel, togglePanel } from "../state/view.js";
import { Brand, ThemeSwitch } from "./brand.js";
import { ChatPanel } from "./chat-panel.js";
import { FleetPanel } from "./fleet-panel.js";
import { PeoplePanel, SettingsPanel } from "./panels.js";
import { Stage } from "./stage.js";

const toggleLayout = () => void (layout.value = layout.value === "grid" ? "speaker" : "grid");

const SHORTCUTS: Record<string, () => unknown> = {
  m: () => onStage.value && toggleMicrophone(),
  v: () => onStage.value && toggleCamera(),
  s: () => onStage.value && void toggleScreen(),
  g: toggleLayout,
  p: () => togglePanel("people"),
  c: () => togglePanel("chat"),
  h: () => void toggleHand(),
  f: () => togglePanel("fleet"),
};

function onKey(event: KeyboardEvent): void {
  if (event.key === "Escape") return void (panel.value = undefined);
  const isTyping = event.target instanceof HTMLElement && event.target.closest("input, select, textarea") !== null;
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const action = SHORTCUTS[event.key.toLowerCase()];
  if (!action) return;
  event.preventDefault();
  action();
}

export function Call() {
  useEffect(() => {
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
  return (
    <div class={`call ${panel.value ? "with-panel" : ""}`}>
      <header class="call-head">
        <Brand />
        <h1>{roomId}</h1>
        <Connection />
        <ThemeSwitch />
      </header>
      <main class="call-main" aria-label="Participants">
        <Stage />
        <Banner />
      </main>
      {panel.value === "people" && <PeoplePanel />}
      {panel.value === "chat" && <ChatPanel />}
      {panel.value === "fleet" && <FleetPanel />}
      {panel.value === "settings" && <SettingsPanel />}
      <Controls />
      <div class="notes" role="status" aria-live="polite">
        {notes.value.map((note) => (
          <p key={note.id}>{note.text}</p>
        ))}
      </div>
    </div>
  );
}

function Connection() {
  const { state, reason } = connection.value;
  const isGood = state === "joined";
  return (
    <span class={`connection ${isGood ? "good" : "bad"}`} role="status" title={reason} data-state={state}>
      <i aria-hidden />
      <span>{isGood ? "Connected" : "Reconnecting…"}</span>
    </span>
  );
}

function Banner() {
  if (playbackBlocked.value) {
    return (
      <button class="banner" onClick={startPlayback}>
        The browser has muted this page. Click to hear the others.
      </button>
    );
  }
  if (connection.value.state === "reconnecting") return <p class="banner">Reconnecting: {connection.value.reason}</p>;
  if (!onStage.value) return <p class="banner quiet">You are in the audience: you watch and listen. Raise your hand to be brought to the stage.</p>;
  if (onlyReceives.value) return <p class="banner quiet">You can watch and listen. Your invitation does not let you send camera or microphone.</p>;
  if (deviceProblem.value) return <p class="banner quiet">{deviceProblem}</p>;
  return null;
}

interface ControlProps {
  label: string;
  shortcut?: string;
  pressed?: boolean;
  off?: boolean;
  onClick: () => void;
  class?: string;
  children: ComponentChildren;
}

function Control({ label, shortcut, pressed, off, onClick, class: extra = "", children }: ControlProps) {
  return (
    <button
      class={`round ${off ? "off" : ""} ${pressed && !off ? "on" : ""} ${extra}`}
      onClick={onClick}
      aria-label={label}
      aria-pressed={pressed}
      aria-keyshortcuts={shortcut?.toUpperCase()}
      title={shortcut ? `${label} (${shortcut.toUpperCase()})` : label}
    >
      {children}
    </button>
  );
}

function Controls() {
  const canShare = "getDisplayMedia" in (navigator.mediaDevices ?? {});
  const isGrid = layout.value === "grid" && !sharer.value;
  return (
    <nav class="controls" aria-label="Call controls">
      <div class="controls-group">
        {onStage.value && (
          <>
            <Control label={microphoneOn.value ? "Mute the microphone" : "Unmute the microphone"} shortcut="m" off={!microphoneOn.value} onClick={toggleMicrophone}>
              {microphoneOn.value ? <Mic aria-hidden /> : <MicOff aria-hidden />}
            </Control>
            <Control label={cameraOn.value ? "Switch the camera off" : "Switch the camera on"} shortcut="v" off={!cameraOn.value} onClick={toggleCamera}>
              {cameraOn.value ? <Video aria-hidden /> : <VideoOff aria-hidden />}
            </Control>
          </>
        )}
        {onStage.value && canShare && (
          <Control label={sharing.value ? "Stop sharing the screen" : "Share the screen"} shortcut="s" pressed={sharing.value} onClick={() => void toggleScreen()}>
            {sharing.value ? <MonitorX aria-hidden /> : <MonitorUp aria-hidden />}
          </Control>
        )}
        <Control label={handRaised.value ? "Lower your hand" : "Raise your hand"} shortcut="h" pressed={handRaised.value} onClick={() => void toggleHand()}>
          <Hand aria-hidden />
        </Control>
        {onStage.value && <Reactions />}
        <button class="leave" onClick={() => void leave()} aria-label="Leave the room" title="Leave the room">
          <PhoneOff aria-hidden />
          <span>Leave</span>
        </button>
      </div>
      <div class="controls-group side">
        <Control label={isGrid ? "Speaker view" : "Grid view"} shortcut="g" onClick={toggleLayout}>
          {isGrid ? <SquareUser aria-hidden /> : <LayoutGrid aria-hidden />}
        </Control>
        <Control label={`People: ${people.value.length}`} shortcut="p" pressed={panel.value === "people"} onClick={() => togglePanel("people")}>
          <Users aria-hidden />
          <b class="count" aria-hidden>
            {people.value.length}
          </b>
        </Control>
        <Control label={unread.value ? `Chat: ${unread.value} new` : "Chat"} shortcut="c" pressed={panel.value === "chat"} onClick={() => togglePanel("chat")}>
          <MessageSquare aria-hidden />
          {unread.value > 0 && (
            <b class="count" aria-hidden>
              {unread.value}
            </b>
          )}
        </Control>
        <Control label="Who is on which worker" shortcut="f" pressed={panel.value === "fleet"} onClick={() => togglePanel("fleet")}>
          <Network aria-hidden />
        </Control>
        <Control label="Devices" pressed={panel.value === "settings"} onClick={() => togglePanel("settings")}>
          <Settings aria-hidden />
        </Control>
      </div>
    </nav>
  );
}

/** A popover closes by Escape, or a click elsewhere, without a word of ours. */
function Reactions() {
  const choice = useRef<HTMLDivElement>(null);
  return (
    <>
      <button class="round" popovertarget="reactions" aria-label="React" title="React">
        <Smile aria-hidden />
      </button>
      <div id="reactions" class="reactions" popover="auto" ref={choice} role="group" aria-label="Reactions">
        {REACTIONS.map((emoji) => (
          <button
            key={emoji}
            class="plain"
            aria-label={emoji}
            onClick={() => {
              react(emoji);
              choice.current?.hidePopover();
            }}
          >
            {emoji}
          </button>
        ))}
      </div>
    </>
  );
}
