//! The end of an epoch: members stop answering, and bring together what they have.
//!
//! # The problem
//!
//! Whoever goes on with the shard is to begin with all that was acknowledged, and with one state on all nodes. Members have no order, and
//! each may lack rows that others have; some may be dead.
//!
//! # How it is solved
//!
//! *A member is sealed* from the moment it is asked: it takes no request, no look and no store. Each is sealed for itself, durably. The directory
//! says among whom the shard goes on, once and for all: they weigh more than the total less W, so every row that was acknowledged is at
//! one of them, and no other will be; and more than the total less R, so that no read is answered any more by those that are not among them.
//!
//! *The state is the newest row of each key over all of those.* Each compares with each of the others, as repair does, and takes what is newer there;
//! a member answers that when its seal is durable, and its table has what was appended before. So whatever it says holds what it had
//! when it was sealed, and beside that only what others among them had.
//!
//! ```text
//!   n1   seals ── inherit from n2, n3 ──▶ rows ──▶ own log and table ──▶ sealed
//!   n2   seals ── inherit from n1, n3 ──▶ rows ──▶ own log and table ──▶ sealed       n4, that is not among them, is dead
//!   n3   seals ── inherit from n1, n2 ──▶ rows ──▶ own log and table ──▶ sealed
//! ```
//!
//! The newest version that any of them has ever held is that of all in the end, so those that follow are above it.
//!
//! # Guarantees
//!
//! - Members that say where they ended ([`Output::Sealed`]) hold the same newest rows and the same newest version, whoever was started again meanwhile.
//! - Every row that weighed W is among them, or one that is newer; a row that was stored at less may be, or not.
//!
//! # Caveats
//!
//! All among whom the shard goes on are needed until each has said where it ended: one that is lost for good in between stops it.

use std::collections::BTreeSet;

use kv::merged::{Look, Row};
use kv::{Epoch, Error, NodeId, Position, Version};

use super::Quorum;
use super::message::Step;
use super::rounds::{Ask, Got, Task};
use crate::record::Record;
use crate::{Output, Ticket, Token};

/// It answers nothing more.
#[derive(Clone, Debug)]
pub(super) struct Seal {
    /// The shard goes on in this epoch.
    pub(super) next: Epoch,
    /// On these nodes; `None` = it was not said yet in this life.
    among: Option<BTreeSet<NodeId>>,
    /// The append that says so, until it is synced.
    unsynced: Option<Ticket>,
    /// What it had when it was sealed is in its table: others may come for it.
    is_settled: bool,
    /// The members of which it has all.
    has: BTreeSet<NodeId>,
    /// The newest version of its own table, and of all that it has compared with.
    last: Version,
    last_of_all: Version,
    /// Its table was told the newest version of all, or has it.
    is_raised: bool,
    is_said: bool,
}

/// What a member asks that is sealed: its life, the step of its round, and what it looks for.
pub(super) type Asked = (u64, Step, Look);

impl Seal {
    fn new(next: Epoch, unsynced: Option<Ticket>) -> Seal {
        let (among, is_settled, has, is_raised, is_said) = Default::default();
        let (last, last_of_all) = (Version::ZERO, Version::ZERO);
        Seal { next, among, unsynced, is_settled, has, last, last_of_all, is_raised, is_said }
    }

    /// As the log has it.
    pub(super) fn recovered(next: Epoch) -> Seal {
        Seal::new(next, None)
    }

    /// All appends up to this ticket are synced.
    pub(super) fn synced(&mut self, ticket: Ticket) {
        self.unsynced.take_if(|own| *own <= ticket);
    }

    /// Those of whom something may be lacking here; none where the shard goes on without this member.
    fn lacks(&self, me: NodeId) -> BTreeSet<NodeId> {
        let among = self.among.iter().filter(|among| among.contains(&me)).flatten();
        among.filter(|node| **node != me && !self.has.contains(node)).copied().collect()
    }
}

