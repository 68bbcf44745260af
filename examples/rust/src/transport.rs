//! A WebRTC transport to the peer's worker, without SDP: str0m does ICE, DTLS and SRTP, and this its UDP.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;
use str0m::format::{Codec, FormatParams};
use str0m::media::{Frequency, MediaKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{RtpPacket, Ssrc};
use str0m::{Candidate, Event, IceCreds, Input, Output, Rtc};
use tokio::net::UdpSocket;
use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver, UnboundedSender};
use tokio::time::sleep_until;

use crate::messages::Protocol as CandidateProtocol;
use crate::messages::{Algorithm, ConsumeResult, DoneResult, IceCandidate, RtpCapabilities, TransportResult};
use crate::peer::{Failure, Peer};

const LONGEST_DATAGRAM: usize = 2000; // bytes; mediasoup's have at most 1,500

/// What a client of audio can do: the router's Opus under the router's payload type, no RTP header extensions.
fn opus_of(router: &RtpCapabilities) -> RtpCapabilities {
    let mut own = router.clone();
    own.header_extensions = None;
    let codecs = own.codecs.get_or_insert_default();
    codecs.retain(|codec| codec.mime_type.eq_ignore_ascii_case("audio/opus"));
    own
}

/// RTP that is to come.
struct Stream {
    mid: Mid,
    ssrc: Ssrc,
    packets: UnboundedSender<RtpPacket>,
}

pub struct Transport {
    id: String,
    capabilities: RtpCapabilities,
    streams: UnboundedSender<Stream>,
}

impl Transport {
    /// Opens a transport to receive at the peer's worker. It works while the future beside it is awaited, which ends
    /// by a failure alone.
    pub async fn open(
        peer: &Peer,
        router: &RtpCapabilities,
    ) -> Result<(Transport, impl Future<Output = Result<Infallible, Failure>>), Failure> {
        let id = format!("{}-receive", peer.name);
        let intent = json!({"transport": id, "direction": "receive"});
        let remote: TransportResult = peer.send_private("create-transport", intent).await?;
        let (socket, address) = reach(&remote.ice_candidates).await?;
        let capabilities = opus_of(router);
        let mut rtc = configure(&capabilities)?;
        start(&mut rtc, &remote, socket.local_addr()?, address)?;
        let own = rtc.direct_api().local_dtls_fingerprint().to_string(); // such as "sha-256 5A:…"
        let value = own.trim_start_matches("sha-256 ");
        let fingerprints = json!([{"algorithm": "sha-256", "value": value}]);
        let parameters = json!({"role": "client", "fingerprints": fingerprints});
        let intent = json!({"transport": id, "dtlsParameters": parameters});
        peer.send::<DoneResult>("connect-transport", intent).await?;
        let (streams, wanted) = unbounded_channel();
        Ok((Transport { id, capabilities, streams }, drive(rtc, socket, address, wanted)))
    }

    /// Consumes a producer and returns its packets.
    pub async fn receive(&self, peer: &Arc<Peer>, producer: &str) -> Result<UnboundedReceiver<RtpPacket>, Failure> {
        let intent = json!({
            "consumer": format!("{}-{producer}", peer.name),
            "transport": self.id,
            "producer": producer,
            "rtpCapabilities": self.capabilities,
        });
        let consumer: ConsumeResult = peer.send("consume", intent).await?;
        let sent = consumer.rtp_parameters;
        let ssrc = sent
            .encodings
            .iter()
            .flatten()
            .find_map(|encoding| encoding.ssrc)
            .ok_or("consume: a result without an SSRC")?;
        let mid = sent.mid.ok_or("consume: a result without a mid")?;
        let (packets, received) = unbounded_channel();
        self.streams.send(Stream { mid: mid.as_str().into(), ssrc: u32::try_from(ssrc)?.into(), packets })?;
        // A consumer starts paused, so that nothing is sent before the client is ready.
        let intent = json!({"consumer": consumer.consumer});
        peer.send::<DoneResult>("resume-consumer", intent).await?;
        Ok(received)
    }
}

