/** CloudEvents 1.0 in JSON, structured mode: how every message of Mafalda looks. */

import { MafaldaError } from "../errors.js";
import type { MessageData } from "./messages.js";
import { newId } from "./subjects.js";

export type MessageType = keyof MessageData;

/** One message. `data` fits `type`. */
export interface Message<T extends MessageType = MessageType> {
  readonly specversion: "1.0";
  readonly id: string;
  readonly source: string;
  readonly type: T;
  readonly subject?: string;
  readonly time: string;
  readonly datacontenttype: "application/json";
  readonly correlationid?: string;
  readonly causationid?: string;
  readonly data: MessageData[T];
}

/** A message of one known type, so that checking `type` narrows `data`. */
export type AnyMessage = { [T in MessageType]: Message<T> }[MessageType];

/** Fields without a value are absent, never null: `undefined` is left out by JSON. */
export function compose<T extends MessageType>(type: T, data: MessageData[T], subject: string, source: string): Message<T> {
  return {
    specversion: "1.0",
    id: newId(),
    source,
    type,
    subject,
    time: new Date().toISOString(),
    datacontenttype: "application/json",
    data,
  };
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export function encode(message: Message): Uint8Array {
  return encoder.encode(JSON.stringify(message));
}

/** Reads a message off the wire. Types that this SDK does not know are returned as they are; switch on `type`. */
export function decode(bytes: Uint8Array): AnyMessage {
  let value: unknown;
  try {
    value = JSON.parse(decoder.decode(bytes));
  } catch {
    throw new MafaldaError("malformed-message", "not JSON");
  }
  const message = value as Partial<AnyMessage> | null;
  if (message === null || typeof message !== "object" || message.specversion !== "1.0" || typeof message.type !== "string" || typeof message.data !== "object" || message.data === null) {
    throw new MafaldaError("malformed-message", "not a CloudEvent of Mafalda");
  }
  return message as AnyMessage;
}
