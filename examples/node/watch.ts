// Joins a room, prints who and what is there and each event, one JSON object a line, and leaves.
//   node watch.ts nats://127.0.0.1:4222 ROOM PEER [EVENT]
// It leaves after the first event of that name, such as producer-paused; without one, at Ctrl-C.
import { randomUUID } from "node:crypto";
import { connect, createInbox, headers, type Msg } from "@nats-io/transport-node";
import type { AnyMessage, Message, MessageType } from "../../web/sdk/src/protocol/envelope.ts";
import type { MessageData } from "../../web/sdk/src/protocol/messages.ts";

const [url, room, peer, until] = process.argv.slice(2);
if (!url || !room || !peer) {
  console.error("usage: node watch.ts NATS_URL ROOM PEER [EVENT]");
  process.exit(2);
}
const mine = `mafalda.room.${room}.peer.${peer}`;

/** A CloudEvent; its id is new for each message, and the same only when it is sent again. */
function compose<T extends MessageType>(type: T, data: MessageData[T]): Message<T> {
  const [, kind, action] = type.split(".");
  return {
    specversion: "1.0",
    id: randomUUID().replaceAll("-", ""),
    source: `/client/${peer}`,
    type,
    subject: `${mine}.${kind}.${action}`,
    time: new Date().toISOString(),
    datacontenttype: "application/json",
    data,
  };
}

function publish(message: Message): string {
  const added = headers();
  added.set("Nats-Msg-Id", message.id);
  added.set("Content-Type", "application/cloudevents+json");
  added.set("Mafalda-Reply-To", inbox);
  nats.publish(message.subject!, JSON.stringify(message), { headers: added });
  return message.id;
}

const print = (line: object) => console.log(JSON.stringify(line));
const nats = await connect({ servers: url });
const inbox = createInbox();
// Subscribe before publishing: an answer is never missed.
const messages: Msg[] = [];
let wake = () => {};
for (const subject of [`live.${mine}.result.*`, `live.${mine}.event.*`, `live.mafalda.room.${room}.event.*`, inbox]) {
  nats.subscribe(subject, { callback: (error, message) => { if (!error) { messages.push(message); wake(); } } });
}
await nats.flush();
process.once("SIGINT", () => publish(compose("mafalda.intent.leave.v1", {})));

const join = publish(compose("mafalda.intent.join.v1", { appData: { language: "TypeScript" } }));
let leaving = false;
for (;;) {
  while (messages.length === 0) await new Promise<void>((resolve) => (wake = resolve));
  const received = messages.shift()!;
  const message = received.json<AnyMessage>();
  const name = received.subject.split(".").at(-1);
  if (message.type === "mafalda.result.join.v1") {
    // After a re-placement it comes again, with a greater generation.
    const { server, worker, generation } = message.data;
    print({ joined: { server, worker, generation } });
    if (generation > 1) continue;
    const query = compose("mafalda.query.room.v1", {});
    const reply = await nats.request(query.subject!, JSON.stringify(query), { timeout: 5000 });
    print({ room: reply.json<Message<"mafalda.answer.room.v1">>().data });
  } else if (message.type === "mafalda.result.rejected.v1") {
    print({ rejected: message.data.error });
    if (message.causationid === join) process.exit(1);
  } else if (message.type === "mafalda.result.done.v1" && name === "leave") {
    print({ left: true });
    break;
  } else if (received.subject.includes(".event.")) {
    print({ event: name, data: message.data });
    if (name === until && !leaving) {
      leaving = true;
      publish(compose("mafalda.intent.leave.v1", {}));
    }
  }
}
await nats.drain();
