//! A participant of a room: publishes intents, receives results and events. It needs a token and no JetStream.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::header::NATS_SEQUENCE;
use async_nats::{Client, ConnectOptions, Event as Connection, HeaderMap};
use futures_util::stream::{select_all, StreamExt};
use serde::de::DeserializeOwned;
use serde::Serialize;
use serde_json::{json, Value};
use time::{format_description::well_known::Rfc3339, OffsetDateTime};
use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver, UnboundedSender};
use tokio::time::{sleep, timeout};

use crate::messages::{JoinResult, LogEntriesAnswer, QueryEntries, RejectedResult};

pub type Failure = Box<dyn Error + Send + Sync>;
const ANSWER_WITHIN: Duration = Duration::from_secs(10); // then the same message is published again, with the same id
const ATTEMPTS: u32 = 6;

/// A CloudEvent, with the subject that it came on, without `live.`.
pub struct Message {
    pub subject: String,
    pub kind: String,
    pub data: Value,
    causation: String,
}

impl Message {
    fn new(subject: &str, mut envelope: Value) -> Self {
        let text = |field: &Value| field.as_str().unwrap_or_default().to_owned();
        Message {
            subject: subject.trim_start_matches("live.").to_owned(),
            kind: text(&envelope["type"]),
            causation: text(&envelope["causationid"]),
            data: envelope["data"].take(),
        }
    }

    fn is_refusal(&self) -> bool {
        self.kind == "mafalda.result.rejected.v1"
    }

    /// The last token of the subject, such as `producer-opened`.
    pub fn name(&self) -> &str {
        self.subject.rsplit('.').next().unwrap_or_default()
    }
}

/// An intent that was answered by a rejection.
#[derive(Debug)]
pub struct Refused(RejectedResult);

impl Refused {
    pub fn code(&self) -> &str {
        &self.0.error.code
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, text: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(text, "{}: {}", self.0.error.code, self.0.error.message)
    }
}

impl Error for Refused {}

/// Whether the same may succeed later: there was no answer, or a refusal for a while.
fn may_pass(failure: &Failure) -> bool {
    let passing = ["rate-limited", "bus-unavailable", "deadline-exceeded"];
    failure.downcast_ref::<Refused>().is_none_or(|refused| passing.contains(&refused.code()))
}

/// What comes to a peer without being asked for, in the order in which it came.
pub enum Received {
    /// The peer's place; another one after its worker has died.
    Place(JoinResult),
    /// An event of the room, or of the peer's own objects.
    Event(Message),
    /// What was missed while NATS was away cannot be had.
    Failed(Failure),
}

pub struct Peer {
    pub name: String,
    room: String,
    nats: Client,
    inbox: String,
    sent: AtomicU32,
    waiting: Mutex<HashMap<String, UnboundedSender<Message>>>, // by the id of the intent
}

impl Peer {
    /// Connects; `other` is one more subject to read. An empty token is for an open fleet.
    pub async fn connect(
        url: &str,
        token: &str,
        room: &str,
        name: &str,
        other: Option<String>,
    ) -> Result<(Arc<Peer>, UnboundedReceiver<Received>), Failure> {
        let (changed, changes) = unbounded_channel();
        let mut options = ConnectOptions::new()
            .custom_inbox_prefix(format!("_INBOX.{room}.{name}")) // a token permits no other
            .event_callback(move |event| {
                let _ = changed.send(event);
                async {}
            });
        if !token.is_empty() {
            options = options.token(token.to_owned());
        }
        let nats = options.connect(url).await?;
        let inbox = nats.new_inbox();
        let own = format!("live.mafalda.room.{room}.peer.{name}");
        let mut subjects = vec![
            format!("{own}.result.*"),
            format!("{own}.event.*"),
            format!("live.mafalda.room.{room}.event.*"),
            inbox.clone(),
        ];
        subjects.extend(other);
        // Subscribe before publishing: an answer is never missed.
        let mut subscriptions = Vec::new();
        for subject in subjects {
            subscriptions.push(nats.subscribe(subject).await?);
        }
        nats.flush().await?;
        let peer = Arc::new(Peer {
            name: name.to_owned(),
            room: room.to_owned(),
            nats,
            inbox,
            sent: AtomicU32::new(0),
            waiting: Mutex::default(),
        });
        let (output, received) = unbounded_channel();
        tokio::spawn(read(peer.clone(), subscriptions, changes, output));
        Ok((peer, received))
    }

