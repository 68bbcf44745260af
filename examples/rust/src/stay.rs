//! A peer that stays in the room: it watches, or receives audio, where it is placed.

use std::convert::Infallible;
use std::future::{pending, Future};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{json, Value};
use str0m::rtp::RtpPacket;
use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver, UnboundedSender};
use tokio::time::sleep;

use crate::messages::{JoinResult, MediaKindEnum, PeerLeft, ProducerOpened, RoomSnapshotAnswer};
use crate::peer::{Failure, Message, Peer, Received, Refused};
use crate::transport::Transport;

const ASK_EVERY: Duration = Duration::from_secs(20);
const SECOND_OF_AUDIO: u32 = 50; // packets

/// Stays until an event of the given name, its removal, or Ctrl-C.
pub async fn stay(
    peer: Arc<Peer>,
    mut received: UnboundedReceiver<Received>,
    receives: bool,
    until: Option<&str>,
) -> Result<(), Failure> {
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    let place = peer.join(json!({"appData": {"language": "Rust"}}), &mut received).await?;
    let mut session = Session::begin(&peer, receives, place);
    loop {
        tokio::select! {
            _ = &mut interrupted => break,
            Err(failure) = &mut session.work => match failure.downcast_ref::<Refused>() {
                Some(refused) if refused.code() == "worker-died" => session.work = Box::pin(pending()), // the next place comes
                _ => return Err(failure),
            },
            Some(found) = received.recv() => match found {
                // The worker died, and all that it had is gone.
                Received::Place(place) => session = Session::begin(&peer, receives, place),
                Received::Failed(failure) => return Err(failure),
                Received::Event(event) => {
                    println!("{}", json!({"event": event.name(), "data": event.data}));
                    if is_removal(&event, &peer.name) {
                        println!("{}", json!({"removed": true}));
                        return Ok(());
                    }
                    if until.is_some_and(|until| until == event.name()) {
                        break;
                    }
                    session.heed(event);
                }
            },
        }
    }
    drop(session);
    peer.send::<Value>("leave", json!({})).await?;
    println!("{}", json!({"left": true}));
    Ok(())
}

fn is_removal(event: &Message, name: &str) -> bool {
    let left = serde_json::from_value::<PeerLeft>(event.data.clone());
    event.kind == "mafalda.event.peer-left.v1" && left.is_ok_and(|left| left.peer == name)
}

/// What a peer has at one place: it ends when it is dropped, and before that by a failure alone.
struct Session {
    work: Pin<Box<dyn Future<Output = Result<Infallible, Failure>>>>,
    opened: UnboundedSender<String>,
}

impl Session {
    fn begin(peer: &Arc<Peer>, receives: bool, place: JoinResult) -> Session {
        println!(
            "{}",
            json!({"joined": {"server": place.server, "worker": place.worker, "generation": place.generation}})
        );
        let (opened, producers) = unbounded_channel();
        Session { work: Box::pin(work(peer.clone(), receives, place, producers)), opened }
    }

    /// Receives a producer that has opened.
    fn heed(&self, event: Message) {
        if event.kind == "mafalda.event.producer-opened.v1" {
            if let Ok(ProducerOpened { producer, media_kind: MediaKindEnum::Audio, .. }) =
                serde_json::from_value(event.data)
            {
                let _ = self.opened.send(producer); // who only watches does not read it
            }
        }
    }
}

async fn work(
    peer: Arc<Peer>,
    receives: bool,
    place: JoinResult,
    opened: UnboundedReceiver<String>,
) -> Result<Infallible, Failure> {
    if !receives {
        return watch(&peer).await;
    }
    let (transport, drive) = Transport::open(&peer, &place.router_rtp_capabilities).await?;
    tokio::select! {
        ended = drive => ended,
        ended = receive(&peer, &transport, opened) => ended,
    }
}

/// Asks something now and then: a peer without a transport that asks for nothing has left after a minute.
async fn watch(peer: &Peer) -> Result<Infallible, Failure> {
    room(peer).await?;
    loop {
        sleep(ASK_EVERY).await;
        let _ = peer.ask::<Value>("scores", json!({})).await; // without a worker there is no answer, and another place comes
    }
}

/// Asks who and what is in the room. Events were subscribed to before: what comes later than this answer is in them.
async fn room(peer: &Peer) -> Result<RoomSnapshotAnswer, Failure> {
    let room: RoomSnapshotAnswer = peer.ask("room", json!({})).await?;
    println!("{}", json!({"room": room}));
    Ok(room)
}

/// Receives every audio producer, those that are there and those that open later.
async fn receive(
    peer: &Arc<Peer>,
    transport: &Transport,
    mut opened: UnboundedReceiver<String>,
) -> Result<Infallible, Failure> {
    for producer in room(peer).await?.producers {
        if matches!(producer.media_kind, MediaKindEnum::Audio) {
            hear(peer, transport, producer.producer).await;
        }
    }
    while let Some(producer) = opened.recv().await {
        hear(peer, transport, producer).await; // of one that is also in the answer: already-exists
    }
    pending().await
}

/// Consumes a producer, and reports when it is heard.
async fn hear(peer: &Arc<Peer>, transport: &Transport, producer: String) {
    match transport.receive(peer, &producer).await {
        Ok(packets) => {
            tokio::spawn(count(packets, producer));
        }
        // It has closed meanwhile, or is consumed already.
        Err(failure) => println!("{}", json!({"not-consumed": producer, "reason": failure.to_string()})),
    }
}

/// Prints when the first 50 packets have come: one second of audio.
async fn count(mut received: UnboundedReceiver<RtpPacket>, producer: String) {
    let mut packets = 0;
    while received.recv().await.is_some() {
        packets += 1;
        if packets == SECOND_OF_AUDIO {
            println!("{}", json!({"heard": producer, "packets": packets}));
        }
    }
}