/// A socket to the first candidate that this host has a route to.
async fn reach(candidates: &[IceCandidate]) -> Result<(UdpSocket, SocketAddr), Failure> {
    let mut reason = "the worker has no UDP candidate".into();
    for candidate in candidates.iter().filter(|candidate| matches!(candidate.protocol, CandidateProtocol::Udp)) {
        let address = SocketAddr::new(candidate.ip.parse()?, candidate.port.try_into()?);
        let any = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
        match socket.connect(address).await {
            Ok(()) => return Ok((socket, address)),
            Err(failure) => reason = format!("{address}: {failure}"),
        }
    }
    Err(reason.into())
}

fn configure(capabilities: &RtpCapabilities) -> Result<Rtc, Failure> {
    let mut config = Rtc::builder().set_rtp_mode(true).clear_codecs().clear_extension_map();
    for codec in capabilities.codecs.iter().flatten() {
        let payload_type = codec.preferred_payload_type.ok_or("the router's Opus has no payload type")?;
        let payload_type = u8::try_from(payload_type)?.into();
        config.codec_config().add_config(
            payload_type,
            None,
            Codec::Opus,
            Frequency::FORTY_EIGHT_KHZ,
            Some(2),
            FormatParams::default(),
        );
    }
    Ok(config.build(Instant::now()))
}

/// ICE as the controlling agent, since the worker's is lite, and DTLS as the client.
fn start(rtc: &mut Rtc, remote: &TransportResult, local: SocketAddr, address: SocketAddr) -> Result<(), Failure> {
    let ice = remote.ice_parameters.as_ref().ok_or("create-transport: a result without ICE parameters")?;
    let fingerprints = &remote.dtls_parameters.fingerprints;
    let fingerprint = fingerprints
        .iter()
        .find(|found| matches!(found.algorithm, Algorithm::Sha256))
        .ok_or("the worker has no sha-256 fingerprint")?;
    rtc.add_local_candidate(Candidate::host(local, "udp")?);
    rtc.add_remote_candidate(Candidate::host(address, "udp")?);
    let mut api = rtc.direct_api();
    api.set_ice_controlling(true);
    api.set_remote_ice_credentials(IceCreds { ufrag: ice.username_fragment.clone(), pass: ice.password.clone() });
    api.set_remote_fingerprint(format!("sha-256 {}", fingerprint.value).parse()?);
    api.start_dtls(true)?;
    Ok(())
}

/// Carries datagrams and time to str0m and back, and packets to those who wait for them.
async fn drive(
    mut rtc: Rtc,
    socket: UdpSocket,
    address: SocketAddr,
    mut wanted: UnboundedReceiver<Stream>,
) -> Result<Infallible, Failure> {
    let local = socket.local_addr()?;
    let mut streams = HashMap::new();
    let mut datagram = [0; LONGEST_DATAGRAM];
    rtc.handle_input(Input::Timeout(Instant::now()))?;
    loop {
        let until = poll(&mut rtc, &socket, &streams).await?;
        tokio::select! {
            Some(stream) = wanted.recv() => {
                let mut api = rtc.direct_api();
                api.declare_media(stream.mid, MediaKind::Audio);
                api.expect_stream_rx(stream.ssrc, None, stream.mid, None);
                streams.insert(stream.ssrc, stream.packets);
            }
            // An error is the other end's: after the death of the worker nobody has the port.
            Ok(length) = socket.recv(&mut datagram) => {
                if let Ok(contents) = datagram[..length].try_into() {
                    let received = Receive { proto: Protocol::Udp, source: address, destination: local, contents };
                    rtc.handle_input(Input::Receive(Instant::now(), received))?;
                }
            }
            () = sleep_until(until.into()) => rtc.handle_input(Input::Timeout(Instant::now()))?,
        }
    }
}

/// Does what str0m wants done; when it wants to be called again.
async fn poll(
    rtc: &mut Rtc,
    socket: &UdpSocket,
    streams: &HashMap<Ssrc, UnboundedSender<RtpPacket>>,
) -> Result<Instant, Failure> {
    loop {
        match rtc.poll_output()? {
            Output::Timeout(until) => return Ok(until),
            Output::Transmit(transmit) => {
                let _ = socket.send(&transmit.contents).await; // a lost datagram: ICE and DTLS repeat theirs
            }
            Output::Event(Event::RtpPacket(packet)) => {
                if let Some(packets) = streams.get(&packet.header.ssrc) {
                    let _ = packets.send(packet);
                }
            }
            Output::Event(_) => {}
        }
    }
}
