// What media does between two real workers, asked with mediasoup's own library: `node proofs.js NAME` prints as one JSON
// object what it saw; test_proofs.py says what that must be. Packets themselves: wire.js.
'use strict';

const { execFile } = require('node:child_process');
const { promisify } = require('node:util');
const mediasoup = require('mediasoup');
const { Endpoint, Inbox, OPUS, RTX, VP8, nack, opus, parsed, pli, rtx, vp8 } = require('./wire.js');

const PACKETS = 200;
const LISTEN = { protocol: 'udp', ip: '127.0.0.1' };
const mediaCodecs = [
  { kind: 'audio', mimeType: 'audio/opus', clockRate: 48000, channels: 2 },
  { kind: 'video', mimeType: 'video/VP8', clockRate: 90000 },
];

// The room of a router, as the fleet sees it.
async function roomOf(router) {
  const [python, ...command] = JSON.parse(process.env.MAFALDA_COMMAND);
  const { stdout } = await promisify(execFile)(python, [...command, 'ls', '--json']);
  return JSON.parse(stdout).rooms.find((room) => room.room === router.id);
}

// Two lots of transports: those that `make` gives on one real worker, and on another.
async function apart(router, makeHere, makeThere) {
  const here = await makeHere();
  for (let attempt = 0; attempt < 4; attempt++) {
    const there = await makeThere();
    const placed = (await roomOf(router)).peers.flatMap(({ transportIds, worker }) => transportIds.map((id) => [id, worker]));
    const at = Object.fromEntries(placed);
    if (at[here.id] !== at[there.id]) return [here, there];
    there.close();
  }
  throw new Error('everything is on one worker');
}

const direct = (router) => () => router.createDirectTransport();
const sender = (router) => () => router.createPlainTransport({ listenInfo: LISTEN, comedia: true });
const receiver = (router) => () => router.createPlainTransport({ listenInfo: LISTEN });

function video(encodings, codecs = [VP8]) {
  return { kind: 'video', rtpParameters: { codecs, encodings, rtcp: { cname: 'video' } } };
}

function audio(ssrc) {
  return { kind: 'audio', rtpParameters: { codecs: [OPUS], encodings: [{ ssrc }], rtcp: { cname: 'audio' } } };
}

function heard(consumer) {
  const inbox = new Inbox();
  consumer.on('rtp', (packet) => inbox.take(parsed(packet)));
  return inbox;
}

// What a receiver gets of a producer: consumed by a plain transport that is connected to an endpoint of ours.
async function received(router, transport, producer) {
  const endpoint = await Endpoint.open();
  await transport.connect({ ip: '127.0.0.1', port: endpoint.port });
  const rtpCapabilities = router.rtpCapabilities;
  return [endpoint, await transport.consume({ producerId: producer.id, rtpCapabilities })];
}

// How far the sequence numbers are from the first one.
const steps = (items) => items.map(({ sequence }) => (sequence - items[0].sequence) & 0xffff);
const enough = (count) => (items) => items.length >= count;

