// A small conference server on mediasoup. Each room is a router; a peer has its transports, producers and consumers.
// Signalling: GET /rooms/ROOM/peers/PEER is a stream of server-sent events: the peer is in the room as long as it is
// open. POST /rooms/ROOM/peers/PEER/METHOD with a JSON object is a request; see `methods`.
'use strict';

const http = require('node:http');
const os = require('node:os');
const mediasoup = require('mediasoup');

const config = {
  host: process.env.HOST ?? '127.0.0.1',
  port: Number(process.env.PORT ?? 3000),
  workers: Number(process.env.WORKERS ?? os.availableParallelism()),
  listenIp: process.env.LISTEN_IP ?? '127.0.0.1',
  announcedAddress: process.env.ANNOUNCED_ADDRESS,
  rtcPort: Number(process.env.RTC_PORT ?? 0), // the first worker's; the next has the next one. 0: any free one
};

const mediaCodecs = [
  { kind: 'audio', mimeType: 'audio/opus', clockRate: 48000, channels: 2 },
  { kind: 'video', mimeType: 'video/VP8', clockRate: 90000 },
];

const workers = []; // [{ worker, webRtcServer }]
const rooms = new Map(); // name -> promise of a Room
let nextWorker = 0;
let stopping = false;

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function startWorker(index) {
  const worker = await mediasoup.createWorker({ logLevel: 'warn' });
  const listenInfos = ['udp', 'tcp'].map((protocol) => ({
    protocol,
    ip: config.listenIp,
    announcedAddress: config.announcedAddress,
    port: config.rtcPort ? config.rtcPort + index : 0,
  }));
  const webRtcServer = await worker.createWebRtcServer({ listenInfos });
  workers[index] = { worker, webRtcServer };
  // Its routers close with it, so its rooms end and their peers come again. Without a worker we are of no use.
  worker.on('died', (error) => {
    console.error(`worker ${worker.pid} died: ${error.message}`);
    if (!stopping) startWorker(index).catch((reason) => stop(1, `no worker: ${reason.message}`));
  });
}

class Room {
  static async open(name) {
    const { worker, webRtcServer } = workers[nextWorker++ % workers.length];
    const router = await worker.createRouter({ mediaCodecs });
    const observer = await router.createAudioLevelObserver({ maxEntries: 1, threshold: -70, interval: 500 });
    return new Room(name, router, webRtcServer, observer);
  }

  constructor(name, router, webRtcServer, observer) {
    Object.assign(this, { name, router, webRtcServer, observer });
    this.peers = new Map();
    router.observer.on('close', () => this.end());
    observer.on('volumes', ([{ producer, volume }]) =>
      this.tell('speaker', { peer: producer.appData.peer, producer: producer.id, volume }));
    observer.on('silence', () => this.tell('silence', {}));
  }

  join(id, events) {
    if (this.router.closed) throw new Refused(503, `${this.name} has just ended, come again`);
    if (this.peers.has(id)) throw new Refused(409, `${id} is in this room already`);
    const producers = [...this.peers.values()].flatMap((peer) => [...peer.producers.values()].map(described));
    const peer = { id, events, transports: new Map(), producers: new Map(), consumers: new Map() };
    this.peers.set(id, peer);
    tell(peer, 'joined', { router: this.router.id, rtpCapabilities: this.router.rtpCapabilities, producers });
    return peer;
  }

  leave(peer) {
    for (const transport of peer.transports.values()) transport.close();
    this.peers.delete(peer.id);
    if (this.peers.size === 0) this.router.close();
  }

  end() {
    if (rooms.delete(this.name)) for (const peer of this.peers.values()) peer.events.end();
  }

  tell(event, data, except) {
    for (const peer of this.peers.values()) if (peer !== except) tell(peer, event, data);
  }
}

function tell(peer, event, data) {
  peer.events.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
}

function described(producer) {
  return { id: producer.id, peer: producer.appData.peer, kind: producer.kind };
}

function found(map, id) {
  if (!map.has(id)) throw new Refused(404, `there is no ${id}`);
  return map.get(id);
}

