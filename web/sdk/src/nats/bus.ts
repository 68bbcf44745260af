/**
 * The way to NATS: append to the log, ask an agent, receive what was stored. Only what a participant's credential allows:
 * no JetStream API, plain subscriptions and request-reply.
 */

import { errors, headers, wsconnect, type Msg, type NatsConnection } from "@nats-io/nats-core";
import { Closed, MafaldaError, Unavailable, fromErrorInfo } from "../errors.js";
import { decode, encode, type AnyMessage, type Message } from "../protocol/envelope.js";

export interface BusOptions {
  /** Websocket URLs of NATS, such as `wss://nats.example.com`. */
  servers: string | string[];
  /** The participant's token, or a function that returns a fresh one at each connection. */
  token?: string | (() => string);
  /** Where answers are received; a credential may allow only this one. Default: `_INBOX`. */
  inboxPrefix?: string;
}

/** A message of the log, with its sequence and subject there. */
export interface Stored {
  readonly seq: number;
  /** Without `live.`. */
  readonly subject: string;
  readonly message: AnyMessage;
}

const APPEND_TIMEOUT_MS = 15_000;
const FIRST_ATTEMPT_MS = 1_000;
const RETRY_WAIT_MS = 200;
/** JetStream: this message is being stored already; ask again for the outcome. */
const DUPLICATE_IN_PROCESS = 10158;

/** One connection; open it with `connectBus`. */
export class Bus {
  readonly #connection: NatsConnection;
  readonly #restored = new Set<() => void>();
  readonly #interrupted = new Set<() => void>();
  readonly #closed = new Set<(error: MafaldaError | undefined) => void>();
  #isUp = true;

  constructor(connection: NatsConnection) {
    this.#connection = connection;
    void this.#watch();
    void connection.closed().then((error) => {
      this.#isUp = false;
      const reason = error ? this.#closedBy(error) : undefined;
      for (const listener of [...this.#closed]) listener(reason);
    });
  }

  /** Whether a server is connected right now. */
  get isUp(): boolean {
    return this.#isUp;
  }

  /** Whether it was closed for good. */
  get isClosed(): boolean {
    return this.#connection.isClosed();
  }

  newInbox(prefix = "_INBOX"): string {
    return `${prefix}.${crypto.getRandomValues(new Uint32Array(4)).join("")}`;
  }

  /** Calls back when the connection breaks, and when it is back: what was published meanwhile was missed. */
  onChange(interrupted: () => void, restored: () => void): () => void {
    this.#interrupted.add(interrupted);
    this.#restored.add(restored);
    return () => (this.#interrupted.delete(interrupted), void this.#restored.delete(restored));
  }

  /** Calls back when the connection is closed for good: by `close`, or because the server does not accept this credential any more. */
  onClosed(listener: (error: MafaldaError | undefined) => void): () => void {
    this.#closed.add(listener);
    return () => void this.#closed.delete(listener);
  }

  /**
   * Stores a message in the log; repeats it under the same id while the outcome is unknown. Returns its sequence. `generation`: of the
   * only place of the peer that it is meant for.
   */
  async append(message: Message, replyTo: string, generation?: number): Promise<number> {
    const header = headers();
    header.set("Nats-Msg-Id", message.id);
    header.set("Content-Type", "application/cloudevents+json");
    header.set("Mafalda-Reply-To", replyTo);
    if (generation !== undefined) header.set("Mafalda-Generation", String(generation));
    const deadline = performance.now() + APPEND_TIMEOUT_MS;
    let reason = "timeout";
    for (let timeout = FIRST_ATTEMPT_MS; performance.now() < deadline; timeout = Math.min(2 * timeout, 4_000)) {
      try {
        const answer = await this.#connection.request(message.subject ?? "", encode(message), { headers: header, timeout });
        const ack = answer.json<{ seq?: number; error?: { code: number; err_code?: number; description?: string } }>();
        if (!ack.error) return ack.seq ?? 0;
        reason = ack.error.description ?? `JetStream error ${ack.error.code}`;
        if (ack.error.err_code !== DUPLICATE_IN_PROCESS && ack.error.code !== 503) {
          throw new Unavailable("bus-unavailable", `the log refused a message: ${reason}`);
        }
      } catch (error) {
        reason = this.#retriable(error, message.subject ?? "");
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_WAIT_MS));
    }
    throw new Unavailable("bus-unavailable", `the log did not confirm a message: ${reason}`);
  }

  /** Asks a question beside the log; throws what was answered when it is a refusal. */
  async request(message: Message, timeoutMs: number): Promise<AnyMessage> {
    const header = headers();
    header.set("Nats-Msg-Id", message.id);
    header.set("Content-Type", "application/cloudevents+json");
    let answer: Msg;
    try {
      answer = await this.#connection.request(message.subject ?? "", encode(message), { headers: header, timeout: timeoutMs });
    } catch (error) {
      throw new Unavailable("deadline-exceeded", `no answer: ${this.#retriable(error, message.subject ?? "")}`);
    }
    const read = decode(answer.data);
    if (read.type === "mafalda.result.rejected.v1") throw fromErrorInfo(read.data.error);
    return read;
  }

  /** Receives what the stream stored on a `live.` subject. Anything else under `live.` is ignored. */
  subscribeStored(subject: string, receive: (stored: Stored) => void): () => void {
    return this.#subscribe(subject, (msg, message) => {
      const seq = Number(msg.headers?.get("Nats-Sequence"));
      if (Number.isSafeInteger(seq) && seq > 0) receive({ seq, subject: msg.subject.slice("live.".length), message });
    });
  }

