//! What there is between nodes: connections, directions that are cut, streams, and how weak it all is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use kv::NodeId;

use super::streams::Streams;
use crate::events::Way;

/// All connections.
#[derive(Default)]
pub(crate) struct Network {
    pub(super) links: BTreeMap<Way, Link>,
    /// Directions in which nothing passes.
    pub cuts: BTreeSet<Way>,
    pub weak: Option<Weak>,
    pub streams: Streams,
    pub(super) numbers: u64,
    /// Connections of ended processes whose last frames may still arrive: where, and at which life.
    pub(super) lingering: BTreeMap<u64, (NodeId, u64)>,
}

/// How weak the network is, in 1000 frames.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weak {
    pub lost: u64,
    pub doubled: u64,
    pub late: u64,
    pub late_micros: u64,
    /// Answers to clients that are lost.
    pub answers_lost: u64,
}

impl Weak {
    /// Answers to clients are lost, and nothing else.
    pub fn without_answers() -> Weak {
        Weak { lost: 0, doubled: 0, late: 0, late_micros: 0, answers_lost: 1000 }
    }
}

/// The connection from one node to another, kept up by the first.
pub(super) struct Link {
    /// Of the sender's process.
    pub(super) life: u64,
    pub(super) number: u64,
    pub(super) state: State,
    pub(super) failures: usize,
    /// When the last frame arrives.
    pub(super) last_at: u64,
    pub(super) held: VecDeque<Bytes>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Down,
    /// Up to that life of the other process.
    Up(u64),
    /// Broken, which the sender has not noticed.
    Dead,
}
