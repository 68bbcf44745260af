/** Errors by cause. `code` is the word that the fleet uses on the wire, or one of the SDK's own. */

import type { ErrorInfo } from "./protocol/messages.js";

/** The root of all errors that the SDK raises on purpose. */
export class MafaldaError extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly details: Readonly<Record<string, unknown>> = {},
  ) {
    super(message);
    this.name = new.target.name;
  }
}

/** The fleet understood what was asked and said no; asking the same again changes nothing. */
export class Refused extends MafaldaError {}

/** The outside failed: NATS, the network, a worker. A retry may help. */
export class Unavailable extends MafaldaError {}

/** The room was left, or what was used has been closed. */
export class Closed extends MafaldaError {
  constructor(message: string) {
    super("closed", message);
  }
}

const UNAVAILABLE = new Set(["bus-unavailable", "deadline-exceeded", "worker-died", "worker-request-failed", "relay-failed"]);

/** The error that a `Rejected` result carries. */
export function fromErrorInfo(info: ErrorInfo): MafaldaError {
  const type = UNAVAILABLE.has(info.code) ? Unavailable : Refused;
  return new type(info.code, info.message, info.details ?? {});
}
