/**
 * Intents and their results. An intent is stored in the log; its result is matched by `causationid`. What a stored result does
 * not hold (the ICE password) comes to the private inbox that the intent names.
 */

import { abortable, delay } from "../abort.js";
import { MafaldaError, Unavailable, fromErrorInfo } from "../errors.js";
import type { Bus } from "../nats/bus.js";
import { compose, type AnyMessage, type Message } from "../protocol/envelope.js";
import type { MessageData } from "../protocol/messages.js";
import type { PeerSubjects } from "../protocol/subjects.js";

type Action<K extends string> = keyof MessageData extends infer T ? (T extends `mafalda.${K}.${infer A}.v1` ? A : never) : never;
export type IntentAction = Action<"intent">;
export type IntentData<A extends IntentAction> = MessageData[`mafalda.intent.${A}.v1`];
export type ResultType = Extract<keyof MessageData, `mafalda.result.${string}`>;
export type QueryAction = Action<"query">;

const RESULT_TIMEOUT_MS = 15_000;
const REPEAT_MS = 2_000;
const PRIVATE_ANSWER_WAIT_MS = 500;
const QUERY_TIMEOUT_MS = 5_000;
/** Events of more than so many intents to pause or resume are not on their way at a time. */
const MAX_PAUSES = 1_000;

/** Asked twice, these do what they do once; so they are asked again by themselves when an answer may have been missed. */
const IDEMPOTENT: ReadonlySet<IntentAction> = new Set([
  "pause-producer",
  "resume-producer",
  "pause-consumer",
  "resume-consumer",
  "set-preferred-layers",
  "set-audience",
  "set-app-data",
  "leave",
] as const);

/** About the peer or its subscriptions, and not about objects of one place. */
const OUTLASTS_A_PLACE: ReadonlySet<IntentAction> = new Set([
  "join",
  "leave",
  "set-app-data",
  "set-audience",
  "subscribe",
  "change-subscription",
  "unsubscribe",
] as const);

interface Pending {
  readonly action: string;
  readonly result: PromiseWithResolvers<AnyMessage>;
  readonly private: PromiseWithResolvers<AnyMessage>;
}

/** The connection broke while an intent was under way: it may have been carried out, and its answer is lost. */
export class Interrupted extends Unavailable {
  constructor(action: string) {
    super("interrupted", `the connection was interrupted during ${action}`, { action });
  }
}

/** The requests of one peer. */
export class Requests {
  readonly #pending = new Map<string, Pending>();
  /** Ids of the last intents to pause or resume a producer. */
  readonly #pauses = new Set<string>();
  /** Producers of which the fleet may not know whether they are to be paused, because an outage outlasted the last request. */
  readonly untold = new Set<string>();
  /** Of the peer's place, as it is known. What is about objects of that place is done nowhere else. */
  generation: number | undefined;

  constructor(
    readonly bus: Bus,
    readonly subjects: PeerSubjects,
    readonly inbox: string,
    readonly source: string,
  ) {}

  /**
   * Appends an intent and returns the data of its result, which must be of type `expected`. Throws `Interrupted` when the answer may have
   * been missed and the intent cannot be repeated blindly.
   */
  async ask<A extends IntentAction, R extends ResultType>(action: A, data: IntentData<A>, expected: R, signal?: AbortSignal): Promise<MessageData[R]> {
    const producer = action === "pause-producer" || action === "resume-producer" ? (data as IntentData<"pause-producer">).producer : "";
    while (true) {
      try {
        const answer = await this.#answer(action, data, false, signal);
        this.untold.delete(producer);
        return expect(answer, expected);
      } catch (error) {
        if (producer && error instanceof Unavailable) this.untold.add(producer);
        if (!(error instanceof Interrupted) || !IDEMPOTENT.has(action)) throw error;
      }
    }
  }

