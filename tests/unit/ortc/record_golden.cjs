// Records what mediasoup's own ORTC answers, so that test_ortc_golden.py can ask ours the same.
//
//   node record_golden.cjs PATH_TO_MEDIASOUP/node/lib golden/
//
// mediasoup's npm dependency h264-profile-level-id must be resolvable from there. The inputs are below; the
// random SSRCs are replaced by a counter that starts anew for every call (test_ortc_golden.py does the same).
'use strict';

const fs = require('node:fs');
const path = require('node:path');

const lib = path.resolve(process.argv[2]);
const out = path.resolve(process.argv[3]);
const ortc = require(path.join(lib, 'ortc.js'));
const utils = require(path.join(lib, 'utils.js'));
const { parseScalabilityMode } = require(path.join(lib, 'scalabilityModesUtils.js'));
const aiortc = require('./aiortc_recorded.json');

let draws = 0;
utils.generateRandomNumber = () => 500000000 + 1000 * draws++;

function ask(call) {
  draws = 0;
  try {
    return { result: structuredClone(call()) };
  } catch (error) {
    return { error: error.constructor.name };
  }
}

// --- codecs that routers are asked to have -------------------------------------------------------------------
const opus = { kind: 'audio', mimeType: 'audio/opus', clockRate: 48000, channels: 2 };
const video = (name, parameters, more) => ({
  kind: 'video', mimeType: `video/${name}`, clockRate: 90000, ...(parameters && { parameters }), ...more,
});
const h264 = (profile, mode, more) => video('H264', {
  'level-asymmetry-allowed': 1, 'packetization-mode': mode, 'profile-level-id': profile, ...more,
});
const multiopus = (channels, mapping, streams, coupled) => ({
  kind: 'audio', mimeType: 'audio/multiopus', clockRate: 48000, channels,
  parameters: { channel_mapping: mapping, num_streams: streams, coupled_streams: coupled, useinbandfec: 1 },
});

// --- what endpoints send -------------------------------------------------------------------------------------
const MID = 'urn:ietf:params:rtp-hdrext:sdes:mid';
const RID = 'urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id';
const RRID = 'urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id';
const AST = 'http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time';
const TCC = 'http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01';
const LEVEL = 'urn:ietf:params:rtp-hdrext:ssrc-audio-level';
const DD = 'https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension';
const CVO = 'urn:3gpp:video-orientation';
const TOFFSET = 'urn:ietf:params:rtp-hdrext:toffset';
const CAPTURE = 'http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time';
const PLAYOUT = 'http://www.webrtc.org/experiments/rtp-hdrext/playout-delay';

const feedback = [
  { type: 'goog-remb' }, { type: 'transport-cc' }, { type: 'ccm', parameter: 'fir' }, { type: 'nack' },
  { type: 'nack', parameter: 'pli' },
];
const codec = (mimeType, payloadType, parameters, more) => ({
  mimeType, payloadType, clockRate: mimeType.startsWith('audio') ? 48000 : 90000,
  ...(mimeType.startsWith('audio') && { channels: 2 }),
  ...(parameters && { parameters }), rtcpFeedback: mimeType.endsWith('rtx') ? [] : feedback, ...more,
});
const rtx = (payloadType, apt) => codec('video/rtx', payloadType, { apt });
const extensions = (...uris) => uris.map((uri, index) => ({ uri, id: index + 1 }));
const ssrcs = (count, more) => Array.from({ length: count }, (_, index) => ({
  ssrc: 1111 + 10 * index, rtx: { ssrc: 1112 + 10 * index }, ...more,
}));
const rids = ['q', 'h', 'f'].map((rid, index) => ({
  rid, maxBitrate: 100000 * 4 ** index, scaleResolutionDownBy: 4 >> index, scalabilityMode: 'L1T3',
}));
const sends = (kind, codecs, encodings, more) => ({
  kind,
  rtpParameters: {
    mid: '0', codecs, encodings, headerExtensions: extensions(MID, kind === 'audio' ? LEVEL : CVO, AST, TCC),
    rtcp: { cname: 'somebody' }, ...more,
  },
});

