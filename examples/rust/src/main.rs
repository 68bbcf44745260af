//! Joins a room, prints who and what is there and each event, one JSON object a line, and leaves.
//!
//!     cargo run -- nats://127.0.0.1:4222 ROOM PEER [EVENT]
//!
//! It leaves after the first event of that name, such as producer-paused; without one, at Ctrl-C.

#[allow(dead_code)]
#[path = "../../../types/rust/messages.rs"]
mod messages;

use std::error::Error;

use async_nats::{Client, HeaderMap, Message};
use futures_util::stream::{select_all, StreamExt};
use messages::{JoinResult, RejectedResult, RoomSnapshotAnswer};
use serde_json::{json, Value};
use time::{format_description::well_known::Rfc3339, OffsetDateTime};

struct Peer {
    nats: Client,
    subject: String,
    name: String,
    inbox: String,
    sent: u32,
}

impl Peer {
    /// A CloudEvent; `id` is new for each message, and the same only when it is sent again.
    fn envelope(&mut self, kind: &str, action: &str, data: Value) -> Value {
        self.sent += 1;
        let now = OffsetDateTime::now_utc();
        json!({
            "specversion": "1.0",
            "id": format!("{}-{}-{}", self.name, now.unix_timestamp_nanos(), self.sent),
            "source": format!("/client/{}", self.name),
            "type": format!("mafalda.{kind}.{action}.v1"),
            "subject": format!("{}.{kind}.{action}", self.subject),
            "time": now.format(&Rfc3339).expect("a year of four digits"),
            "data": data,
        })
    }

    async fn publish(&mut self, action: &str, data: Value) -> Result<String, Box<dyn Error>> {
        let message = self.envelope("intent", action, data);
        let id = message["id"].as_str().unwrap_or_default().to_owned();
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", id.as_str());
        headers.insert("Content-Type", "application/cloudevents+json");
        headers.insert("Mafalda-Reply-To", self.inbox.as_str());
        let subject = format!("{}.intent.{action}", self.subject);
        self.nats.publish_with_headers(subject, headers, message.to_string().into()).await?;
        Ok(id)
    }

    async fn room(&mut self) -> Result<RoomSnapshotAnswer, Box<dyn Error>> {
        let message = self.envelope("query", "room", json!({}));
        let subject = format!("{}.query.room", self.subject);
        let reply = self.nats.request(subject, message.to_string().into()).await?;
        let mut answer: Value = serde_json::from_slice(&reply.payload)?;
        Ok(serde_json::from_value(answer["data"].take())?)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, room, name, until @ ..] = arguments.as_slice() else {
        eprintln!("usage: watch-room NATS_URL ROOM PEER [EVENT]");
        std::process::exit(2);
    };
    let nats = async_nats::connect(url).await?;
    let subject = format!("mafalda.room.{room}.peer.{name}");
    let mut peer = Peer { inbox: nats.new_inbox(), subject, name: name.clone(), sent: 0, nats };

    // Subscribe before publishing: an answer is never missed.
    let mut subscriptions = Vec::new();
    for subject in [
        format!("live.{}.result.*", peer.subject),
        format!("live.{}.event.*", peer.subject),
        format!("live.mafalda.room.{room}.event.*"),
        peer.inbox.clone(),
    ] {
        subscriptions.push(peer.nats.subscribe(subject).await?);
    }
    peer.nats.flush().await?;
    let mut received = select_all(subscriptions);
    let join = peer.publish("join", json!({"appData": {"language": "Rust"}})).await?;
    let mut leaving = false;
    loop {
        let message = tokio::select! {
            Some(message) = received.next() => message,
            _ = tokio::signal::ctrl_c() => { peer.publish("leave", json!({})).await?; continue; }
        };
        if !take(&mut peer, &message, &join, until.first(), &mut leaving).await? {
            return Ok(());
        }
    }
}

/// Prints what a message says; false if it is the last one.
async fn take(
    peer: &mut Peer,
    received: &Message,
    join: &str,
    until: Option<&String>,
    leaving: &mut bool,
) -> Result<bool, Box<dyn Error>> {
    let mut message: Value = serde_json::from_slice(&received.payload)?;
    let (kind, data) = (message["type"].as_str().unwrap_or_default().to_owned(), message["data"].take());
    match kind.as_str() {
        "mafalda.result.join.v1" => {
            // After a re-placement it comes again, with a greater generation.
            let JoinResult { server, worker, generation, .. } = serde_json::from_value(data)?;
            println!("{}", json!({"joined": {"server": server, "worker": worker, "generation": generation}}));
            if generation == 1 {
                println!("{}", json!({"room": peer.room().await?}));
            }
        }
        "mafalda.result.rejected.v1" => {
            let refused: RejectedResult = serde_json::from_value(data)?;
            println!("{}", json!({"rejected": refused.error}));
            if message["causationid"] == join {
                std::process::exit(1);
            }
        }
        "mafalda.result.done.v1" if received.subject.ends_with(".leave") => {
            println!("{}", json!({"left": true}));
            return Ok(false);
        }
        _ if received.subject.contains(".event.") => {
            let name = received.subject.rsplit('.').next().unwrap_or_default();
            println!("{}", json!({"event": name, "data": data}));
            if until.is_some_and(|until| until == name) && !*leaving {
                *leaving = true;
                peer.publish("leave", json!({})).await?;
            }
        }
        _ => {}
    }
    Ok(true)
}