  /** As `ask`, for a transport's parameters: the answer in the private inbox counts, for only it has the ICE password. */
  async askTransport(action: "create-transport" | "restart-ice", data: IntentData<"create-transport">, signal?: AbortSignal): Promise<MessageData["mafalda.result.transport.v1"]> {
    const result = expect(await this.#answer(action, data, true, signal), "mafalda.result.transport.v1");
    if (result.iceParameters) return result;
    return await this.query("transport", { transport: data.transport }, "mafalda.result.transport.v1");
  }

  /** Asks the peer's agent; changes nothing. */
  async query<Q extends QueryAction, R extends keyof MessageData>(name: Q, data: MessageData[`mafalda.query.${Q}.v1`], expected: R): Promise<MessageData[R]> {
    const message = compose(`mafalda.query.${name}.v1`, data as never, this.subjects.query(name), this.source);
    return expect(await this.bus.request(message, QUERY_TIMEOUT_MS), expected);
  }

  /** Whether an intent to pause or resume a producer was sent here, not by a moderator. */
  isOwnPause(intent: string): boolean {
    return this.#pauses.has(intent);
  }

  /** Takes a result of the log. */
  receiveResult(message: AnyMessage): void {
    this.#find(message)?.result.resolve(message);
  }

  /** Takes what came to the private inbox. */
  receivePrivate(message: AnyMessage): void {
    this.#find(message)?.private.resolve(message);
  }

  /** Answers that were given during an interruption of the connection cannot be had any more. */
  interrupted(): void {
    for (const { result, action } of this.#pending.values()) result.reject(new Interrupted(action));
  }

  #notePause(intent: string): void {
    this.#pauses.add(intent);
    const [oldest] = this.#pauses;
    if (this.#pauses.size > MAX_PAUSES && oldest !== undefined) this.#pauses.delete(oldest);
  }

  #find(message: AnyMessage): Pending | undefined {
    const direct = this.#pending.get(message.causationid ?? "");
    if (direct) return direct;
    // A join's result is caused by the placement command; what it has in common with the join is the correlation.
    const answersJoin = message.type === "mafalda.result.join.v1" || (message.type === "mafalda.result.rejected.v1" && message.data.intent === "join");
    return answersJoin ? this.#pending.get(message.correlationid ?? "") : undefined;
  }

  async #answer<A extends IntentAction>(action: A, data: IntentData<A>, isPrivate: boolean, signal?: AbortSignal): Promise<AnyMessage> {
    const type = `mafalda.intent.${action}.v1` as const;
    const message = compose(type, data as never, this.subjects.intent(action), this.source) as Message;
    const pending: Pending = { action, result: Promise.withResolvers(), private: Promise.withResolvers() };
    pending.result.promise.catch(() => undefined);
    this.#pending.set(message.id, pending);
    const generation = OUTLASTS_A_PLACE.has(action) ? undefined : this.generation;
    if (action === "pause-producer" || action === "resume-producer") this.#notePause(message.id);
    try {
      const deadline = performance.now() + RESULT_TIMEOUT_MS;
      while (performance.now() < deadline) {
        await abortable(Promise.race([this.bus.append(message, this.inbox, generation), pending.result.promise]), signal);
        const answer = await first([pending.private.promise, pending.result.promise], REPEAT_MS, signal);
        if (!answer) continue; // the same id again: stored once, whatever happened to the answers
        if (isPrivate && answer.type === "mafalda.result.transport.v1" && !answer.data.iceParameters) {
          return (await first([pending.private.promise], PRIVATE_ANSWER_WAIT_MS, signal)) ?? answer;
        }
        return answer;
      }
      throw new Unavailable("deadline-exceeded", `no result of ${action} in time`, { action });
    } finally {
      this.#pending.delete(message.id);
    }
  }
}

/** What settles first, or undefined after `ms` milliseconds. */
async function first<T>(promises: Promise<T>[], ms: number, signal?: AbortSignal): Promise<T | undefined> {
  const settled = new AbortController();
  const ends = signal ? AbortSignal.any([signal, settled.signal]) : settled.signal;
  try {
    return await Promise.race([...promises, delay(ms, ends)]);
  } finally {
    settled.abort();
  }
}

function expect<R extends keyof MessageData>(message: AnyMessage, expected: R): MessageData[R] {
  if (message.type === "mafalda.result.rejected.v1") throw fromErrorInfo(message.data.error);
  if (message.type !== expected) throw new MafaldaError("malformed-message", `expected ${expected}, got ${message.type}`);
  return message.data as MessageData[R];
}
