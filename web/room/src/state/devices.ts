/** Camera and microphone of this participant: choosing, opening, switching off, and how loud the microphone is. */

import { effect, signal } from "@preact/signals";
import { cameraId, microphoneId, videoSize } from "./settings.js";

export const devices = signal<MediaDeviceInfo[]>([]);
export const cameraOn = signal(true);
export const microphoneOn = signal(true);
export const cameraTrack = signal<MediaStreamTrack | undefined>(undefined);
export const microphoneTrack = signal<MediaStreamTrack | undefined>(undefined);
/** Why a device could not be opened, for people. */
export const deviceProblem = signal("");

const PROBLEMS: Record<string, string> = {
  NotAllowedError: "The browser was not allowed to use camera or microphone. You can still join, and allow it later.",
  NotFoundError: "No camera or microphone was found. You can still join, to watch and listen.",
  NotReadableError: "Another application is using the camera or the microphone.",
};

function constraints(kind: "camera" | "microphone"): MediaStreamConstraints {
  if (kind === "microphone") {
    const device = microphoneId.value ? { deviceId: { ideal: microphoneId.value } } : {};
    return { audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true, ...device } };
  }
  const [width, height] = videoSize ?? [1280, 720];
  const device = cameraId.value ? { deviceId: { ideal: cameraId.value } } : {};
  return { video: { width: { ideal: width }, height: { ideal: height }, frameRate: { ideal: videoSize ? 15 : 30 }, ...device } };
}

async function open(kind: "camera" | "microphone"): Promise<void> {
  const target = kind === "camera" ? cameraTrack : microphoneTrack;
  const wanted = kind === "camera" ? cameraOn : microphoneOn;
  try {
    const stream = await navigator.mediaDevices.getUserMedia(constraints(kind));
    const track = stream.getTracks()[0];
    if (!track || !wanted.peek()) return stream.getTracks().forEach((it) => it.stop());
    track.addEventListener("ended", () => {
      if (target.peek() !== track) return;
      wanted.value = false;
      target.value = undefined;
    });
    const before = target.peek();
    target.value = track;
    before?.stop();
    deviceProblem.value = "";
  } catch (error) {
    wanted.value = false;
    deviceProblem.value = PROBLEMS[(error as DOMException).name] ?? `The ${kind} could not be opened: ${(error as Error).message}`;
  }
  await refreshDevices();
}

export async function refreshDevices(): Promise<void> {
  devices.value = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
}

let isStarted = false;

/** Opens what is switched on; follows the switches, the choices and the plugging of devices from then on. */
export async function startDevices(): Promise<void> {
  if (isStarted) return;
  isStarted = true;
  if (!navigator.mediaDevices) {
    cameraOn.value = microphoneOn.value = false;
    deviceProblem.value = "The browser gives camera and microphone to secure pages only: open this page by https or on localhost.";
    return;
  }
  navigator.mediaDevices.addEventListener("devicechange", () => void refreshDevices());
  let pending: Promise<void> = Promise.resolve();
  const follow = (kind: "camera" | "microphone") => {
    const [wanted, chosen, target] = kind === "camera" ? [cameraOn, cameraId, cameraTrack] : [microphoneOn, microphoneId, microphoneTrack];
    effect(() => {
      void chosen.value;
      if (wanted.value) pending = pending.then(() => (wanted.peek() ? open(kind) : undefined));
      else if (kind === "camera") {
        target.peek()?.stop();
        target.value = undefined;
      }
    });
  };
  follow("camera");
  follow("microphone");
  await pending;
}

/** Calls back about ten times a second with the loudness of a track, from 0 to 1; returns what stops it. */
export function watchLevel(track: MediaStreamTrack, onLevel: (level: number) => void): () => void {
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  analyser.fftSize = 512;
  context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const timer = setInterval(() => {
    analyser.getFloatTimeDomainData(samples);
    const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
    onLevel(Math.min(1, Math.sqrt(power) * 3));
  }, 100);
  return () => {
    clearInterval(timer);
    void context.close();
  };
}