  /** Receives what is sent to a subject of one's own. */
  subscribeInbox(subject: string, receive: (message: AnyMessage) => void): () => void {
    return this.#subscribe(subject, (_, message) => receive(message));
  }

  async close(): Promise<void> {
    await this.#connection.close();
  }

  #closedBy(error: Error): MafaldaError {
    if (error instanceof errors.AuthorizationError || error instanceof errors.UserAuthenticationExpiredError) {
      return new MafaldaError("permission-denied", `NATS refused the token: ${error.message}`);
    }
    return new Unavailable("bus-unavailable", `the connection to NATS ended: ${error.message}`);
  }

  #subscribe(subject: string, receive: (msg: Msg, message: AnyMessage) => void): () => void {
    const subscription = this.#connection.subscribe(subject, {
      callback: (error, msg) => {
        if (error) return console.warn("mafalda: subscription ended", subject, error.message);
        try {
          receive(msg, decode(msg.data));
        } catch (problem) {
          console.warn("mafalda: message ignored", msg.subject, problem);
        }
      },
    });
    return () => subscription.unsubscribe();
  }

  /** Why a request failed, if another attempt may succeed; throws when none can. */
  #retriable(error: unknown, subject: string): string {
    if (error instanceof MafaldaError) throw error;
    const cause = error instanceof errors.RequestError ? error.cause : error;
    if (cause instanceof errors.PermissionViolationError) {
      throw new MafaldaError("permission-denied", `this token does not allow ${subject}`, { subject });
    }
    if (cause instanceof errors.ClosedConnectionError) throw new Closed("the connection was closed");
    return error instanceof Error ? error.message : String(error);
  }

  async #watch(): Promise<void> {
    for await (const status of this.#connection.status()) {
      if (status.type === "disconnect" && this.#isUp) {
        this.#isUp = false;
        for (const listener of this.#interrupted) listener();
      } else if (status.type === "reconnect" && !this.#isUp) {
        this.#isUp = true;
        for (const listener of this.#restored) listener();
      }
    }
  }
}

/** Connects, and stays connected until `close`. */
export async function connectBus(options: BusOptions): Promise<Bus> {
  try {
    const connection = await wsconnect({
      servers: options.servers,
      name: "mafalda-client",
      maxReconnectAttempts: -1,
      reconnectTimeWait: 250,
      reconnectJitter: 250,
      pingInterval: 5_000,
      maxPingOut: 2,
      ...(options.token === undefined ? {} : { token: typeof options.token === "function" ? options.token() : options.token }),
      ...(options.inboxPrefix === undefined ? {} : { inboxPrefix: options.inboxPrefix }),
    });
    return new Bus(connection);
  } catch (error) {
    if (error instanceof errors.AuthorizationError) throw new MafaldaError("permission-denied", "NATS refused the token");
    throw new Unavailable("bus-unavailable", `cannot connect to NATS: ${error instanceof Error ? error.message : String(error)}`);
  }
}
