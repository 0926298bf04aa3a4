//! Virtual time: what is to happen, in order. Things at the same time happen in the order in which they were planned.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bytes::Bytes;
use kv::{Error, NodeId, Reply, Request};
use node::SnapshotPart;

/// Something that is to happen. What belongs to one life of a process names it: it happens only while that life lasts.
pub(crate) enum Event {
    /// The clock of a core's driver is due.
    Tick { node: NodeId, life: u64, core: usize },
    /// There is something in a core's inbox.
    Turn { node: NodeId, life: u64, core: usize },
    /// The disk has done what the log submitted.
    Disk { node: NodeId, life: u64, token: u64 },
    /// The owner of the log wants a turn: a full disk is tried again.
    Retry { node: NodeId, life: u64 },
    /// The engine's thread of a core has come to its jobs.
    Engine { node: NodeId, life: u64, core: usize },
    /// The background thread has done its next work.
    Background { node: NodeId, life: u64 },
    /// A node tries to connect to another.
    Connect { from: NodeId, to: NodeId, life: u64 },
    /// What it says first arrives there.
    Hello { attempt: Attempt, hello: Bytes },
    /// The answer arrives, of that life of the other process.
    Welcome { attempt: Attempt, called: u64, welcome: Bytes },
    /// An attempt failed.
    NotConnected { attempt: Attempt },
    /// The sending side notices that its connection broke.
    Broken { from: NodeId, to: NodeId, life: u64, number: u64 },
    /// A frame arrives on its connection.
    Frame { from: NodeId, to: NodeId, number: u64, bytes: Bytes },
    /// A frame arrives on its own way, from one data folder to the other that it was sent to.
    Stray { from: NodeId, to: NodeId, folders: [DataFolder; 2], bytes: Bytes },
    /// A piece of a snapshot arrives, or its stream ends.
    Bulk { stream: u64, step: u64, part: SnapshotPart },
    /// The word on a piece arrives back.
    BulkAnswer { stream: u64, step: u64, taken: bool },
    /// A piece was not answered for too long.
    BulkTimeout { stream: u64, step: u64 },
    /// A client asks something new.
    Ask { client: usize },
    /// A client's attempt arrives at a node, if the process it was sent to still lives.
    Arrive { node: NodeId, life: u64, whose: Whose, request: Box<Request> },
    /// The answer to an attempt arrives at the client; `None` = the connection broke. It left the node at `left`.
    Answer { whose: Whose, left: u64, result: Option<Box<Result<Reply, Error>>> },
    /// A client has waited long enough for an attempt.
    Patience { whose: Whose },
    /// A client tries again.
    Again { whose: Whose },
    /// A watcher looks for what came.
    Watch { watcher: usize },
    /// The next fault.
    Fault,
    /// A fault ends.
    Heal(Heal),
    /// A node is started.
    Start { node: NodeId },
    /// The operator looks at the cluster.
    Operate,
    /// A machine whose node has left is stopped.
    Retire { node: NodeId },
    /// Invariants that are looked at now and then.
    Inspect,
}

/// An attempt of a call of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Whose {
    pub client: usize,
    pub call: u64,
    pub attempt: u32,
}

/// An attempt of a process to connect to another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    pub from: NodeId,
    pub to: NodeId,
    /// Of the process that tries.
    pub life: u64,
    /// Of the connection.
    pub number: u64,
}

/// Which data folder a machine has: of this incarnation, and whether it is an old copy or an empty one in the place of the true one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DataFolder {
    pub incarnation: u64,
    pub is_astray: bool,
}

/// A direction: from, to.
pub(crate) type Way = (NodeId, NodeId);

/// The end of a fault.
#[derive(Clone, Debug)]
pub(crate) enum Heal {
    Ways(Vec<Way>),
    Resume(NodeId),
    Messages,
    Bulk,
    Disk(NodeId),
    /// The crash that shows a flipped bit.
    Show(NodeId),
}

/// The queue, and the time.
#[derive(Default)]
pub(crate) struct Events {
    now: u64,
    planned: u64,
    happened: u64,
    queue: BinaryHeap<Reverse<Planned>>,
}

impl Events {
    /// Microseconds since the run began.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// How many things have happened.
    pub fn happened(&self) -> u64 {
        self.happened
    }

    /// Plans something for `micros` from now.
    pub fn after(&mut self, micros: u64, event: Event) {
        self.at(self.now + micros, event);
    }

    /// Plans something for a time, which is not over.
    pub fn at(&mut self, at: u64, event: Event) {
        assert!(at >= self.now, "nothing can be planned for the past");
        self.planned += 1;
        self.queue.push(Reverse(Planned { at, number: self.planned, event }));
    }

    /// The next thing; time moves on to it.
    pub fn next(&mut self) -> Option<Event> {
        let Reverse(planned) = self.queue.pop()?;
        self.now = planned.at;
        self.happened += 1;
        Some(planned.event)
    }
}

struct Planned {
    at: u64,
    number: u64,
    event: Event,
}

impl PartialEq for Planned {
    fn eq(&self, other: &Planned) -> bool {
        self.number == other.number
    }
}

impl Eq for Planned {}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Planned) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Planned {
    fn cmp(&self, other: &Planned) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}