// --- what endpoints receive ----------------------------------------------------------------------------------
const cap = (mimeType, preferredPayloadType, parameters, more) => ({
  kind: mimeType.split('/')[0], mimeType, preferredPayloadType,
  clockRate: mimeType.startsWith('audio') ? 48000 : 90000, ...(mimeType.startsWith('audio') && { channels: 2 }),
  ...(parameters && { parameters }), rtcpFeedback: mimeType.endsWith('rtx') ? [] : feedback, ...more,
});
const EXTENSION_IDS = {
  [MID]: 1, [RID]: 2, [RRID]: 3, [AST]: 4, [TCC]: 5, [LEVEL]: 6, [DD]: 7, [CVO]: 8, [TOFFSET]: 9, [CAPTURE]: 10,
  [PLAYOUT]: 11,
};
const hears = (codecs, ...uris) => ({
  codecs,
  headerExtensions: uris.flatMap(uri => ['audio', 'video'].map(kind => (
    { kind, uri, preferredId: EXTENSION_IDS[uri], preferredEncrypt: false, direction: 'sendrecv' }
  ))),
});
// Chrome's receive capabilities: every codec with its own RTX, profiles of H264 and VP9, FEC and RED.
const chromeVideo = [
  cap('video/VP8', 96), cap('video/rtx', 97, { apt: 96 }),
  cap('video/VP9', 98, { 'profile-id': 0 }), cap('video/rtx', 99, { apt: 98 }),
  cap('video/VP9', 100, { 'profile-id': 2 }), cap('video/rtx', 101, { apt: 100 }),
  ...[[102, '42001f', 1], [104, '42001f', 0], [106, '42e01f', 1], [108, '42e01f', 0], [112, '4d001f', 1],
    [114, '4d001f', 0], [116, 'f4001f', 1], [118, '64001f', 1]].flatMap(([pt, profile, mode]) => [
    cap('video/H264', pt, {
      'level-asymmetry-allowed': 1, 'packetization-mode': mode, 'profile-level-id': profile,
    }),
    cap('video/rtx', pt + 1, { apt: pt }),
  ]),
  cap('video/AV1', 45, { 'level-idx': 5, profile: 0, tier: 0 }), cap('video/rtx', 46, { apt: 45 }),
  cap('video/H265', 49, { 'profile-id': 1 }), cap('video/red', 120), cap('video/rtx', 121, { apt: 120 }),
  cap('video/ulpfec', 122),
];
const chromeAudio = [
  cap('audio/opus', 111, { minptime: 10, useinbandfec: 1 }), cap('audio/red', 63, { '': '111/111' }),
  cap('audio/G722', 9, {}, { clockRate: 8000, channels: 1 }), cap('audio/PCMU', 0, {}, { clockRate: 8000, channels: 1 }),
  cap('audio/CN', 13, {}, { clockRate: 8000, channels: 1 }),
  cap('audio/telephone-event', 126, {}, { clockRate: 8000, channels: 1 }),
].filter(c => c.mimeType !== 'audio/red').concat(cap('audio/red', 63, { '111/111': '' }));
const chrome = hears([...chromeAudio, ...chromeVideo], MID, RID, RRID, AST, TCC, LEVEL, DD, CVO, TOFFSET, PLAYOUT);
const remb = hears([...chromeAudio, ...chromeVideo], MID, AST, TOFFSET);
const bare = hears([opus, video('VP8'), h264('42e034', 1)].map(c => ({ ...c, rtcpFeedback: [{ type: 'nack' }] })));

