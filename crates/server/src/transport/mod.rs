//! Connections between nodes.
//!
//! From each node to each other goes one ordered connection with the frames of all shards, and, while there is a
//! snapshot to send, one bulk connection for it: heartbeats never wait behind megabytes. Each begins with a [`Hello`]
//! and its answer; a node of another cluster, with other fixed options, or with another data folder than it was known
//! under, is refused with the reason ([`node::identity`]). Which nodes there are may change at any time: the transport calls
//! new ones, calls at their new address those that moved, and lets go of those that are no members any more. A connection is
//! over, too, when its node was met in a later life. All bulk connections together are kept to a rate.
//!
//! [`Hello`]: node::identity::Hello
//!
//! A node that is cut off from another one on purpose ([`crate::faults`]) neither calls it nor lets it in, and what comes from it on
//! a connection that stands is read and forgotten.
//!
//! What is queued for a node is bounded; what does not fit is dropped, as a network may drop it.

mod bulk;
pub(crate) mod framing;
pub mod fuzz;
mod identities;
mod incoming;
mod outgoing;
mod places;
mod rate;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, RwLock};

use bytes::Bytes;
use kv::codec::Malformed;
use kv::{NodeId, ShardId};
use node::faults::Passage;
use node::identity::Nodes;
use placement::map::Map;
use storage::ShardSnapshot;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::faults::Faults;
use crate::inbox::Inboxes;

pub(crate) use identities::Identities;
pub(crate) use places::Places;
use rate::Rate;

/// A frame that makes no sense, as an error of its connection.
fn malformed(error: Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

/// The largest frame: the largest op and what raft puts around a few of them.
pub(crate) const FRAME_BYTES_MAX: usize = 64 << 20;

const UNPOISONED: &str = "no holder of the queues panics";

/// The way to the other nodes, for all cores.
pub(crate) struct Transport {
    shared: Arc<Shared>,
    outgoing: Arc<Queues>,
}

/// The queue to each of the other nodes.
type Queues = RwLock<BTreeMap<NodeId, outgoing::Outgoing>>;

/// What all connections of a node share.
pub(crate) struct Shared {
    pub inboxes: Inboxes,
    pub identities: Arc<Identities>,
    pub faults: Arc<Faults>,
    /// Incoming snapshots that wait for the driver's word.
    pub streams: Mutex<HashMap<u64, mpsc::UnboundedSender<bool>>>,
    /// The snapshots that are sent, or were: the last one of a shard to a node.
    pub sending: Mutex<HashMap<(ShardId, NodeId), AbortHandle>>,
    /// How fast snapshots are sent, all together.
    pub rate: Mutex<Rate>,
}

/// Keeps a connection to each of the other nodes that there are, whoever comes, moves and goes, until this node has left.
async fn follow(shared: Arc<Shared>, queues: Arc<Queues>) {
    let (mut nodes, mut left) = (shared.identities.nodes(), shared.identities.left());
    loop {
        let now = nodes.borrow_and_update().clone();
        keep_to(&now, &shared, &queues);
        // The senders are among the identities.
        let goes_on = tokio::select! {
            changed = nodes.changed() => changed.is_ok(),
            _ = left.wait_for(|left| *left) => false,
        };
        if !goes_on {
            return queues.write().expect(UNPOISONED).clear();
        }
    }
}

fn keep_to(nodes: &Nodes, shared: &Arc<Shared>, queues: &Queues) {
    let mut queues = queues.write().expect(UNPOISONED);
    queues.retain(|node, _| nodes.members.contains_key(node));
    for (node, member) in nodes.others(shared.identities.me()) {
        let start = || outgoing::Outgoing::start(node, member.address.clone(), shared.clone());
        queues.entry(node).or_insert_with(start).moves(&member.address);
    }
}

fn queue(queues: &Queues, to: NodeId, frame: Bytes) {
    if let Some(outgoing) = queues.read().expect(UNPOISONED).get(&to) {
        outgoing.send(frame);
    }
}

impl Transport {
    /// Starts to listen, to up to `connections` at a time, and to connect. Runs on the current runtime. Snapshots are sent at
    /// `bytes_per_second`, all together; 0 = as fast as it goes.
    pub fn start(
        listeners: Vec<std::net::TcpListener>,
        connections: usize,
        (identities, faults): (Arc<Identities>, Arc<Faults>),
        inboxes: Inboxes,
        bytes_per_second: u64,
    ) -> std::io::Result<Transport> {
        let rate = Mutex::new(Rate::new(bytes_per_second));
        let shared = Arc::new(Shared {
            inboxes,
            identities,
            faults,
            streams: Mutex::default(),
            sending: Mutex::default(),
            rate,
        });
        let room = incoming::Room::new(connections);
        for listener in listeners {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            tokio::spawn(incoming::accept(listener, room.clone(), shared.clone()));
        }
        let outgoing = Arc::<Queues>::default();
        tokio::spawn(follow(shared.clone(), outgoing.clone()));
        Ok(Transport { outgoing, shared })
    }

    /// Sends a frame, or drops it when there is no connection or too much is queued; as late as responses leave, if it is one.
    pub fn send(&self, to: NodeId, frame: Bytes, is_response: bool) {
        let faults = &self.shared.faults;
        match faults.passage(to, is_response) {
            Passage::Now => queue(&self.outgoing, to, frame),
            Passage::Never => {}
            Passage::After(micros) => {
                let (queues, late) = (self.outgoing.clone(), faults.clone());
                // It may have been cut off meanwhile.
                let send = move |frame| {
                    if !late.cuts(to) {
                        queue(&queues, to, frame)
                    }
                };
                faults.hold_frame(frame, micros, send);
            }
        }
    }

    /// Sends a snapshot, on the current runtime; the driver is told how it ended. One of the shard that is still on its way there is
    /// given up: nobody waits for it any more, and how it ends must not be taken for the end of this one.
    pub fn send_snapshot(&self, shard: ShardId, to: NodeId, header: Bytes, snapshot: Box<ShardSnapshot>) {
        let mut sending = self.shared.sending.lock().expect("no holder of the snapshots panics");
        let send = tokio::spawn(bulk::send(self.shared.clone(), shard, to, header, snapshot));
        if let Some(before) = sending.insert((shard, to), send.abort_handle()) {
            before.abort();
        }
    }

    /// There is a later map.
    pub fn follow(&self, map: &Map) {
        self.shared.identities.follow(map);
    }

    /// The driver's word on a piece of an incoming snapshot.
    pub fn snapshot_taken(&self, stream: u64, taken: bool) {
        if let Some(waiting) =
            self.shared.streams.lock().expect("no holder of the streams panics").get(&stream)
        {
            // The connection may have broken meanwhile.
            let _ = waiting.send(taken);
        }
    }
}

#[cfg(test)]
mod tests;
