//! The MQTT bus: what replicas tell all others, by way of a broker.
//!
//! # The problem
//!
//! The members of a keyspace under `broadcast` may be where they cannot call each other, or be so many that a frame to each
//! is a burden. An MQTT broker (MQTT 3.1.1 and 5, OASIS) is what such places have: a process that all of them can call, and that gives what one
//! publishes to all that subscribed. It is no member. It may be away for minutes, come back having forgotten everything,
//! give things twice, late and out of order, and it refuses what is too large.
//!
//! # How
//!
//! ```text
//!   replicas ──▶ Queue ──▶ pieces, 32 on their way ──▶ broker ──▶ pieces ──▶ Joining ──▶ replicas
//!                 ▲ kept until the broker has them │                 (node::bus)
//!                 └──── again after a break ◀──────┘
//! ```
//!
//! A task keeps the connection up, without end, with growing pauses that are drawn anew, so that nodes do not all call a broker
//! that has just come back at the same moment. Quality of service is 1: the broker acknowledges each piece, and what it has not acknowledged when the
//! connection breaks is published again. What this node subscribes to is said on each connection: a broker that remembers
//! it does not mind, and one that was restarted without its memory has to be told. The client's id follows from the
//! node's incarnation, so a node that was away gets what came meanwhile, as far as the broker kept it.
//!
//! MQTT 5 is tried first, for it tells how large a packet may be; a broker that does not speak it is called in 3.1.1.
//!
//! # What is promised
//!
//! What was published reaches who subscribes, or it is lost: with a broker that forgot it, or when more waited than
//! there is room for (the oldest go, and are counted). What was lost is the protocol's to notice. The journal says once
//! why there is no connection, and once that there is one again.
//!
//! # Caveats
//!
//! A broker that refuses pieces for their size without saying so, over MQTT 3.1.1, and acknowledges them nevertheless, loses all
//! that is larger than it takes: let it take 128 KiB or more. Whoever may publish under the prefix is believed: let the broker ask for a password.

mod connection;
mod failure;
mod queue;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use kv::keyspace::Broker;
use node::bus::{Joining, Received, Sender};
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::time::now;
use connection::{Client, Event, Events, Version};
use failure::Why;
use queue::Queue;

/// The pause after the first failure; it doubles with each.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Nobody waits for longer than this for a broker that is back.
const PAUSE_MAX: Duration = Duration::from_secs(2);

const UNPOISONED: &str = "no holder of a bus panics";

/// Takes what others have published.
pub(crate) type Take = Box<dyn Fn(Sender, Bytes) + Send + Sync>;

/// A broker, and what goes over it. When it is dropped, the connection ends.
pub(crate) struct Bus {
    shared: Arc<Shared>,
    task: AbortHandle,
}

/// How a bus is, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// Why there is no connection; `None` = there is one.
    pub down: Option<String>,
    /// Messages that wait for the broker.
    pub waiting: usize,
    /// Messages that were dropped: too much waited.
    pub dropped: u64,
}

struct Shared {
    broker: Broker,
    state: Mutex<State>,
    take: Take,
}

struct State {
    queue: Queue,
    /// What others have published.
    joining: Joining,
    /// The connection, while it stands.
    client: Option<Client>,
    /// What is wanted.
    wanted: BTreeSet<String>,
    /// What the broker was asked for on this connection.
    asked: BTreeSet<String>,
    /// Why there is no connection, as the journal has it; `None` = it has nothing to say.
    down: Option<String>,
    /// That something is amiss was said: on this connection, not again.
    amiss: bool,
}

impl Bus {
    /// Keeps a connection to a broker from now on, on the current runtime.
    pub fn start(broker: Broker, me: Sender, incarnation: u64, take: Take) -> Bus {
        let id = client_id(incarnation, &broker);
        let state = Mutex::new(State {
            queue: Queue::new(me),
            joining: Joining::new(me.node),
            client: None,
            wanted: BTreeSet::new(),
            asked: BTreeSet::new(),
            down: Some("not connected yet".into()),
            amiss: false,
        });
        let shared = Arc::new(Shared { broker, state, take });
        let task = tokio::spawn(keep_up(shared.clone(), id)).abort_handle();
        Bus { shared, task }
    }

    /// Publishes a message, or drops the oldest that wait when there are too many.
    pub fn publish(&self, topic: String, message: Bytes) {
        let mut state = self.shared.state();
        state.queue.push(topic, message);
        state.give();
    }

    /// Wants what is published under these filters, and under no others.
    pub fn subscribe(&self, filters: BTreeSet<String>) {
        let mut state = self.shared.state();
        state.wanted = filters;
        state.ask();
    }

    /// How it is.
    pub fn status(&self) -> Status {
        let state = self.shared.state();
        Status { down: state.down.clone(), waiting: state.queue.len(), dropped: state.queue.dropped() }
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(UNPOISONED)
    }

