//! Takes part in a room: watches it, or moderates. Prints one JSON object a line.
//!
//!     export MAFALDA_TOKEN=...                              a participant's token; none for an open fleet
//!     cargo run -- NATS_URL ROOM PEER watch [EVENT]         who and what is in the room, and each event
//!     cargo run -- NATS_URL ROOM PEER mute OTHER PRODUCER   pauses another peer's producer ("moderate" is granted)
//!     cargo run -- NATS_URL ROOM PEER remove OTHER          removes another peer ("moderate" is granted)
//!
//! With an EVENT, such as producer-paused, it leaves after the first one of that name; without one, at Ctrl-C.

#[allow(dead_code, clippy::all)]
#[path = "../../../types/rust/messages.rs"]
mod messages;
mod peer;

use messages::{JoinResult, PauseProducerIntent, PeerLeft, RoomSnapshotAnswer};
use peer::{Failure, Message, Peer, Received};
use serde_json::{json, Value};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let token = std::env::var("MAFALDA_TOKEN").unwrap_or_default();
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [url, room, name, "mute", other, producer] => {
            let intent = PauseProducerIntent { producer: producer.to_string() };
            moderate((url, &token, room, name), other, "pause-producer", json!(intent)).await?;
            println!("{}", json!({"mute": [other, producer]}));
        }
        [url, room, name, "remove", other] => {
            moderate((url, &token, room, name), other, "leave", json!({})).await?;
            println!("{}", json!({"remove": [other]}));
        }
        [url, room, name, "watch", until @ ..] => {
            watch((url, &token, room, name), until.first().copied()).await?;
        }
        _ => {
            eprintln!("usage: room NATS_URL ROOM PEER watch [EVENT] | mute OTHER PRODUCER | remove OTHER");
            std::process::exit(2);
        }
    }
    Ok(())
}

type Who<'a> = (&'a str, &'a str, &'a str, &'a str); // URL, token, room, peer

/// Needs no place in the room: publishes another peer's intent, and reads its result.
async fn moderate((url, token, room, name): Who<'_>, other: &str, action: &str, data: Value) -> Result<(), Failure> {
    let result = format!("live.mafalda.room.{room}.peer.{other}.result.{action}");
    let (peer, _received) = Peer::connect(url, token, room, name, Some(result)).await?;
    peer.send_as::<Value>(other, action, data).await?;
    Ok(())
}

/// Stays in the room until an event of the given name, its removal, or Ctrl-C.
async fn watch((url, token, room, name): Who<'_>, until: Option<&str>) -> Result<(), Failure> {
    let (peer, mut received) = Peer::connect(url, token, room, name, None).await?;
    let place = peer.join(json!({"appData": {"language": "Rust"}}), &mut received).await?;
    joined(&peer, place).await?;
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => break,
            Some(found) = received.recv() => match found {
                // Its worker died. A client with transports, producers and consumers opens them again here.
                Received::Place(place) => joined(&peer, place).await?,
                Received::Failed(failure) => return Err(failure),
                Received::Event(event) => {
                    println!("{}", json!({"event": event.name(), "data": event.data}));
                    if is_removal(&event, name) {
                        println!("{}", json!({"removed": true}));
                        return Ok(());
                    }
                    if until.is_some_and(|until| until == event.name()) {
                        break;
                    }
                }
            },
        }
    }
    peer.send::<Value>("leave", json!({})).await?;
    println!("{}", json!({"left": true}));
    Ok(())
}

async fn joined(peer: &Peer, place: JoinResult) -> Result<(), Failure> {
    println!("{}", json!({"joined": {"server": place.server, "worker": place.worker, "generation": place.generation}}));
    // Events were subscribed to before: what comes later than this answer is in them.
    let room: RoomSnapshotAnswer = peer.ask("room", json!({})).await?;
    println!("{}", json!({"room": room}));
    Ok(())
}

fn is_removal(event: &Message, name: &str) -> bool {
    let left = serde_json::from_value::<PeerLeft>(event.data.clone());
    event.kind == "mafalda.event.peer-left.v1" && left.is_ok_and(|left| left.peer == name)
}
