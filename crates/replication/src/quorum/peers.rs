//! What is known of the other members, and what is kept for them.
//!
//! A *hint* is a row that a member did not acknowledge. It waits here until the member is back, and is sent then, some at a time. Hints are in
//! memory, bounded in count and bytes: what is given up, or lost with this node, is brought by [repair](super::repair). They count for no
//! write: a row that only waits for a member is not at that member.
//!
//! A member that is *silent* for long counts as out of reach, though it is connected. As nothing is asked of it then, it is asked for a word
//! every second, and sooner when a request is turned away for want of members: with the first that it says it is within reach again.

use std::collections::{BTreeMap, VecDeque};

use bytes::{BufMut, Bytes, BytesMut};
use kv::NodeId;
use kv::codec::{Malformed, Reader};
use kv::merged::{Look, Row};

use super::message::{Said, Step};
use super::rounds::{Ask, Task};
use super::{Quorum, RESEND_MICROS};
use crate::{Instant, Output};

/// So long those that a read asks first are waited for: longer than a round trip, and so short that nobody minds.
pub const FIRST_MICROS: u64 = 10_000;
/// So long a member that was not in time is not asked first.
pub const LATE_MICROS: u64 = 5_000_000;
/// So soon a silent member is asked for a word again while requests are turned away.
const ASK_SOON_MICROS: u64 = 100_000;
/// So many rows wait for one member; the oldest of more are given up.
pub const HINTS_MAX: usize = 16_384;
/// So many bytes of rows wait for one member.
pub const HINT_BYTES_MAX: usize = 16 << 20;
/// So many hints are sent at once.
const HINTS_AT_ONCE_MAX: usize = 512;

/// Of so many of its lives it is known up to which round they are closed.
const CLOSED_LIVES_MAX: usize = 4;

/// Another member.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// The life in which it is connected; `None` = it is not.
    pub(super) life: Option<u64>,
    /// It has said nothing for long, though it is connected.
    pub(super) is_silent: bool,
    /// Reads do not ask it first before this.
    pub(super) late_until: Instant,
    /// Then it is asked for a word again, not before this.
    ask_at: Instant,
    /// When requests are turned away, not before this.
    ask_soon_at: Instant,
    /// Stores of its rounds up to this one, by its life, come too late: they are over, and what was deleted since may have gone.
    closed: BTreeMap<u64, u64>,
    hints: VecDeque<Row>,
    hint_bytes: usize,
    /// Hints are on their way to it.
    is_hinting: bool,
    /// It may have other rows than this member.
    pub(super) differs: bool,
    /// Not before this it is compared with again.
    pub(super) compare_at: Instant,
}

impl Peer {
    /// Whether it can be expected to answer.
    pub(super) fn is_near(&self) -> bool {
        self.life.is_some() && !self.is_silent
    }

    /// Whether a store of a round of one of its lives comes too late.
    pub(super) fn is_closed(&self, life: u64, round: u64) -> bool {
        self.closed.get(&life).is_some_and(|closed| round <= *closed)
    }

    /// Stores of its rounds up to this one come too late from now on, whether it is connected or not: what is late may come after it is again.
    pub(super) fn close(&mut self, life: u64, round: u64) {
        let closed = self.closed.entry(life).or_default();
        *closed = round.max(*closed);
        let former = self.closed.keys().find(|other| **other != life && Some(**other) != self.life).copied();
        if let Some(former) = former.filter(|_| self.closed.len() > CLOSED_LIVES_MAX) {
            self.closed.remove(&former);
        }
    }

    /// Whether it may have other rows, and none are kept for it that it gets first.
    pub(super) fn is_to_be_compared(&self) -> bool {
        self.differs && self.is_near() && self.hints.is_empty()
    }

    /// How many rows wait for it.
    pub(super) fn hints(&self) -> usize {
        self.hints.len()
    }

    /// Keeps a row for it; returns how many were given up for that.
    fn keep(&mut self, row: Row) -> u64 {
        self.hint_bytes += row.bytes();
        self.hints.push_back(row);
        let mut dropped = 0;
        while self.hints.len() > HINTS_MAX || self.hint_bytes > HINT_BYTES_MAX {
            let oldest = self.hints.pop_front().expect("what has bytes is there");
            self.hint_bytes -= oldest.bytes();
            (self.differs, dropped) = (true, dropped + 1);
        }
        dropped
    }

    /// Gives up all that is kept for it: repair will bring it.
    pub(super) fn drop_hints(&mut self) -> u64 {
        let dropped = self.hints.len() as u64;
        (self.hints, self.hint_bytes) = Default::default();
        self.differs |= dropped > 0;
        dropped
    }
}

