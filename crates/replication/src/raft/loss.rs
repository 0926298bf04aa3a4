//! A replica that lost entries it had acknowledged, and how it gets them again.
//!
//! Raft counts on a majority that keeps what it acknowledged. A node whose disk lost its end, or whose whole folder is gone,
//! would elect a leader without those entries. So replicas say how far their synced logs reach whenever their nodes connect
//! ([`Hello`]), and a leader that knows of more says so: until the replica has it again it neither votes nor campaigns.
//!
//! Who lost everything knows that, and has forgotten in which term it was as well. It believes nobody, and asks the others:
//!
//! ```text
//!   n3, lost all              n1, leads                n2
//!     │ ── lost ───────────────▶ │                       │
//!     │                          │ ── round of reads ──▶ │     proves that n1 leads now, without n3's help
//!     │                          │ ◀──────────────────── │
//!     │ ◀── acknowledged ≤ 41 ── │                            n3 follows, and votes when it has synced entry 41
//! ```
//!
//! The leader's word counts only if it surely leads after the folder was lost, and without this replica's help: it proves that
//! as it does for a read, by its lease or by a round. One that was deposed with this replica's vote and has not noticed gets no
//! majority for it, and its term is below the one that is said. To who lost everything the first proven word counts: what was
//! asked for when it knew nothing may arrive when it is whole long since, and then asks for what it never had.
//!
//! Words may be lost, so both sides say theirs again until it is settled.
//!
//! # Caveats
//!
//! A word goes with the connection to the node, as all do: where that is not there yet, it is lost, and the entries may come
//! before it is said again. Until then the replica keeps still because it has just started ([`super::guard`]).

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use kv::cluster::Role;
use kv::codec::{Malformed, Reader, put_uint};
use kv::{Index, Level, NodeId, Position, ReplicaId, Term};

use super::message::{Kind, Message};
use super::replica::{Raft, moment};
use crate::entries::NUMBER_MAX;
use crate::{Instant, Output, Token};

/// Words of a loss are said again so often until they are settled.
const AGAIN_MICROS: u64 = 1_000_000;
/// The names of this replica's own reads: no owner's.
const OWN_TOKENS: Token = 1 << 63;

/// What a replica says first to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    /// Its number.
    pub(super) replica: ReplicaId,
    /// The last entry of its synced log.
    pub(super) last: Index,
    /// It lost everything, and nobody has said yet how much that was.
    pub(super) lost: bool,
}

impl Hello {
    pub(super) fn encode(self) -> Bytes {
        let mut into = BytesMut::new();
        put_uint(&mut into, u64::from(self.replica.0));
        put_uint(&mut into, self.last.0);
        into.put_u8(u8::from(self.lost));
        into.freeze()
    }

    pub(super) fn decode(bytes: &Bytes) -> Result<Hello, Malformed> {
        let mut reader = Reader::new(bytes.clone());
        let (replica, last, lost) = (ReplicaId(reader.u16()?), reader.uint()?, reader.bool()?);
        reader.end()?;
        if last > NUMBER_MAX {
            return Err(Malformed("the last entry of a log has too high an index"));
        }
        Ok(Hello { replica, last: Index(last), lost })
    }
}

/// What is known of losses, here and elsewhere.
#[derive(Default)]
pub(super) struct Loss {
    /// This replica came back with nothing, and does not have all of it yet.
    lost: bool,
    /// This replica lacks something it had acknowledged.
    lacks: bool,
    /// When words were last said.
    said: Option<Instant>,
    /// As a leader: those who lack what they had acknowledged up to there.
    owed: BTreeMap<ReplicaId, Index>,
    /// Own reads, which prove to whom it is that this replica leads.
    proofs: BTreeMap<Token, ReplicaId>,
    tokens: Token,
}

impl Loss {
    pub(super) fn new(lost: bool) -> Loss {
        Loss { lost, lacks: lost, ..Loss::default() }
    }

    pub(super) fn is_own(token: Token) -> bool {
        token >= OWN_TOKENS
    }
}

impl Raft {
    /// When words of a loss are due.
    pub(super) fn loss_due(&self) -> Instant {
        let waits = self.asks() || !self.loss.owed.is_empty();
        match self.loss.said {
            _ if !waits => Instant::MAX,
            None => Instant::default(),
            Some(said) => said.plus(AGAIN_MICROS),
        }
    }

    pub(super) fn asks(&self) -> bool {
        self.loss.lost && self.guard.knows_nothing()
    }

    /// Says what is to be said of losses, if it is time.
    pub(super) fn say_losses(&mut self, out: &mut Vec<Output>) {
        if self.loss_due() > self.now {
            return;
        }
        self.loss.said = Some(self.now);
        if self.asks() {
            let others = Vec::from_iter(self.others());
            let lost = |to| self.say(Kind::Lost, to, Term::ZERO, Index::ZERO, false);
            out.extend(others.into_iter().filter_map(lost));
        }
        let settled =
            |replica: ReplicaId, index: Index| self.core.acknowledged(replica).is_none_or(|has| has >= index);
        let owed = self.loss.owed.iter().filter(|(replica, index)| !settled(**replica, **index));
        let owed: BTreeMap<ReplicaId, Index> = owed.map(|(replica, index)| (*replica, *index)).collect();
        for (&replica, &index) in &owed {
            out.extend(self.say(Kind::Acknowledged, replica, self.core.term(), index, false));
        }
        self.loss.owed = owed;
    }