// --- scenarios -----------------------------------------------------------------------------------------------
const scenarios = {
  audio: {
    mediaCodecs: [opus, { ...opus, mimeType: 'audio/PCMU', clockRate: 8000, channels: 1 }],
    producers: {
      opus: sends('audio', [codec('audio/opus', 111, { useinbandfec: 1, usedtx: 1, foo: 222.222, bar: '333' })],
        [{ ssrc: 1111, dtx: true, maxBitrate: 64000 }], { msid: 'stream track' }),
      noEncodings: sends('audio', [codec('audio/opus', 0)], undefined, { headerExtensions: undefined, rtcp: undefined }),
      captureTime: sends('audio', [codec('audio/opus', 111)], [{ ssrc: 1 }], { headerExtensions: extensions(CAPTURE) }),
      pcmu: sends('audio', [codec('audio/PCMU', 0, {}, { clockRate: 8000, channels: 1 })], [{ ssrc: 5 }]),
      mono: sends('audio', [codec('audio/opus', 111, {}, { channels: 1 })], [{ ssrc: 1 }]),
      chicken: sends('audio', [codec('audio/chicken', 111)], [{ ssrc: 1 }]),
    },
    capabilities: {
      chrome, bare, deaf: hears([]), nothing: {}, aiortc: aiortc.vp8.recvRtpCapabilities,
      captureTime: hears([opus], CAPTURE, MID),
    },
  },
  simulcast: {
    mediaCodecs: [opus, video('VP8', { 'x-google-start-bitrate': 1000 }), video('VP9', { 'profile-id': 2 })],
    producers: {
      chromeSimulcast: sends('video', [codec('video/VP8', 96), rtx(97, 96)], rids, {
        headerExtensions: extensions(MID, RID, RRID, AST, TCC, CVO, TOFFSET, PLAYOUT, DD),
      }),
      ssrcSimulcast: sends('video', [codec('video/VP8', 96)], ssrcs(4, { scalabilityMode: 'L1T5' })),
      noModes: sends('video', [codec('video/VP8', 96), rtx(97, 96)], ssrcs(2, { codecPayloadType: 96 })),
      single: sends('video', [codec('video/vp8', 120)], [{ ssrc: 7, dtx: true, maxBitrate: 0 }]),
      orphanRtx: sends('video', [codec('video/VP8', 96), rtx(97, 98)], ssrcs(1)),
      vp9ProfileMissing: sends('video', [codec('video/VP9', 98)], ssrcs(1)),
      aiortc: { kind: 'video', rtpParameters: aiortc.vp8.produced.video },
    },
    capabilities: { chrome, remb, bare, aiortc: aiortc.vp8.recvRtpCapabilities, aiortcNative: aiortc.native },
  },
  svc: {
    mediaCodecs: [video('VP9'), video('VP9', { 'profile-id': 2 }), video('AV1', {}, { preferredPayloadType: 45 })],
    producers: {
      vp9: sends('video', [codec('video/VP9', 98, { 'profile-id': 0 }), rtx(99, 98)],
        ssrcs(1, { scalabilityMode: 'L3T3_KEY', maxBitrate: 1500000 })),
      vp9Profile2: sends('video', [codec('video/VP9', 98, { 'profile-id': 2 })], ssrcs(1, { scalabilityMode: 'S3T3' })),
      vp9Profile1: sends('video', [codec('video/VP9', 98, { 'profile-id': 1 })], ssrcs(1)),
      av1: sends('video', [codec('video/AV1', 45, { 'level-idx': 5, profile: 0, tier: 0 }), rtx(46, 45)],
        ssrcs(1, { scalabilityMode: 'L2T2h' }), { headerExtensions: extensions(MID, DD, TCC) }),
      twoCodecs: sends('video', [codec('video/AV1', 45), rtx(46, 45), codec('video/VP9', 98), rtx(99, 98)], ssrcs(1)),
    },
    capabilities: {
      chrome, remb,
      onlySecond: hears([cap('video/VP9', 98), cap('video/rtx', 99, { apt: 98 })], TCC, DD),
      rtxWithoutVp9: hears([cap('video/AV1', 45), cap('video/rtx', 99, { apt: 98 })]),
    },
  },
  h264: {
    mediaCodecs: [
      h264('42e01f', 1), h264('42e01f', 0), h264('4d0032', 1, { bar: 'lalala' }), h264('640032', 1),
      h264('f4001f', 1), video('H264', { 'packetization-mode': 1, 'profile-level-id': '420014' }),
    ],
    producers: Object.fromEntries([
      ['baseline', { 'packetization-mode': 1, 'profile-level-id': '42e01f', 'level-asymmetry-allowed': 1 }],
      ['higherLevelAsymmetric', { 'packetization-mode': 1, 'profile-level-id': '42e034', 'level-asymmetry-allowed': 1 }],
      ['higherLevel', { 'packetization-mode': 1, 'profile-level-id': '42E034' }],
      ['lowerLevel', { 'packetization-mode': 1, 'profile-level-id': '42e00b', 'level-asymmetry-allowed': '1' }],
      ['default', {}],
      ['mode0', { 'packetization-mode': 0, 'profile-level-id': '42e01f' }],
      ['main', { 'packetization-mode': 1, 'profile-level-id': '4d0032', foo: 1234 }],
      ['main4d80', { 'packetization-mode': 1, 'profile-level-id': '4d8032' }],
      ['high', { 'packetization-mode': 1, 'profile-level-id': '64001f' }],
      ['constrainedHigh', { 'packetization-mode': 1, 'profile-level-id': '640c1f' }],
      ['high444', { 'packetization-mode': 1, 'profile-level-id': 'f40032' }],
      ['plainBaseline', { 'packetization-mode': 1, 'profile-level-id': '420032' }],
      ['extended', { 'packetization-mode': 1, 'profile-level-id': '58c01f' }],
      ['level1b', { 'packetization-mode': 1, 'profile-level-id': '42f00b', 'level-asymmetry-allowed': 1 }],
      ['number', { 'packetization-mode': 1, 'profile-level-id': 640032 }],
      ['garbage', { 'packetization-mode': 1, 'profile-level-id': 'zzzzzz' }],
      ['empty', { 'packetization-mode': 1, 'profile-level-id': '' }],
      ['zero', { 'packetization-mode': 1, 'profile-level-id': '000000' }],
      ['modeAsText', { 'packetization-mode': '1', 'profile-level-id': '42e01f' }],
      ['emptyMode', { 'packetization-mode': '', 'profile-level-id': '42e01f' }],
    ].map(([name, parameters]) => [
      name, sends('video', [codec('video/h264', 112, parameters), rtx(113, 112)], ssrcs(1)),
    ])),
    capabilities: {
      chrome, bare, mode0: hears([cap('video/H264', 1, { 'profile-level-id': '42e01f' })], TCC),
      aiortc: aiortc.h264.recvRtpCapabilities,
    },
  },
  multiopus: {
    mediaCodecs: [multiopus(6, '0,4,1,2,3,5', 4, 2), multiopus(8, '0,6,1,2,3,4,5,7', 5, 3), multiopus(4, '0,1,2,3', 2, 2)],
    producers: Object.fromEntries([
      ['surround51', 6, 4, 2], ['surround71', 8, 5, 3], ['quad', 4, 2, 2], ['wrongStreams', 6, 2, 2],
      ['wrongCoupled', 6, 4, 1], ['wrongChannels', 2, 4, 2],
    ].map(([name, channels, num_streams, coupled_streams]) => [
      name, sends('audio', [codec('audio/multiopus', 0, { num_streams, coupled_streams }, { channels })], [{ ssrc: 3 }]),
    ])),
    capabilities: {
      surround51: hears([multiopus(6, '0,4,1,2,3,5', 4, 2)], MID, LEVEL),
      wrongStreams: hears([multiopus(6, '0,4,1,2,3,5', 3, 2)]), chrome,
    },
  },
  aiortcH264: {
    mediaCodecs: [opus, h264('42e01f', 1)],
    producers: Object.fromEntries(['audio', 'video'].map(kind => [
      kind, { kind, rtpParameters: aiortc.h264.produced[kind] },
    ])),
    capabilities: { aiortc: aiortc.h264.recvRtpCapabilities, chrome },
  },
  mixedEncodings: {
    mediaCodecs: [opus, h264('4d0032', 1, { bar: 'lalala' })],
    producers: {
      ssrcAndRid: sends('video', [
        codec('video/H264', 111, { foo: 1234, 'packetization-mode': 1, 'profile-level-id': '4d0032' }), rtx(112, 111),
      ], [...ssrcs(2, { maxBitrate: 111111, scalabilityMode: 'L1T3' }), { rid: 'high', maxBitrate: 333333, scalabilityMode: 'L1T3' }]),
      incompatible: sends('video', [codec('video/VP8', 120)], ssrcs(1)),
    },
    capabilities: {
      custom: hears([opus, cap('video/H264', 101, { 'packetization-mode': 1, 'profile-level-id': '4d0032', baz: 'LOLOLO' }, {
        rtcpFeedback: [{ type: 'nack' }, { type: 'nack', parameter: 'pli' }, { type: 'foo', parameter: 'FOO' }],
      }), cap('video/rtx', 102, { apt: 101 })], MID, RID, LEVEL, CVO, TOFFSET),
    },
  },
  noRtx: {
    // A router with capabilities from elsewhere, that lack RTX for one codec.
    routerRtpCapabilities: hears([cap('video/VP8', 101), cap('video/VP9', 102), cap('video/rtx', 103, { apt: 102 })], TCC, CVO),
    producers: {
      vp8Rtx: sends('video', [codec('video/VP8', 96), rtx(97, 96)], ssrcs(1)),
      vp8: sends('video', [codec('video/VP8', 96)], ssrcs(1)),
      vp9: sends('video', [codec('video/VP9', 96)], ssrcs(1)),
    },
    capabilities: { chrome },
  },
};