const proofs = {
  // Plain to direct across the workers, and direct to plain back.
  async rtp(router) {
    const [plain, other] = await apart(router, sender(router), direct(router));
    const endpoint = await Endpoint.open();
    const forth = await plain.produce(audio(1001));
    const rtpCapabilities = router.rtpCapabilities;
    const far = heard(await other.consume({ producerId: forth.id, rtpCapabilities }));
    const near = heard(await (await router.createDirectTransport()).consume({ producerId: forth.id, rtpCapabilities }));
    for (let sequence = 0; sequence < PACKETS; sequence++) await endpoint.send(opus(sequence, 1001), plain);
    for (const inbox of [far, near]) await inbox.until('packet', enough(PACKETS));
    const back = await other.produce(audio(1002));
    const [there] = await received(router, await router.createPlainTransport({ listenInfo: LISTEN }), back);
    const [again] = await received(router, await router.createPlainTransport({ listenInfo: LISTEN }), back);
    for (let sequence = 0; sequence < PACKETS; sequence++) back.send(opus(sequence, 1002));
    for (const inbox of [there.media, again.media]) await inbox.until('packet', enough(PACKETS));
    return { steps: [far, near, there.media, again.media].map((inbox) => steps(inbox.items)) };
  },

  // Three layers, which their packets' sizes tell apart; the consumer elsewhere takes the lowest, the highest, the lowest.
  async simulcast(router) {
    const [plain, other] = await apart(router, sender(router), receiver(router));
    const [endpoint, ssrcs] = [await Endpoint.open(), [2001, 2002, 2003]];
    const producer = await plain.produce(video(ssrcs.map((ssrc) => ({ ssrc, scalabilityMode: 'L1T1' }))));
    const [viewer, consumer] = await received(router, other, producer);
    const layers = new Inbox();
    consumer.on('layerschange', (changed) => layers.take(changed?.spatialLayer));
    let sequence = 0;
    const picture = setInterval(() => {
      sequence++;
      ssrcs.forEach((ssrc, layer) => endpoint.send(vp8(sequence, ssrc, { key: true, size: 100 * (layer + 1) }), plain));
    }, 30); // a picture rate: scores are computed over time
    const seen = [];
    for (const wanted of [0, 2, 0]) {
      await consumer.setPreferredLayers({ spatialLayer: wanted, temporalLayer: 0 });
      await layers.until(`layer ${wanted}`, (items) => items.at(-1) === wanted);
      // The event and the media come on two ways: the layer's own packets follow, or have come already.
      const size = 100 * (wanted + 1);
      const runs = (items) => items.slice(-5).filter(({ payload }) => payload.length >= size && payload.length < size + 100);
      seen.push((await viewer.media.until(`packets of layer ${wanted}`, (items) => runs(items).length === 5 && runs(items))).at(-1));
    }
    clearInterval(picture);
    const all = viewer.media.items;
    return {
      type: consumer.type,
      layers: layers.items,
      sizes: seen.map(({ payload }) => payload.length - 14),
      ssrcs: [...new Set(all.map(({ ssrc }) => ssrc))],
      expected: consumer.rtpParameters.encodings[0].ssrc,
    };
  },

  // A packet lost on the way in is asked for at the sender; one lost on the way out is asked for by the receiver.
  async nack(router) {
    const [plain, other] = await apart(router, sender(router), receiver(router));
    const endpoint = await Endpoint.open();
    const producer = await plain.produce(video([{ ssrc: 3001, rtx: { ssrc: 3002 } }], [VP8, RTX]));
    const [viewer, consumer] = await received(router, other, producer);
    await endpoint.send(vp8(1, 3001, { key: true }), plain);
    await viewer.media.until('first packet', enough(1));
    const [lost, packets] = [5, 12];
    for (let sequence = 2; sequence <= packets; sequence++) {
      if (sequence !== lost) await endpoint.send(vp8(sequence, 3001), plain);
    }
    const asked = await endpoint.feedback.until('NACK', (items) => items.find(({ type }) => type === 'nack'));
    await viewer.media.until('others', enough(packets - 1));
    await endpoint.send(rtx(vp8(asked.sequence, 3001), 1, 3002), plain);
    await viewer.media.until('lost packet', enough(packets));
    const first = steps(viewer.media.items);
    // Now the receiver says that it has lost one, which it has not.
    const [{ ssrc, rtx: again }] = consumer.rtpParameters.encodings;
    const [wanted] = viewer.media.items.filter((item) => item.ssrc === ssrc).slice(-3);
    await viewer.send(nack(ssrc, wanted.sequence), other);
    const repaired = await viewer.media.until('RTX', (items) => items.find((item) => item.ssrc === again.ssrc));
    return {
      asked: asked.sequence,
      steps: first,
      original: repaired.payload.readUInt16BE(0) === wanted.sequence,
      same: repaired.payload.subarray(2).equals(wanted.payload),
    };
  },

  // What a consumer elsewhere wants of a picture is wanted of the origin's sender.
  async keyframes(router) {
    const [plain, other] = await apart(router, sender(router), receiver(router));
    const endpoint = await Endpoint.open();
    const producer = await plain.produce(video([{ ssrc: 4001 }]));
    const [viewer, consumer] = await received(router, other, producer);
    let [pictures, asked] = [0, 0];
    const request = (items) => items.length > asked && (asked = items.length);
    const key = async () => {
      await endpoint.send(vp8(++pictures, 4001, { key: true }), plain);
      await viewer.media.until('key frame', enough(pictures));
      asked = endpoint.feedback.items.length;
    };
    await key();
    const [{ ssrc }] = consumer.rtpParameters.encodings;
    await consumer.requestKeyFrame();
    await endpoint.feedback.until('request of the application', request);
    await key();
    await viewer.send(pli(ssrc), other);
    await endpoint.feedback.until('request of the receiver', request);
    await key();
    return { pictures: viewer.media.items.length, asked: [...new Set(endpoint.feedback.items.map(({ type }) => type))] };
  },

  // Text and bytes in order to another worker; sub-channels choose there as they do where the data producer is.
  async data(router) {
    const [here, there] = await apart(router, direct(router), direct(router));
    const producer = await here.produceData({ label: 'chat', protocol: 'words' });
    const far = await there.consumeData({ dataProducerId: producer.id });
    const choosers = [];
    for (const transport of [here, there]) {
      choosers.push(await transport.consumeData({ dataProducerId: producer.id, subchannels: [1, 2] }));
    }
    const [all, ...some] = [far, ...choosers].map((consumer) => {
      const inbox = new Inbox();
      // 51 is text, 53 bytes.
      consumer.on('message', (message, ppid) => inbox.take([ppid, message.toString()]));
      return inbox;
    });
    const sent = [];
    for (let number = 0; number < PACKETS; number++) {
      const text = `message ${number}`;
      producer.send(number % 2 ? Buffer.from(text) : text);
      sent.push([number % 2 ? 53 : 51, text]);
    }
    // What is sent without sub-channels is for all.
    await Promise.all([all, ...some].map((inbox) => inbox.until('message', enough(PACKETS))));
    producer.send('for 3', undefined, [3]);
    producer.send('only for 1, required', undefined, [1], 1);
    producer.send('only for 2, but 9 is required', undefined, [2], 9);
    producer.send('for 2', undefined, [2, 3]);
    producer.send('for all again');
    const chosen = [];
    for (const inbox of [all, ...some]) {
      await inbox.until('the last', (items) => items.at(-1)[1] === 'for all again');
      chosen.push(inbox.items.slice(PACKETS).map(([, text]) => text));
    }
    const { label, protocol } = far;
    const got = [all, ...some].map((inbox) => inbox.items.slice(0, PACKETS));
    return { label, protocol, sent, got, chosen };
  },
};

async function main(name) {
  const worker = await mediasoup.createWorker({ logLevel: 'warn' });
  try {
    const router = await worker.createRouter({ mediaCodecs });
    const result = await proofs[name](router);
    const { peers, relays } = await roomOf(router);
    const workers = new Set(peers.map((peer) => peer.worker)).size;
    console.log(JSON.stringify({ ...result, workers, relays: relays.length }));
    return 0;
  } catch (error) {
    console.error(error);
    return 1;
  } finally {
    worker.close();
  }
}

main(process.argv[2]).then((code) => process.exit(code));
