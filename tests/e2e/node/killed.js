// Requests that are under way when what serves them hangs and dies. Prints {router, transport} and waits for a line on
// its input; then asks, prints {asked}, and at last how each request ended and what became of the worker.
'use strict';

const readline = require('node:readline');
const mediasoup = require('mediasoup');

const BOUND_MS = 20000; // docs/dropin.md says 14 s; the rest is for a busy machine
const mediaCodecs = [{ kind: 'audio', mimeType: 'audio/opus', clockRate: 48000, channels: 2 }];
const rtpParameters = {
  codecs: [{ mimeType: 'audio/opus', payloadType: 111, clockRate: 48000, channels: 2 }],
  encodings: [{ ssrc: 1 }],
};
const say = (what) => console.log(JSON.stringify(what));

async function main() {
  const input = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const worker = await mediasoup.createWorker({ logLevel: 'warn' });
  let died = false;
  worker.on('died', () => (died = true));
  const router = await worker.createRouter({ mediaCodecs });
  // A plain one would be made again on another server, and most of the requests done there.
  const transport = await router.createWebRtcTransport({ listenInfos: [{ protocol: 'udp', ip: '127.0.0.1' }] });
  say({ router: router.id, transport: transport.id });
  await input.next();
  const since = performance.now();
  const after = (how) => ({ how, after_s: (performance.now() - since) / 1000 });
  const ended = (request) =>
    Promise.race([
      request.then(() => after('fulfilled'), () => after('rejected')),
      new Promise((resolve) => setTimeout(() => resolve(after('hung')), BOUND_MS)),
    ]);
  const requests = [transport.dump(), transport.produce({ kind: 'audio', rtpParameters }), transport.getStats()].map(ended);
  say({ asked: requests.length });
  const ends = await Promise.all(requests);
  const fresh = await router.createPlainTransport({ listenInfo: { protocol: 'udp', ip: '127.0.0.1' } });
  await fresh.produce({ kind: 'audio', rtpParameters });
  say({ ends, died, closed: worker.closed, fresh: fresh.id });
  worker.close();
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