const methods = {
  async createTransport(room, peer) {
    const transport = await room.router.createWebRtcTransport({ webRtcServer: room.webRtcServer, preferUdp: true });
    peer.transports.set(transport.id, transport);
    transport.observer.on('close', () => peer.transports.delete(transport.id));
    // ICE or DTLS is over: the peer is notified and may make another transport.
    const over = (state) => {
      if (transport.closed || !['disconnected', 'closed', 'failed'].includes(state)) return;
      transport.close();
      tell(peer, 'transportClosed', { id: transport.id });
    };
    transport.on('icestatechange', over);
    transport.on('dtlsstatechange', over);
    const { id, iceParameters, iceCandidates, dtlsParameters } = transport;
    return { id, iceParameters, iceCandidates, dtlsParameters };
  },

  async connectTransport(room, peer, { transport, dtlsParameters }) {
    await found(peer.transports, transport).connect({ dtlsParameters });
    return {};
  },

  async produce(room, peer, { transport, kind, rtpParameters }) {
    const appData = { peer: peer.id };
    const producer = await found(peer.transports, transport).produce({ kind, rtpParameters, appData });
    peer.producers.set(producer.id, producer);
    producer.observer.on('close', () => peer.producers.delete(producer.id));
    if (kind === 'audio') {
      const unheard = (error) => console.error(`${producer.id} is not observed: ${error.message}`); // and works all the same
      await room.observer.addProducer({ producerId: producer.id }).catch(unheard);
    }
    room.tell('newProducer', described(producer), peer);
    return { id: producer.id };
  },

  async consume(room, peer, { transport, producer, rtpCapabilities }) {
    const options = { producerId: producer, rtpCapabilities, paused: true };
    if (!room.router.canConsume(options)) throw new Refused(400, `you cannot consume ${producer}`);
    const consumer = await found(peer.transports, transport).consume(options);
    peer.consumers.set(consumer.id, consumer);
    consumer.observer.on('close', () => peer.consumers.delete(consumer.id));
    consumer.on('producerclose', () => tell(peer, 'consumerClosed', { id: consumer.id }));
    const { id, kind, rtpParameters } = consumer;
    return { id, producer, kind, rtpParameters };
  },

  // A consumer starts paused, so that the first key frame comes when the peer is ready for it.
  async resumeConsumer(room, peer, { consumer }) {
    await found(peer.consumers, consumer).resume();
    return {};
  },

  async closeProducer(room, peer, { producer }) {
    found(peer.producers, producer).close();
    return {};
  },
};

async function body(request) {
  const parts = [];
  let size = 0;
  for await (const part of request) {
    if ((size += part.length) > 65536) throw new Refused(413, 'too much');
    parts.push(part);
  }
  return JSON.parse(Buffer.concat(parts).toString() || '{}');
}

function roomOf(name) {
  if (!rooms.has(name)) {
    const opening = Room.open(name);
    rooms.set(name, opening);
    opening.catch(() => rooms.delete(name));
  }
  return rooms.get(name);
}

async function handle(request, response) {
  const [, roomName, peerId, method] = /^\/rooms\/([\w-]+)\/peers\/([\w-]+)(?:\/(\w+))?$/.exec(request.url) ?? [];
  if (request.method === 'GET' && peerId && !method) {
    const room = await roomOf(roomName);
    const peer = room.join(peerId, response.setHeader('content-type', 'text/event-stream'));
    response.on('close', () => room.leave(peer));
    if (response.destroyed) room.leave(peer); // gone while the room was opened
  } else if (request.method === 'POST' && Object.hasOwn(methods, method ?? '')) {
    const room = await found(rooms, roomName);
    const answer = await methods[method](room, found(room.peers, peerId), await body(request));
    response.setHeader('content-type', 'application/json').end(JSON.stringify(answer));
  } else {
    throw new Refused(404, 'there is nothing here');
  }
}

const server = http.createServer((request, response) => {
  handle(request, response).catch((error) => {
    response.writeHead(error.status ?? (error instanceof TypeError || error instanceof SyntaxError ? 400 : 500));
    response.end(JSON.stringify({ error: error.message }));
  });
});

function stop(code, why) {
  if (stopping) return;
  stopping = true;
  console.log(`stopping: ${why}`);
  for (const { worker } of workers) worker.close();
  server.close(() => process.exit(code));
  server.closeAllConnections();
}

async function main() {
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => stop(0, signal));
  for (let index = 0; index < config.workers; index++) await startWorker(index);
  server.listen(config.port, config.host, () => console.log(`listening on http://${config.host}:${server.address().port}`));
}

main().catch((error) => stop(1, error.message));
