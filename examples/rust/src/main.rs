//! Takes part in a room: watches it, receives audio with str0m's WebRTC, or moderates. Prints one JSON object a line.
//!
//!     export MAFALDA_TOKEN=...                              a participant's token; none for an open fleet
//!     cargo run -- NATS_URL ROOM PEER watch [EVENT]         who and what is in the room, and each event
//!     cargo run -- NATS_URL ROOM PEER receive [EVENT]       the same, and receives every audio producer
//!     cargo run -- NATS_URL ROOM PEER mute OTHER PRODUCER   pauses another peer's producer ("moderate" is granted)
//!     cargo run -- NATS_URL ROOM PEER remove OTHER          removes another peer ("moderate" is granted)
//!
//! With an EVENT, such as producer-paused, it leaves after the first one of that name; without one, at Ctrl-C.
//! After the death of its worker, or of NATS, it goes on where it is placed then.

#[allow(dead_code, clippy::all)]
#[path = "../../../types/rust/messages.rs"]
mod messages;
mod peer;
mod stay;
mod transport;

use peer::{Failure, Peer};
use serde_json::{json, Value};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let token = std::env::var("MAFALDA_TOKEN").unwrap_or_default();
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [url, room, name, "mute", other, producer] => {
            let intent = json!({"producer": producer});
            moderate((url, &token, room, name), other, "pause-producer", intent).await?;
            println!("{}", json!({"mute": [other, producer]}));
        }
        [url, room, name, "remove", other] => {
            moderate((url, &token, room, name), other, "leave", json!({})).await?;
            println!("{}", json!({"remove": [other]}));
        }
        [url, room, name, what @ ("watch" | "receive"), until @ ..] => {
            let (peer, received) = Peer::connect(url, &token, room, name, None).await?;
            stay::stay(peer, received, *what == "receive", until.first().copied()).await?;
        }
        _ => {
            eprintln!(
                "usage: room NATS_URL ROOM PEER watch [EVENT] | receive [EVENT] | mute OTHER PRODUCER | remove OTHER"
            );
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