const routers = {
  none: [], opus: [opus], twice: [opus, opus],
  forced: [{ ...opus, parameters: { useinbandfec: 1, foo: 'bar' } }, video('VP8', undefined, { preferredPayloadType: 125 }),
    video('H264', { 'level-asymmetry-allowed': 1, 'profile-level-id': '42e01f', foo: 'bar' }, { rtcpFeedback: [] })],
  forcedFirstDynamic: [video('VP8', undefined, { preferredPayloadType: 100 }), opus],
  forcedAgainstDynamic: [opus, video('VP8', undefined, { preferredPayloadType: 100 })],
  forcedAgainstRtx: [video('VP8'), { ...opus, preferredPayloadType: 101 }],
  forcedNotDynamic: [{ ...opus, preferredPayloadType: 5 }, video('VP9', undefined, { preferredPayloadType: 35 })],
  forcedTwice: [{ ...opus, preferredPayloadType: 96 }, { ...opus, preferredPayloadType: 96 }],
  allVideo: ['VP8', 'VP9', 'H264', 'AV1', 'vp8', 'Av1'].map(name => video(name)),
  oldAudio: ['PCMU', 'PCMA', 'G722', 'iLBC', 'CN', 'telephone-event'].map(name => (
    { kind: 'audio', mimeType: `audio/${name}`, clockRate: 8000 }
  )),
  wideAudio: [['ISAC', 32000], ['ISAC', 16000], ['SILK', 24000], ['SILK', 12000], ['telephone-event', 48000]]
    .map(([name, clockRate]) => ({ kind: 'audio', mimeType: `audio/${name}`, clockRate })),
  kindFromMimeType: [{ ...opus, kind: 'video' }],
  chicken: [{ ...opus, mimeType: 'audio/chicken' }], mono: [{ ...opus, channels: 1 }], noChannels: [{ ...opus, channels: undefined }],
  wrongRate: [{ ...opus, clockRate: 44100 }], h265: [video('H265')], multiopus2: [multiopus(2, '0,1', 1, 1)],
  malformedMime: [{ ...opus, mimeType: 'opus' }], noMime: [{ ...opus, mimeType: undefined }], application: [{ ...opus, mimeType: 'application/opus' }],
  noRate: [{ ...opus, clockRate: undefined }], textRate: [{ ...opus, clockRate: '48000' }],
  textApt: [video('VP8', { apt: '1' })], nullParameter: [{ ...opus, parameters: { x: null } }],
  boolParameter: [{ ...opus, parameters: { x: true } }], objectParameter: [{ ...opus, parameters: { x: {} } }],
  noFeedbackType: [{ ...opus, rtcpFeedback: [{ parameter: 'pli' }] }], textPayloadType: [{ ...opus, preferredPayloadType: '100' }],
  oneHundred: Array(100).fill(opus), seventeenVideo: Array(17).fill(video('VP8')), sixteenVideo: Array(16).fill(video('VP8')),
};