    /// What is heard of the connection.
    fn heard(&self, client: &Client, version: Version, event: Event) {
        let whole = {
            let mut state = self.state();
            match event {
                Event::Up { packet_bytes_max } => {
                    state.up(client, packet_bytes_max);
                    tracing::info!(broker = %self.broker, mqtt = version.name(), "connected to the broker");
                    None
                }
                Event::Sent(id) => {
                    state.queue.sends(id);
                    None
                }
                Event::Taken(id, refused) => {
                    state.queue.taken(id);
                    refused.into_iter().for_each(|why| state.amiss(&self.broker, &why, NOT_PASSED_ON));
                    None
                }
                Event::SubscriptionRefused(why) => {
                    state.amiss(&self.broker, &why, NOT_GIVEN);
                    None
                }
                Event::Published(piece) => state.take(&self.broker, piece),
                Event::Other => None,
            }
        };
        if let Some((sender, message)) = whole {
            (self.take)(sender, message);
        }
        let mut state = self.state();
        state.ask();
        state.give();
    }

    fn broke(&self, why: &Why) {
        let mut state = self.state();
        if state.client.take().is_some() {
            state.queue.disconnected();
        }
        let why = why.told(&self.broker);
        if state.down.as_ref() != Some(&why) {
            tracing::warn!(broker = %self.broker, why, "no connection to the broker; trying on");
            state.down = Some(why);
        }
    }
}

const NOT_PASSED_ON: &str =
    "the broker does not pass on what this node publishes: let its user publish under the prefix";
const NOT_GIVEN: &str =
    "the broker does not give this node what others publish: let its user subscribe under the prefix";
const NOT_OURS: &str =
    "something else is published under this prefix; it is left alone: give the keyspace a prefix of its own";

impl State {
    fn up(&mut self, client: &Client, packet_bytes_max: Option<u32>) {
        self.queue.connected(packet_bytes_max);
        self.client = Some(client.clone());
        self.asked.clear();
        self.down = None;
        self.amiss = false;
    }

    /// Hands pieces to the client, as many as may be on their way.
    fn give(&mut self) {
        let Some(client) = &self.client else { return };
        while let Some((topic, piece)) = self.queue.give() {
            // Its queue has room for more than may be on their way. When its task has just ended, all is given out again.
            client.publish(topic, piece);
        }
    }

    /// Has the broker asked for what is wanted and was not asked for yet; what the client has no room for is left for later.
    fn ask(&mut self) {
        let Some(client) = &self.client else { return };
        let new: Vec<String> = self.wanted.difference(&self.asked).cloned().collect();
        let old: Vec<String> = self.asked.difference(&self.wanted).cloned().collect();
        self.asked.extend(new.into_iter().filter(|filter| client.subscribe(filter)));
        for filter in old.iter().filter(|filter| client.unsubscribe(filter)) {
            self.asked.remove(filter);
        }
    }

    /// A piece of what others, or this node, have published.
    fn take(&mut self, broker: &Broker, piece: Bytes) -> Option<(Sender, Bytes)> {
        match self.joining.take(now().instant, piece) {
            Ok(Received::Whole(sender, message)) => Some((sender, message)),
            Ok(Received::Part | Received::Own) => None,
            Err(why) => {
                self.amiss(broker, &why.to_string(), NOT_OURS);
                None
            }
        }
    }

    fn amiss(&mut self, broker: &Broker, why: &str, what: &'static str) {
        if !std::mem::replace(&mut self.amiss, true) {
            tracing::warn!(%broker, why, "{what}");
        }
    }
}

/// Connects again and again.
async fn keep_up(shared: Arc<Shared>, id: String) {
    let (mut version, mut failures) = (Version::Five, 0);
    loop {
        let (stood, why) = match connection::open(&shared.broker, &id, version) {
            Ok(connection) => serve(&shared, connection, version).await,
            Err(why) => (false, why),
        };
        let next = if !stood && why.may_be_the_version() { version.other() } else { Version::Five };
        // Whether it is a broker at all is known when it was called in both versions.
        if next == Version::Five || !why.may_be_the_version() {
            shared.broke(&why);
        }
        version = next;
        failures = if stood { 0 } else { failures + 1 };
        sleep(pause(failures)).await;
    }
}

/// Until the connection is over: whether it ever stood, and why it does not.
async fn serve(shared: &Shared, (client, mut events): (Client, Events), version: Version) -> (bool, Why) {
    let mut stands = false;
    loop {
        match events.next(stands).await {
            Ok(event) => {
                stands |= matches!(event, Event::Up { .. });
                shared.heard(&client, version, event);
            }
            Err(why) => return (stands, why),
        }
    }
}

/// Between half and all of what grows with each failure.
fn pause(failures: u32) -> Duration {
    let most = PAUSE_MIN.saturating_mul(1 << failures.min(10)).min(PAUSE_MAX);
    most.mul_f64(0.5 + (crate::random() % 1000) as f64 / 2000.0)
}

/// Who this node is to a broker: the same in each life of its folder, another one for each bus, and no longer than all brokers
/// take.
fn client_id(incarnation: u64, broker: &Broker) -> String {
    let mixed = broker.url().bytes().fold(incarnation, |mixed, byte| node::mix(mixed ^ u64::from(byte)));
    format!("capstan{mixed:016x}")
}