impl Quorum {
    /// A member is there (again).
    pub(super) fn connected(&mut self, node: NodeId, hello: &Bytes, out: &mut Vec<Output>) {
        let Ok(life) = decode_hello(hello) else { return };
        let now = self.now;
        let Some(peer) = self.peers.get_mut(&node) else { return };
        (peer.life, peer.is_silent, peer.is_hinting) = (Some(life), false, false);
        self.may_differ(now);
        self.ask_again(node, out);
    }

    /// A member is not there any more. What it was about may be unfinished.
    pub(super) fn disconnected(&mut self, node: NodeId, out: &mut Vec<Output>) {
        let now = self.now;
        let Some(peer) = self.peers.get_mut(&node) else { return };
        (peer.life, peer.is_hinting) = (None, false);
        self.may_differ(now);
        self.weigh_again(out);
    }

    /// A member says nothing, though it is connected.
    pub(super) fn silent(&mut self, node: NodeId, out: &mut Vec<Output>) {
        let now = self.now;
        let Some(peer) = self.peers.get_mut(&node) else { return };
        (peer.is_silent, peer.ask_at) = (true, now);
        self.weigh_again(out);
    }

    /// A member has not answered a read in time.
    pub(super) fn is_late(&mut self, node: NodeId) {
        let until = self.now.plus(LATE_MICROS);
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.late_until = until;
        }
    }

    /// When somebody who is silent is asked for a word next.
    pub(super) fn silent_due(&self) -> Instant {
        let silent = self.peers.values().filter(|peer| peer.is_silent && peer.life.is_some());
        silent.map(|peer| peer.ask_at).min().unwrap_or(Instant::MAX)
    }

    /// Asks those that are silent for a word: nothing else is asked of them, and what they say shows that they are there again.
    pub(super) fn ask_the_silent(&mut self, out: &mut Vec<Output>) {
        let now = self.now;
        let is_due = |peer: &Peer| peer.is_silent && peer.life.is_some() && peer.ask_at <= now;
        let due = self.peers.iter_mut().filter(|(_, peer)| is_due(peer));
        let due = Vec::from_iter(due.map(|(node, peer)| {
            peer.ask_at = now.plus(RESEND_MICROS);
            peer.ask_soon_at = now.plus(ASK_SOON_MICROS);
            *node
        }));
        for node in due {
            // Of no round: the answer counts for nothing else.
            self.say(node, Step { round: 0, step: 0 }, &Said::Look(Look::Keys(Vec::new())), out);
        }
    }

    /// A request is turned away: who is silent may be within reach again, which the next one should know.
    pub(super) fn ask_the_silent_soon(&mut self) {
        for peer in self.peers.values_mut().filter(|peer| peer.is_silent) {
            peer.ask_at = peer.ask_at.min(peer.ask_soon_at);
        }
    }

    /// Any member may have rows that another has not.
    pub(super) fn may_differ(&mut self, now: Instant) {
        for peer in self.peers.values_mut() {
            peer.differs = true;
            peer.compare_at = peer.compare_at.max(now);
        }
    }

    /// Keeps rows for a member that did not acknowledge them.
    pub(super) fn hint(&mut self, node: NodeId, rows: &[Row]) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let dropped: u64 = rows.iter().map(|row| peer.keep(row.clone())).sum();
        self.counts.hints_dropped += dropped;
    }

    /// Sends what was kept for those that are back.
    pub(super) fn send_hints(&mut self, out: &mut Vec<Output>) {
        let is_due = |peer: &Peer| peer.is_near() && !peer.is_hinting && !peer.hints.is_empty();
        let due = self.peers.iter().filter(|(_, peer)| is_due(peer)).map(|(node, _)| *node);
        for node in Vec::from_iter(due) {
            let peer = self.peers.get_mut(&node).expect("it was there");
            peer.is_hinting = true;
            let rows = Vec::from_iter(peer.hints.iter().take(HINTS_AT_ONCE_MAX).cloned());
            self.open(Task::Hint, Ask::Store(rows), [node].into(), out);
        }
    }

    /// The end of a round of hints; `rows` were acknowledged, or not.
    pub(super) fn hints_sent(&mut self, node: NodeId, rows: &[Row], acknowledged: bool) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        peer.is_hinting = false;
        if acknowledged {
            for row in rows {
                // Unless it was given up meanwhile, it is the first.
                if let Some(sent) = peer.hints.pop_front_if(|first| first == row) {
                    peer.hint_bytes -= sent.bytes();
                    self.counts.hints_replayed += 1;
                }
            }
        }
    }
}

/// What a member says first: its life.
pub(super) fn encode_hello(life: u64) -> Bytes {
    let mut into = BytesMut::new();
    into.put_u64(life);
    into.freeze()
}

/// From its bytes.
pub(super) fn decode_hello(bytes: &Bytes) -> Result<u64, Malformed> {
    let mut reader = Reader::new(bytes.clone());
    let life = reader.u64()?;
    reader.end()?;
    Ok(life)
}