const badParameters = {
  noCodecs: { codecs: undefined }, codecsNotList: { codecs: {} }, noPayloadType: { codecs: [codec('audio/opus')] },
  textPayloadType: { codecs: [codec('audio/opus', '96')] }, badMime: { codecs: [codec('audio', 96)] },
  noRate: { codecs: [codec('audio/opus', 96, {}, { clockRate: undefined })] },
  boolParameter: { codecs: [codec('audio/opus', 96, { x: false })] }, textApt: { codecs: [codec('video/rtx', 96, { apt: 'x' })] },
  numberMid: { mid: 3 }, numberMsid: { msid: 3 }, extensionsNotList: { headerExtensions: {} },
  extensionNoUri: { headerExtensions: [{ id: 1 }] }, extensionNoId: { headerExtensions: [{ uri: MID }] },
  extensionTextEncrypt: { headerExtensions: [{ uri: MID, id: 1, encrypt: 'yes' }] },
  encodingsNotList: { encodings: {} }, textSsrc: { encodings: [{ ssrc: '1' }] }, numberRid: { encodings: [{ rid: 1 }] },
  rtxWithoutSsrc: { encodings: [{ rtx: {} }] }, numberMode: { encodings: [{ scalabilityMode: 3 }] }, textRtcp: { rtcp: 'x' },
  numberCname: { rtcp: { cname: 3 } }, nothingWrong: {}, reducedSizeOff: { rtcp: { cname: 'x', reducedSize: false } },
  explicitDtx: { encodings: [{ ssrc: 1, dtx: true }, { ssrc: 2 }] },
};
const badCapabilities = {
  codecsNotList: { codecs: {} }, extensionsNotList: { headerExtensions: {} }, empty: {}, badMime: { codecs: [{ ...opus, mimeType: 'x' }] },
  extensionNoKind: { headerExtensions: [{ uri: MID, preferredId: 1 }] }, extensionNoUri: { headerExtensions: [{ kind: 'audio', preferredId: 1 }] },
  extensionNoId: { headerExtensions: [{ kind: 'audio', uri: MID }] }, numberDirection: { headerExtensions: [{ kind: 'audio', uri: MID, preferredId: 1, direction: 3 }] },
  unknownUri: { headerExtensions: [{ kind: 'audio', uri: 'urn:unknown', preferredId: 1 }] }, chrome,
};
const streams = {
  plain: { streamId: 1 }, ordered: { streamId: 1, ordered: true }, unordered: { streamId: 1, ordered: false },
  lifetime: { streamId: 1, maxPacketLifeTime: 3000 }, retransmits: { streamId: 1, maxRetransmits: 3 }, zero: { streamId: 1, maxRetransmits: 0 },
  unorderedRetransmits: { streamId: 1, ordered: false, maxRetransmits: 3 }, both: { streamId: 1, maxPacketLifeTime: 1, maxRetransmits: 1 },
  orderedLifetime: { streamId: 1, ordered: true, maxPacketLifeTime: 1 }, noId: { ordered: true }, textId: { streamId: '1' },
  textLifetime: { streamId: 1, maxPacketLifeTime: '1' },
};
const modes = [null, '', 'L1T1', 'L1T3', 'L3T3', 'L3T3_KEY', 'S2T3', 'L2T2h', 'L10T99_KEY', 'L0T1', 'L1T0', 'T3', 'foo', 'l1t1', 'L1T', ' L1T1', 'L100T1', 'L1T100'];

