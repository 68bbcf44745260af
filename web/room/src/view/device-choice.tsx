/** Which camera, microphone and loudspeaker. */

import type { Signal } from "@preact/signals";
import { devices } from "../state/devices.js";
import { cameraId, microphoneId, speakerId } from "../state/settings.js";

export function DeviceChoice() {
  const canChooseSpeaker = "setSinkId" in HTMLMediaElement.prototype;
  return (
    <div class="devices">
      <Choice label="Camera" kind="videoinput" chosen={cameraId} />
      <Choice label="Microphone" kind="audioinput" chosen={microphoneId} />
      {canChooseSpeaker && <Choice label="Speaker" kind="audiooutput" chosen={speakerId} />}
    </div>
  );
}

function Choice({ label, kind, chosen }: { label: string; kind: MediaDeviceKind; chosen: Signal<string> }) {
  const found = devices.value.filter((device) => device.kind === kind && device.deviceId !== "");
  if (found.length === 0) return null;
  const value = found.some((device) => device.deviceId === chosen.value) ? chosen.value : found[0]?.deviceId;
  return (
    <label class="field">
      <span>{label}</span>
      <select value={value ?? ""} onChange={(event) => (chosen.value = event.currentTarget.value)}>
        {found.map((device, index) => (
          <option key={device.deviceId} value={device.deviceId}>
            {device.label || `${label} ${index + 1}`}
          </option>
        ))}
      </select>
    </label>
  );
}