    /// Publishes an intent of this peer, and waits for its result.
    pub async fn send<T: DeserializeOwned>(&self, action: &str, data: impl Serialize) -> Result<T, Failure> {
        self.answered(&self.name, action, data, false).await
    }

    /// The same for another peer: that needs a token with the grant `moderate`.
    pub async fn send_as<T: DeserializeOwned>(
        &self,
        peer: &str,
        action: &str,
        data: impl Serialize,
    ) -> Result<T, Failure> {
        self.answered(peer, action, data, false).await
    }

    /// The same for a result with secrets, which is complete in the inbox alone.
    pub async fn send_private<T: DeserializeOwned>(&self, action: &str, data: impl Serialize) -> Result<T, Failure> {
        self.answered(&self.name, action, data, true).await
    }

    async fn answered<T: DeserializeOwned>(
        &self,
        peer: &str,
        action: &str,
        data: impl Serialize,
        private: bool,
    ) -> Result<T, Failure> {
        let (id, subject, message) = self.compose(peer, "intent", action, data)?;
        let mut answers = self.wait(&id);
        let answer = self.repeat(&id, &subject, &message, async {
            loop {
                let answer = answers.received.recv().await?;
                if answer.is_refusal() || private == (answer.subject == self.inbox) {
                    return Some(answer);
                }
            }
        });
        let answer = answer.await.flatten().ok_or_else(|| format!("{action}: no answer"))?;
        if answer.is_refusal() {
            return Err(Refused(serde_json::from_value(answer.data)?).into());
        }
        Ok(serde_json::from_value(answer.data)?)
    }

    /// What is answered to an intent from now on.
    fn wait(&self, id: &str) -> Answers<'_> {
        let (sender, received) = unbounded_channel();
        self.waiting.lock().unwrap().insert(id.to_owned(), sender);
        Answers { peer: self, id: id.to_owned(), received }
    }

    /// Publishes a message, and the same one again while there is no answer.
    async fn repeat<T>(
        &self,
        id: &str,
        subject: &str,
        message: &Value,
        answer: impl std::future::Future<Output = T>,
    ) -> Option<T> {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", id);
        headers.insert("Content-Type", "application/cloudevents+json");
        headers.insert("Mafalda-Reply-To", self.inbox.as_str());
        let mut answer = std::pin::pin!(answer);
        for _ in 0..ATTEMPTS {
            self.nats
                .publish_with_headers(subject.to_owned(), headers.clone(), message.to_string().into())
                .await
                .ok()?;
            if let Ok(found) = timeout(ANSWER_WITHIN, &mut answer).await {
                return Some(found);
            }
        }
        None
    }

    /// Joins. Its result is not matched by its causationid: any place is the answer.
    pub async fn join(&self, data: Value, received: &mut UnboundedReceiver<Received>) -> Result<JoinResult, Failure> {
        let (id, subject, message) = self.compose(&self.name, "intent", "join", data)?;
        let mut refusals = self.wait(&id);
        let place = self.repeat(&id, &subject, &message, async {
            loop {
                tokio::select! {
                    Some(refused) = refusals.received.recv() => return Err(Refused(serde_json::from_value(refused.data)?).into()),
                    found = received.recv() => match found {
                        Some(Received::Place(place)) => return Ok(place),
                        Some(Received::Event(_)) => {} // before its place is known, the answer to query.room has all
                        Some(Received::Failed(failure)) => return Err(failure),
                        None => return Err("the connection is closed".into()),
                    },
                }
            }
        });
        place.await.ok_or("join: no answer")?
    }

    /// Sends a query, and reads its answer.
    pub async fn ask<T: DeserializeOwned>(&self, query: &str, data: impl Serialize) -> Result<T, Failure> {
        let (_, subject, message) = self.compose(&self.name, "query", query, data)?;
        let reply = self.nats.request(subject.clone(), message.to_string().into()).await?;
        let answer = Message::new(&subject, serde_json::from_slice(&reply.payload)?);
        if answer.is_refusal() {
            return Err(Refused(serde_json::from_value(answer.data)?).into());
        }
        Ok(serde_json::from_value(answer.data)?)
    }

    /// A CloudEvent; its id is new for each message, and the same only when it is sent again.
    fn compose(
        &self,
        peer: &str,
        kind: &str,
        action: &str,
        data: impl Serialize,
    ) -> Result<(String, String, Value), Failure> {
        let now = OffsetDateTime::now_utc();
        let id = format!("{}-{}-{}", self.name, now.unix_timestamp_nanos(), self.sent.fetch_add(1, Ordering::Relaxed));
        let subject = format!("mafalda.room.{}.peer.{peer}.{kind}.{action}", self.room);
        let message = json!({
            "specversion": "1.0",
            "id": id,
            "source": format!("/client/{}", self.name),
            "type": format!("mafalda.{kind}.{action}.v1"),
            "subject": subject,
            "time": now.format(&Rfc3339)?,
            "data": serde_json::to_value(data)?,
        });
        Ok((id, subject, message))
    }

    fn dispatch(&self, message: Message, output: &UnboundedSender<Received>) {
        if message.subject.contains(".event.") {
            let _ = output.send(Received::Event(message));
        } else if message.kind == "mafalda.result.join.v1" {
            if let Ok(place) = serde_json::from_value(message.data) {
                let _ = output.send(Received::Place(place));
            }
        } else if let Some(waiting) = self.waiting.lock().unwrap().get(&message.causation) {
            let _ = waiting.send(message);
        }
    }
}

