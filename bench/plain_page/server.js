/**
 * One room on one mediasoup worker, with signalling over a websocket written by hand: what an application has without Mafalda.
 *
 *     node server.js PORT BUNDLE      prints "ready" when it serves the page on 127.0.0.1
 */

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createWorker } from "mediasoup";
import { WebSocketServer } from "ws";

const [port, bundle] = process.argv.slice(2);
const files = {
  "/": ["text/html", readFileSync(new URL("page.html", import.meta.url))],
  "/page.js": ["text/javascript", readFileSync(bundle)],
};

const worker = await createWorker({ logLevel: "warn" });
const router = await worker.createRouter({
  mediaCodecs: [
    { kind: "audio", mimeType: "audio/opus", clockRate: 48_000, channels: 2 },
    { kind: "video", mimeType: "video/VP8", clockRate: 90_000 },
  ],
});
const listenInfos = ["udp", "tcp"].map((protocol) => ({ protocol, ip: "127.0.0.1" }));

/** Peers by their connection: what each has, and the transport that it receives on. */
const peers = new Map();

const requests = {
  join: () => ({ routerRtpCapabilities: router.rtpCapabilities, producers: [...peers.values()].flatMap((it) => [...it.producers.keys()]) }),
  async createTransport(peer) {
    const transport = await router.createWebRtcTransport({ listenInfos });
    peer.transports.set(transport.id, transport);
    const { id, iceParameters, iceCandidates, dtlsParameters } = transport;
    return { id, iceParameters, iceCandidates, dtlsParameters };
  },
  async connect(peer, { transport, dtlsParameters }) {
    await peer.transports.get(transport).connect({ dtlsParameters });
    return {};
  },
  async produce(peer, { transport, kind, rtpParameters }) {
    const producer = await peer.transports.get(transport).produce({ kind, rtpParameters });
    peer.producers.set(producer.id, producer);
    for (const other of peers.values()) if (other !== peer) other.send({ added: producer.id });
    return { id: producer.id };
  },
  async consume(peer, { transport, producer, rtpCapabilities }) {
    const consumer = await peer.transports.get(transport).consume({ producerId: producer, rtpCapabilities, paused: true });
    peer.consumers.set(consumer.id, consumer);
    return { id: consumer.id, producerId: producer, kind: consumer.kind, rtpParameters: consumer.rtpParameters };
  },
  async resume(peer, { consumer }) {
    await peer.consumers.get(consumer).resume();
    return {};
  },
};

const server = createServer((request, response) => {
  const [type, content] = files[request.url.split("?")[0]] ?? ["text/plain", ""];
  response.writeHead(content ? 200 : 404, { "Content-Type": type }).end(content);
});
new WebSocketServer({ server }).on("connection", (socket) => {
  const send = (message) => socket.send(JSON.stringify(message));
  const peer = { send, transports: new Map(), producers: new Map(), consumers: new Map() };
  peers.set(socket, peer);
  socket.on("message", async (text) => {
    const { id, method, data } = JSON.parse(text);
    try {
      send({ id, result: await requests[method](peer, data) });
    } catch (error) {
      send({ id, error: String(error) });
    }
  });
  socket.on("close", () => {
    peers.delete(socket);
    for (const transport of peer.transports.values()) transport.close();
  });
});
server.listen(Number(port), "127.0.0.1", () => console.log("ready"));
