/** Before the call: preview, devices, name, room. */

import { useComputed, useSignal, useSignalEffect } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { Mic, MicOff, Video, VideoOff } from "lucide-preact";
import { join, phase, problem, toggleCamera, toggleMicrophone } from "../state/call.js";
import { cameraOn, cameraTrack, deviceProblem, microphoneOn, microphoneTrack, startDevices, watchLevel } from "../state/devices.js";
import { prepare } from "../state/entrance.js";
import { asAudience, displayName, MAX_NAME_LENGTH, roomFromAddress, roomId } from "../state/settings.js";
import { DeviceChoice } from "./device-choice.js";
import { Brand, ThemeSwitch } from "./brand.js";
import { TrackVideo } from "./tile.js";

/** How long the room's name stays as it is before it counts as chosen. */
const SETTLED_MS = 300;

export function Lobby() {
  useEffect(() => {
    if (!asAudience) void startDevices();
  }, []);
  const isIdOk = useComputed(() => /^[A-Za-z0-9_-]{1,64}$/.test(roomId.value));
  useSignalEffect(() => {
    const room = roomId.value;
    if (!isIdOk.value) return;
    const timer = setTimeout(() => prepare(room), SETTLED_MS);
    return () => clearTimeout(timer);
  });
  const isJoining = phase.value === "joining";
  return (
    <div class="lobby">
      <header class="lobby-head">
        <Brand />
        <ThemeSwitch />
      </header>
      <main class={`lobby-main ${asAudience ? "narrow" : ""}`}>
        {!asAudience && <Preview />}
        <form
          class="card join"
          onSubmit={(event) => {
            event.preventDefault();
            if (isIdOk.value && !isJoining) void join();
          }}
        >
          <h1>{roomFromAddress ? `Join ${roomFromAddress}` : "Start or join a room"}</h1>
          <label class="field">
            <span>Your name</span>
            <input value={displayName} onInput={(event) => (displayName.value = event.currentTarget.value)} maxLength={MAX_NAME_LENGTH} autocomplete="name" placeholder="Guest" autofocus />
          </label>
          <label class="field">
            <span>Room</span>
            <input
              value={roomId}
              onInput={(event) => (roomId.value = event.currentTarget.value.trim())}
              aria-invalid={!isIdOk.value}
              aria-describedby="room-hint"
              spellcheck={false}
              autocapitalize="off"
              autocomplete="off"
            />
            <small id="room-hint" class={isIdOk.value ? "hint" : "hint bad"}>
              Letters, digits, - and _. Everybody who enters the same name meets in the same room.
            </small>
          </label>
          {asAudience ? <p class="notice info">You join as audience: you watch and listen, and can raise your hand.</p> : <DeviceChoice />}
          <button class="button primary wide" type="submit" disabled={!isIdOk.value || isJoining}>
            {isJoining ? "Joining…" : "Join now"}
          </button>
          <p class="problem" role="alert">
            {problem}
          </p>
        </form>
      </main>
    </div>
  );
}

function Preview() {
  return (
    <section class="preview" aria-label="Preview">
      <div class="preview-picture">
        {cameraTrack.value ? (
          <TrackVideo track={cameraTrack.value} mirrored label="Preview of your camera" />
        ) : (
          <div class="preview-off">
            <VideoOff size={40} aria-hidden />
            <span>{cameraOn.value ? "Opening the camera…" : "Your camera is off"}</span>
          </div>
        )}
        <div class="preview-controls">
          <button class={`round ${microphoneOn.value ? "" : "off"}`} onClick={toggleMicrophone} aria-pressed={microphoneOn.value} aria-label="Microphone" title="Microphone">
            {microphoneOn.value ? <Mic aria-hidden /> : <MicOff aria-hidden />}
          </button>
          <button class={`round ${cameraOn.value ? "" : "off"}`} onClick={toggleCamera} aria-pressed={cameraOn.value} aria-label="Camera" title="Camera">
            {cameraOn.value ? <Video aria-hidden /> : <VideoOff aria-hidden />}
          </button>
        </div>
      </div>
      <LevelMeter />
      {deviceProblem.value && (
        <p class="notice" role="status">
          {deviceProblem}
        </p>
      )}
    </section>
  );
}

/** How loud the microphone is; grey while it is off. */
function LevelMeter() {
  const level = useSignal(0);
  useSignalEffect(() => {
    const track = microphoneTrack.value;
    level.value = 0;
    if (!track || !microphoneOn.value) return;
    return watchLevel(track, (value) => (level.value = value));
  });
  const lit = Math.round(Math.sqrt(level.value) * 20);
  return (
    <div class="meter-row">
      {microphoneOn.value ? <Mic size={18} aria-hidden /> : <MicOff size={18} aria-hidden />}
      <div class="meter" role="meter" aria-label="Microphone level" aria-valuemin={0} aria-valuemax={100} aria-valuenow={Math.round(level.value * 100)}>
        {Array.from({ length: 20 }, (_, index) => (
          <i key={index} class={index < lit ? (index > 16 ? "lit loud" : "lit") : ""} />
        ))}
      </div>
    </div>
  );
}