impl Quorum {
    /// The shard goes on in a later epoch, on some of its nodes.
    pub(super) fn end_epoch(&mut self, next: Epoch, among: Vec<NodeId>, out: &mut Vec<Output>) {
        assert!(next > self.view.epoch, "a shard goes on in a later epoch");
        let among = Some(among.into_iter().collect());
        if let Some(seal) = &mut self.seal {
            (seal.among, seal.is_said) = (among, false);
            return;
        }
        self.turn_reads_away(out);
        self.turn_writes_away(out);
        for round in Vec::from_iter(self.rounds.drain()) {
            match round.task {
                Task::Write(write) => self.break_off(&write, matches!(round.ask, Ask::Store(_)), out),
                Task::Read(read) => out.extend(read.tokens().map(elsewhere)),
                Task::Hint | Task::Repair(_) | Task::Collect(_) => {}
            }
        }
        self.drop_stores();
        let mut records = self.take_notes();
        records.push(Record::Seal(next).encode(self.head()));
        let ticket = self.append_records(records, out);
        self.seal = Some(Seal { among, ..Seal::new(next, Some(ticket)) });
    }

    /// A member that is sealed looks at what this one has: it is answered when this one is.
    pub(super) fn inherit_of(&mut self, node: NodeId, life: u64, at: Step, what: Look) {
        self.asked.insert(node, (life, at, what));
    }

    /// Does what is left to do of a sealed member.
    pub(super) fn end_goes_on(&mut self, out: &mut Vec<Output>) {
        let (applied, last) = (self.journal.applied(), self.journal.last());
        let Some(seal) = &mut self.seal else { return };
        seal.is_settled |= seal.unsynced.is_none() && applied == last;
        if !seal.is_settled {
            return;
        }
        for (node, (life, at, what)) in std::mem::take(&mut self.asked) {
            self.look_for(node, life, at, what, out);
        }
        self.begin_to_inherit(out);
        self.raise();
        self.append(out);
        self.give(out);
        self.say_sealed(out);
    }

    /// Compares with those of whom something may be lacking.
    fn begin_to_inherit(&mut self, out: &mut Vec<Output>) {
        let lacks = self.seal.as_ref().map(|seal| seal.lacks(self.config.id)).unwrap_or_default();
        for node in lacks {
            let is_with = |task: &Task| matches!(task, Task::Repair(repair) if repair.peer() == node);
            let is_near = self.peers.get(&node).is_some_and(|peer| peer.is_near());
            if is_near && self.rounds.with(|round| is_with(&round.task)).is_empty() {
                self.compare(node, true, out);
            }
        }
    }

    /// What the newest versions are here and at another sealed member.
    pub(super) fn heard_last(&mut self, own: &Option<Got>, theirs: &Option<Got>) {
        let last = |got: &Option<Got>| match got {
            Some(Got::Found(_, last)) => *last,
            _ => Version::ZERO,
        };
        let Some(seal) = &mut self.seal else { return };
        seal.last = seal.last.max(last(own));
        seal.last_of_all = seal.last_of_all.max(seal.last).max(last(theirs));
    }

    /// Rows that another sealed member has are about to be stored here.
    pub(super) fn inherits(&mut self, rows: &[Row]) {
        let Some(seal) = &mut self.seal else { return };
        seal.last = rows.iter().map(|row| row.version).fold(seal.last, Version::max);
    }

    /// All that another sealed member has is here.
    pub(super) fn has_inherited(&mut self, node: NodeId) {
        if let Some(seal) = &mut self.seal {
            seal.has.insert(node);
        }
    }

    /// Once all is here, the table is told the newest version that there was anywhere.
    fn raise(&mut self) {
        let me = self.config.id;
        let Some(seal) = self.seal.as_ref().filter(|seal| seal.among.is_some() && !seal.is_raised) else {
            return;
        };
        if !seal.lacks(me).is_empty() {
            return;
        }
        let (to, is_known) = (seal.last_of_all, seal.last >= seal.last_of_all);
        let is_raised = is_known || self.store_last(to);
        if let Some(seal) = &mut self.seal {
            seal.is_raised = is_raised;
        }
    }

    /// Says that it is sealed, once that is so for the log and the table.
    fn say_sealed(&mut self, out: &mut Vec<Output>) {
        let is_at_rest = self.journal.applied() == self.journal.last() && self.has_stored_all();
        let Some(seal) = &mut self.seal else { return };
        if seal.is_raised && is_at_rest && !std::mem::replace(&mut seal.is_said, true) {
            let at: Position = self.journal.applied_at();
            out.push(Output::Sealed { at });
        }
    }
}

/// Another replica serves this, or will.
pub(super) fn elsewhere(token: Token) -> Output {
    Output::Refuse { token, error: Error::WrongNode { try_next: None } }
}