    /// Another replica said hello: says what it lacks, before anything else, and sends on from what it has.
    pub(super) fn greeted(&mut self, node: NodeId, hello: &Bytes, out: &mut Vec<Output>) {
        let Ok(Hello { replica, last, lost }) = Hello::decode(hello) else { return };
        if replica == self.replica || !self.spoke(replica, node) {
            return;
        }
        if self.asks() {
            out.extend(self.say(Kind::Lost, replica, Term::ZERO, Index::ZERO, false));
        }
        let acknowledged = self.core.acknowledged(replica).filter(|acknowledged| *acknowledged > last);
        if let Some(acknowledged) = acknowledged.filter(|_| !lost) {
            out.push(Output::PeerLacks { node, acknowledged, last });
            // To earlier leaders it may have acknowledged more, but nothing agreed on that is not in this log.
            self.loss.owed.insert(replica, self.core.last());
            self.loss.said = Some(self.now);
            out.extend(self.say(Kind::Acknowledged, replica, self.core.term(), self.core.last(), false));
        }
        self.core.connected(replica, last);
    }

    /// A node lost everything: it is answered once it is proven that this replica leads.
    pub(super) fn prove_to(&mut self, replica: ReplicaId) {
        if self.core.role() != Role::Leader || self.loss.proofs.values().any(|asking| *asking == replica) {
            return;
        }
        assert_ne!(replica, self.replica, "a replica does not ask itself");
        let token = OWN_TOKENS + self.loss.tokens;
        self.loss.tokens += 1;
        // When too many reads wait it asks again.
        let moment = moment(self.now, &self.core, &self.lease, self.applied);
        if self.reads.read(token, Level::Linearizable, moment).is_ok() {
            self.loss.proofs.insert(token, replica);
        }
    }

    /// An own read may be answered: it is proven that this replica leads.
    pub(super) fn proven(&mut self, token: Token, out: &mut Vec<Output>) {
        if let Some(replica) = self.loss.proofs.remove(&token).filter(|_| self.core.role() == Role::Leader) {
            out.extend(self.say(Kind::Acknowledged, replica, self.core.term(), self.core.last(), true));
        }
    }

    /// The term or the role changed: whoever asked asks again, the leader of then answers.
    pub(super) fn forget_losses(&mut self) {
        self.loss.owed.clear();
        for (token, _) in std::mem::take(&mut self.loss.proofs) {
            self.reads.forget(token);
        }
    }

    /// A leader says how much this replica may have acknowledged.
    pub(super) fn lack(&mut self, message: &Message, out: &mut Vec<Output>) {
        let counts = if message.forced { self.asks() } else { !self.loss.lost };
        if !counts {
            return;
        }
        self.guard.require(message.at.index, message.term);
        let was_known = self.loss.lacks && !message.forced;
        if !self.guard.is_whole(self.core.durable()) && !was_known {
            self.loss.lacks = true;
            out.push(Output::Lacking { last: message.at.index });
        }
    }

    /// Says when this replica has again all that it had acknowledged.
    pub(super) fn note_whole(&mut self, out: &mut Vec<Output>) {
        if self.loss.lacks && self.guard.is_whole(self.core.durable()) {
            (self.loss.lost, self.loss.lacks) = (false, false);
            out.push(Output::Whole);
        }
    }

    /// Whether words of a loss are yet to be said, or a proof for one is on its way.
    pub(super) fn owes_words(&self) -> bool {
        self.asks() || !self.loss.owed.is_empty() || !self.loss.proofs.is_empty()
    }

    /// What this replica says of itself, beside what raft says; `None` = nobody knows where the other one is.
    pub(super) fn say(
        &self,
        kind: Kind,
        to: ReplicaId,
        term: Term,
        index: Index,
        forced: bool,
    ) -> Option<Output> {
        let message = Message {
            kind,
            from: self.replica,
            to,
            term,
            at: Position { index, term: Term::ZERO },
            commit: Position::ZERO,
            reject: false,
            hint: Index::ZERO,
            forced,
            round: Bytes::new(),
            view: None,
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
        let hello = |last, lost| Hello { replica: ReplicaId(300), last, lost };
        for hello in [hello(Index(0), true), hello(Index(NUMBER_MAX), false)] {
            let bytes = hello.encode();
            assert_eq!(Hello::decode(&bytes), Ok(hello));
            assert!(Hello::decode(&bytes.slice(..bytes.len() - 1)).is_err());
        }
        assert!(Hello::decode(&hello(Index::MAX, false).encode()).is_err());
    }
}
