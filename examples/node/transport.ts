// A WebRTC transport that receives, as ORTC has it: werift's ICE and DTLS, and no SDP.
import { IceCandidate, RTCDtlsFingerprint, RTCDtlsParameters, RTCDtlsTransport, RTCIceGatherer, RTCIceTransport, type RtpPacket } from "werift";
import type { MessageData } from "../../web/sdk/src/protocol/messages.ts";
import type { Peer, Place } from "./peer.ts";

const AES_CM_128_HMAC_SHA1_80 = 1; // of RFC 5764; mediasoup has it

export class Receiver {
  private readonly peer: Peer;
  private readonly place: Place;
  private readonly id: string;
  private readonly dtls: RTCDtlsTransport;
  private readonly packets = new Map<number, (packet: RtpPacket) => void>(); // by SSRC

  private constructor(peer: Peer, place: Place, id: string, dtls: RTCDtlsTransport) {
    this.peer = peer;
    this.place = place;
    this.id = id;
    this.dtls = dtls;
    dtls.onRtp.subscribe((packet) => this.packets.get(packet.header.ssrc)?.(packet));
  }

  /** Creates a transport at the peer's worker, and connects it by ICE and DTLS. */
  static async open(peer: Peer, place: Place): Promise<Receiver> {
    const id = `${peer.name}-receive`;
    const intent = { transport: id, direction: "receive" } satisfies MessageData["mafalda.intent.create-transport.v1"];
    const remote = await peer.do<"mafalda.result.transport.v1">("create-transport", intent, { secret: true });
    const certificate = await RTCDtlsTransport.SetupCertificate();
    const { algorithm, value } = certificate.getFingerprints()[0]!;
    const connect = { transport: id, dtlsParameters: { role: "client", fingerprints: [{ algorithm, value } as { algorithm: "sha-256"; value: string }] } } satisfies MessageData["mafalda.intent.connect-transport.v1"];
    await peer.do("connect-transport", connect);

    const ice = new RTCIceTransport(new RTCIceGatherer({ useIpv6: false, additionalHostAddresses: ["127.0.0.1"] }));
    ice.connection.iceControlling = true; // the worker is ICE lite
    ice.setRemoteParams({ iceLite: true, ...remote.iceParameters! });
    await ice.gather();
    for (const it of remote.iceCandidates) {
      if (it.protocol === "udp") await ice.addRemoteCandidate(new IceCandidate(1, it.foundation, it.ip, it.port, it.priority, it.protocol, it.type));
    }
    await ice.addRemoteCandidate(undefined); // there are no more
    const dtls = new RTCDtlsTransport({}, ice, certificate, [AES_CM_128_HMAC_SHA1_80]);
    dtls.role = "client";
    const fingerprints = remote.dtlsParameters.fingerprints.map((it) => new RTCDtlsFingerprint(it.algorithm, it.value));
    dtls.setRemoteParams(new RTCDtlsParameters(fingerprints, "server"));
    const receiver = new Receiver(peer, place, id, dtls);
    await ice.start();
    await dtls.start();
    return receiver;
  }

  /** Consumes a producer; `onPacket` gets its RTP packets, decrypted. */
  async consume(producer: string, onPacket: (packet: RtpPacket) => void): Promise<void> {
    const consumer = `${this.peer.name}-${producer}`;
    const rtpCapabilities = this.place.routerRtpCapabilities; // all that the router has: the packets are not decoded here
    const intent = { consumer, transport: this.id, producer, rtpCapabilities } satisfies MessageData["mafalda.intent.consume.v1"];
    const result = await this.peer.do<"mafalda.result.consume.v1">("consume", intent);
    this.packets.set(result.rtpParameters.encodings![0]!.ssrc!, onPacket);
    // A consumer starts paused, so that nothing is sent before the client is ready.
    await this.peer.do("resume-consumer", { consumer });
  }

  async close(): Promise<void> {
    await this.dtls.stop();
    await this.dtls.iceTransport.stop();
  }
}
