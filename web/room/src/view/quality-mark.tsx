/** Shown at the name of somebody whose connection is not fine. */

import { SignalLow, SignalZero } from "lucide-preact";
import { badConnections } from "../state/quality.js";

export function QualityMark({ peer }: { peer: string }) {
  const quality = badConnections.value.get(peer);
  if (!quality) return null;
  const [Icon, label] = quality === "lost" ? [SignalZero, "No connection"] : [SignalLow, "Poor connection"];
  return <Icon size={14} class={`quality-mark ${quality}`} role="img" aria-label={label} />;
}
