//! A replica that lost entries it had acknowledged, and how it gets them again.
//!
//! Raft counts on a majority that keeps what it acknowledged. A node whose disk lost its end would elect a leader without those
//! entries. So replicas say how far their synced logs reach whenever their nodes connect ([`Hello`]), and a leader that knows
//! of more says so: until the replica has it again it neither votes nor campaigns.
//!
//! ```text
//!   n3, lost 40 and 41        n1, leads
//!     │ ── hello, up to 39 ────▶ │     knows that n3 had acknowledged what is up to 41
//!     │ ◀── acknowledged ≤ 41 ── │
//!     │ ◀── entries 40, 41 ───── │     n3 votes again when it has synced entry 41
//! ```
//!
//! Words may be lost, so the leader says them again until the replica has what it lacked. Whose whole folder is gone is another
//! node, with replicas of other numbers: it has acknowledged nothing.
//!
//! # Caveats
//!
//! A word goes with the connection to the node, as all do: where that is not there yet, it is lost, and the entries may come
//! before it is said again. Until then the replica keeps still because it has just started ([`super::guard`]). Who lost entries
//! that only a leader knew which is gone since is not noticed.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use kv::codec::{Malformed, Reader, put_uint};
use kv::{Index, NodeId, Position, ReplicaId, Term};

use super::message::{Kind, Message};
use super::replica::Raft;
use crate::entries::NUMBER_MAX;
use crate::{Instant, Output};

/// Words of a loss are said again so often until they are settled.
const AGAIN_MICROS: u64 = 1_000_000;

/// What a replica says first to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    /// Its number.
    pub(super) replica: ReplicaId,
    /// The last entry of its synced log.
    pub(super) last: Index,
}

impl Hello {
    pub(super) fn encode(self) -> Bytes {
        let mut into = BytesMut::new();
        put_uint(&mut into, u64::from(self.replica.0));
        put_uint(&mut into, self.last.0);
        into.freeze()
    }

    pub(super) fn decode(bytes: &Bytes) -> Result<Hello, Malformed> {
        let mut reader = Reader::new(bytes.clone());
        let (replica, last) = (ReplicaId(reader.u16()?), reader.uint()?);
        reader.end()?;
        if last > NUMBER_MAX {
            return Err(Malformed("the last entry of a log has too high an index"));
        }
        Ok(Hello { replica, last: Index(last) })
    }
}

/// What is known of losses, here and elsewhere.
#[derive(Default)]
pub(super) struct Loss {
    /// This replica lacks something it had acknowledged.
    lacks: bool,
    /// When words were last said.
    said: Option<Instant>,
    /// As a leader: those who lack what they had acknowledged up to there.
    owed: BTreeMap<ReplicaId, Index>,
}

impl Raft {
    /// When words of a loss are due.
    pub(super) fn loss_due(&self) -> Instant {
        match self.loss.said {
            _ if !self.owes_words() => Instant::MAX,
            None => Instant::default(),
            Some(said) => said.plus(AGAIN_MICROS),
        }
    }

    /// Says what is to be said of losses, if it is time.
    pub(super) fn say_losses(&mut self, out: &mut Vec<Output>) {
        if self.loss_due() > self.now {
            return;
        }
        self.loss.said = Some(self.now);
        let settled =
            |replica: ReplicaId, index: Index| self.core.acknowledged(replica).is_none_or(|has| has >= index);
        let owed = self.loss.owed.iter().filter(|(replica, index)| !settled(**replica, **index));
        let owed: BTreeMap<ReplicaId, Index> = owed.map(|(replica, index)| (*replica, *index)).collect();
        for (&replica, &index) in &owed {
            out.extend(self.say(Kind::Acknowledged, replica, self.core.term(), index));
        }
        self.loss.owed = owed;
    }

    /// Another replica said hello: says what it lacks, before anything else, and sends on from what it has.
    pub(super) fn greeted(&mut self, node: NodeId, hello: &Bytes, out: &mut Vec<Output>) {
        let Ok(Hello { replica, last }) = Hello::decode(hello) else { return };
        if replica == self.replica || !self.spoke(replica, node) {
            return;
        }
        if let Some(acknowledged) =
            self.core.acknowledged(replica).filter(|acknowledged| *acknowledged > last)
        {
            out.push(Output::PeerLacks { node, acknowledged, last });
            // To earlier leaders it may have acknowledged more, but nothing agreed on that is not in this log.
            self.loss.owed.insert(replica, self.core.last());
            self.loss.said = Some(self.now);
            out.extend(self.say(Kind::Acknowledged, replica, self.core.term(), self.core.last()));
        }
        self.core.connected(replica, last);
    }

    /// The term or the role changed: what is owed is for the leader of now to say.
    pub(super) fn forget_losses(&mut self) {
        self.loss.owed.clear();
    }

    /// A leader says how much this replica may have acknowledged.
    pub(super) fn lack(&mut self, message: &Message, out: &mut Vec<Output>) {
        self.guard.require(message.at.index, message.term);
        if !self.guard.is_whole(self.core.durable()) && !self.loss.lacks {
            self.loss.lacks = true;
            out.push(Output::Lacking { last: message.at.index });
        }
    }

    /// Says when this replica has again all that it had acknowledged.
    pub(super) fn note_whole(&mut self, out: &mut Vec<Output>) {
        if self.loss.lacks && self.guard.is_whole(self.core.durable()) {
            self.loss.lacks = false;
            out.push(Output::Whole);
        }
    }

    /// Whether words of a loss are yet to be said.
    pub(super) fn owes_words(&self) -> bool {
        !self.loss.owed.is_empty()
    }

    /// What this replica says of itself, beside what raft says; `None` = nobody knows where the other one is.
    pub(super) fn say(&self, kind: Kind, to: ReplicaId, term: Term, index: Index) -> Option<Output> {
        let message = Message {
            kind,
            from: self.replica,
            to,
            term,
            at: Position { index, term: Term::ZERO },
            commit: Position::ZERO,
            reject: false,
            hint: Index::ZERO,
            forced: false,
            round: Bytes::new(),
            view: None,
            seal: None,
            entries: Vec::new(),
        };
        Some(Output::Send { to: self.node_of(to)?, body: message.encode() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hello_round_trips_and_what_is_cut_or_too_high_is_refused() {
        let hello = |last| Hello { replica: ReplicaId(300), last };
        for hello in [Index(0), Index(NUMBER_MAX)].map(hello) {
            let bytes = hello.encode();
            assert_eq!(Hello::decode(&bytes), Ok(hello));
            assert!(Hello::decode(&bytes.slice(..bytes.len() - 1)).is_err());
        }
        assert!(Hello::decode(&hello(Index::MAX).encode()).is_err());
    }
}