/// The answers to an intent, which are not waited for any more when this is dropped.
struct Answers<'a> {
    peer: &'a Peer,
    id: String,
    received: UnboundedReceiver<Message>,
}

impl Drop for Answers<'_> {
    fn drop(&mut self) {
        self.peer.waiting.lock().unwrap().remove(&self.id);
    }
}

/// Reads all that comes. After NATS was away, it asks for the entries that were published meanwhile.
async fn read(
    peer: Arc<Peer>,
    subscriptions: Vec<async_nats::Subscriber>,
    mut changes: UnboundedReceiver<Connection>,
    output: UnboundedSender<Received>,
) {
    let mut messages = select_all(subscriptions);
    let (missed, mut entries) = unbounded_channel();
    let mut last = 0; // the greatest sequence that was received
    let mut seen: Option<HashSet<i64>> = None; // what was received since the connection was lost, until the rest has come
    let mut after = 0;
    loop {
        let (sequence, message) = tokio::select! {
            Some(message) = messages.next() => {
                let sequence = message.headers.as_ref().and_then(|it| it.get(NATS_SEQUENCE)).and_then(|it| it.as_str().parse().ok());
                let Ok(envelope) = serde_json::from_slice(&message.payload) else { continue };
                (sequence.unwrap_or(0), Message::new(&message.subject, envelope)) // 0: it came to the inbox
            }
            Some(entry) = entries.recv() => match entry {
                Some(entry) => entry,
                None => { seen = None; continue }
            },
            Some(change) = changes.recv() => {
                match change {
                    Connection::Disconnected => { after = last; seen = Some(HashSet::new()); }
                    Connection::Connected if seen.is_some() => { tokio::spawn(catch_up(peer.clone(), after, missed.clone(), output.clone())); }
                    _ => {}
                }
                continue;
            }
            else => return,
        };
        if sequence > 0 && seen.as_mut().is_some_and(|seen| !seen.insert(sequence)) {
            continue;
        }
        last = last.max(sequence);
        peer.dispatch(message, &output);
    }
}

/// Sends each entry after a sequence, with its own sequence, and then None.
async fn catch_up(
    peer: Arc<Peer>,
    mut after: i64,
    missed: UnboundedSender<Option<(i64, Message)>>,
    output: UnboundedSender<Received>,
) {
    loop {
        let page = match peer.ask::<LogEntriesAnswer>("entries", QueryEntries { after }).await {
            Ok(page) => page,
            Err(failure) if may_pass(&failure) => {
                sleep(Duration::from_secs(1)).await; // the fleet is not back yet
                continue;
            }
            Err(failure) => {
                let _ = output.send(Received::Failed(failure));
                return;
            }
        };
        for entry in page.entries {
            let _ = missed.send(Some((entry.seq, Message::new(&entry.subject, json!(entry.message)))));
        }
        after = page.seq;
        if page.more != Some(true) {
            let _ = missed.send(None);
            return;
        }
    }
}