// --- recording -----------------------------------------------------------------------------------------------
function normalized(validate, input) {
  return ask(() => { const copy = structuredClone(input); validate(copy); return copy; });
}

function play({ mediaCodecs, routerRtpCapabilities, producers, capabilities }) {
  const routerCaps = routerRtpCapabilities ?? ortc.generateRouterRtpCapabilities(structuredClone(mediaCodecs));
  ortc.validateAndNormalizeRtpCapabilities(routerCaps);
  const story = { mediaCodecs, routerRtpCapabilities: structuredClone(routerCaps), capabilities, producers: [] };
  for (const [name, { kind, rtpParameters }] of Object.entries(producers)) {
    const params = structuredClone(rtpParameters);
    ortc.validateAndNormalizeRtpParameters(params);
    const producer = { name, kind, rtpParameters, mapping: ask(() => ortc.getProducerRtpParametersMapping(params, routerCaps)) };
    story.producers.push(producer);
    if (producer.mapping.error) continue;
    producer.answered = structuredClone(params);
    producer.consumable = structuredClone(ortc.getConsumableRtpParameters(kind, params, routerCaps, producer.mapping.result));
    const consumable = () => structuredClone(producer.consumable);
    producer.consumers = Object.entries(capabilities).flatMap(([who, caps]) => (
      [[false, true], [false, false], [true, true]].map(([pipe, enableRtx]) => ({
        capabilities: who, pipe, enableRtx, canConsume: ortc.canConsume(consumable(), structuredClone(caps)),
        parameters: ask(() => {
          const remoteRtpCapabilities = structuredClone(caps);
          ortc.validateAndNormalizeRtpCapabilities(remoteRtpCapabilities);
          return ortc.getConsumerRtpParameters({ consumableRtpParameters: consumable(), remoteRtpCapabilities, pipe, enableRtx });
        }),
      }))
    ));
    producer.pipes = [true, false].map(enableRtx => ({
      enableRtx, parameters: ask(() => ortc.getPipeConsumerRtpParameters({ consumableRtpParameters: consumable(), enableRtx })),
    }));
  }
  return story;
}

const each = (table, call) => Object.entries(table).map(([name, input]) => ({ name, input, ...call(input) }));
const recordings = {
  ...Object.fromEntries(Object.entries(scenarios).map(([name, scenario]) => [`scenario_${name}`, play(scenario)])),
  routers: each(routers, codecs => ask(() => ortc.generateRouterRtpCapabilities(structuredClone(codecs)))),
  parameters: each(badParameters, changes => (
    normalized(ortc.validateAndNormalizeRtpParameters, { codecs: [codec('audio/opus', 96)], ...changes })
  )).map(entry => ({ ...entry, input: { codecs: [codec('audio/opus', 96)], ...entry.input } })),
  capabilities: each(badCapabilities, caps => normalized(ortc.validateAndNormalizeRtpCapabilities, caps)),
  sctp_streams: each(streams, params => normalized(ortc.validateAndNormalizeSctpStreamParameters, params)),
  scalability_modes: modes.map(mode => ({ mode, result: parseScalabilityMode(mode) })),
};
fs.mkdirSync(out, { recursive: true });
for (const [name, recording] of Object.entries(recordings)) {
  fs.writeFileSync(path.join(out, `${name}.json`), `${JSON.stringify(recording)}\n`);
}
