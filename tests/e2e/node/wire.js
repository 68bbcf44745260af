// RTP and RTCP packets made and read by hand, and waiting for them. What is proved with them: proofs.js.
'use strict';

const dgram = require('node:dgram');
const { once } = require('node:events');

const DEADLINE_MS = 15000;
const PROBATOR = 1234; // the stream with which a worker probes for bandwidth; not media

const FEEDBACK = [{ type: 'nack' }, { type: 'nack', parameter: 'pli' }, { type: 'ccm', parameter: 'fir' }];
const VP8 = { mimeType: 'video/VP8', payloadType: 96, clockRate: 90000, rtcpFeedback: FEEDBACK };
const RTX = { mimeType: 'video/rtx', payloadType: 97, clockRate: 90000, parameters: { apt: 96 } };
const OPUS = { mimeType: 'audio/opus', payloadType: 111, clockRate: 48000, channels: 2 };

// What came, in order, and a way to wait for more.
class Inbox {
  constructor() {
    this.items = [];
    this.waiting = new Set();
  }

  take(item) {
    this.items.push(item);
    for (const check of this.waiting) check();
  }

  // Resolves with what `condition(items)` gives, as soon as that is truthy.
  until(what, condition) {
    return new Promise((resolve, reject) => {
      const check = () => {
        const result = condition(this.items);
        if (!result) return;
        clearTimeout(timer);
        this.waiting.delete(check);
        resolve(result);
      };
      const late = () => reject(new Error(`no ${what} in time; ${this.items.length} items came`));
      const timer = setTimeout(late, DEADLINE_MS);
      this.waiting.add(check);
      check();
    });
  }
}

function rtp({ payloadType, sequence, ssrc, payload, marker = false }) {
  const header = Buffer.alloc(12);
  header[0] = 0x80;
  header[1] = payloadType | (marker ? 0x80 : 0);
  header.writeUInt16BE(sequence & 0xffff, 2);
  header.writeUInt32BE((sequence * 3000) >>> 0, 4);
  header.writeUInt32BE(ssrc, 8);
  return Buffer.concat([header, payload]);
}

// 20 ms of opus.
function opus(sequence, ssrc) {
  return rtp({ payloadType: 111, sequence, ssrc, payload: Buffer.concat([Buffer.from([0x78]), Buffer.alloc(24)]) });
}

// A VP8 frame in one packet: the descriptor (start of partition, 15 bits of picture id), the frame's header, filling.
function vp8(sequence, ssrc, { key = false, size = 100 } = {}) {
  const descriptor = [0x90, 0x80, 0x80 | ((sequence >> 8) & 0x7f), sequence & 0xff];
  const frame = key ? [0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x00] : [0x31, 0x02, 0x00];
  const payload = Buffer.concat([Buffer.from([...descriptor, ...frame]), Buffer.alloc(size)]);
  return rtp({ payloadType: 96, sequence, ssrc, payload, marker: true });
}

// The same packet sent again on the stream for that (RFC 4588): its own sequence number comes first in the payload.
function rtx(packet, sequence, ssrc) {
  const payload = Buffer.concat([packet.subarray(2, 4), packet.subarray(12)]);
  return rtp({ payloadType: 97, sequence, ssrc, payload, marker: true });
}

function parsed(packet) {
  const extension = packet[0] & 0x10 ? 4 + 4 * packet.readUInt16BE(14) : 0;
  return {
    payloadType: packet[1] & 0x7f,
    sequence: packet.readUInt16BE(2),
    ssrc: packet.readUInt32BE(8),
    payload: packet.subarray(12 + extension),
  };
}

const isRtcp = (packet) => packet[1] >= 192 && packet[1] <= 223;

// The feedback messages in a (compound) RTCP packet: PLI, FIR and NACK with the sequence numbers that it asks for.
function feedback(packet) {
  const found = [];
  for (let at = 0; at + 4 <= packet.length; at += 4 + 4 * packet.readUInt16BE(at + 2)) {
    const [format, type] = [packet[at] & 0x1f, packet[at + 1]];
    if (type === 206 && (format === 1 || format === 4)) found.push({ type: format === 1 ? 'pli' : 'fir' });
    if (type === 205 && format === 1) found.push({ type: 'nack', sequence: packet.readUInt16BE(at + 12) });
  }
  return found;
}

function nack(ssrc, sequence) {
  const packet = Buffer.from([0x81, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
  packet.writeUInt32BE(ssrc, 8);
  packet.writeUInt16BE(sequence, 12);
  return packet;
}

function pli(ssrc) {
  const packet = Buffer.from([0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0]);
  packet.writeUInt32BE(ssrc, 8);
  return packet;
}

// An endpoint: a UDP socket that sends to a plain transport and keeps what comes from it.
class Endpoint {
  static async open() {
    const socket = dgram.createSocket('udp4');
    socket.bind(0, '127.0.0.1');
    await once(socket, 'listening');
    return new Endpoint(socket);
  }

  constructor(socket) {
    this.socket = socket;
    this.media = new Inbox();
    this.feedback = new Inbox();
    socket.on('message', (packet) => {
      if (!isRtcp(packet)) {
        const media = parsed(packet);
        if (media.ssrc !== PROBATOR) this.media.take(media);
      } else for (const message of feedback(packet)) this.feedback.take(message);
    });
  }

  get port() {
    return this.socket.address().port;
  }

  // Resolves when the packet is with the kernel.
  send(packet, transport) {
    const { localAddress, localPort } = transport.tuple;
    return new Promise((resolve, reject) => {
      this.socket.send(packet, localPort, localAddress, (error) => (error ? reject(error) : resolve()));
    });
  }
}

module.exports = { DEADLINE_MS, Endpoint, Inbox, OPUS, RTX, VP8, nack, opus, parsed, pli, rtx, vp8 };
