//! `single`: one copy, on one node.
//!
//! ```text
//!   Propose ─▶ Append ─▶ (log) ─▶ Durable ─▶ Apply ─▶ (table) ─▶ Applied
//!   Read ────▶ Fetch ──▶ (table) ─▶ Fetched ─▶ Answer
//! ```
//!
//! Guarantee: linearizable, and what was acknowledged survives a crash of its node. An op is acknowledged after its entry
//! is synced and applied, so the table holds everything that was acknowledged, and a read may look at it at once.
//!
//! It moves to another node by being handed over: the seal is the last that it appends. What was appended before is applied and
//! acknowledged; what waits for its entry, and what comes, is refused, for nothing of it has happened.
//!
//! # Caveats
//!
//! Down with its node, and lost with its disk. After a restart reads wait until the entries that were in the log are applied
//! again: the table may have forgotten what it had not flushed.

use std::collections::{BTreeSet, VecDeque};

use kv::cluster::Role;
use kv::{Class, Epoch, Error, Index, Level, NodeId, Position, Protocol, Term, Version};
use mutant::Mutant;

use crate::batch::Batch;
use crate::entries::{Entries, LogEntry};
use crate::record::{self, Header, Record};
use crate::recovery::Recovery;
use crate::{
    Input, Instant, Output, READS_MAX, Replicate, Route, Status, Ticket, Token, UNAPPLIED_BYTES_MAX,
    UNSYNCED_MAX, Unfit, View,
};

/// The one replica of a shard.
pub struct Single {
    id: NodeId,
    view: View,
    /// The log names the members.
    is_view_logged: bool,
    /// It was called at least once.
    begun: bool,
    clock: Version,
    batch: Batch,
    log: Entries,
    /// That of its entries: the one with which the shard came to it.
    term: Term,
    /// Entries that are appended and not synced, in order: ticket is their index less `ticket_base`.
    unsynced: VecDeque<Vec<Token>>,
    /// Index before the first append of this run: ticket 1 is the next one.
    ticket_base: Index,
    /// Entries up to here were given out to be applied.
    given: Index,
    applied: Index,
    /// Reads wait until this is applied.
    recovered: Index,
    reads: BTreeSet<Token>,
    early: BTreeSet<Token>,
    seal: Option<Seal>,
}

/// Nothing more is ordered.
#[derive(Clone, Copy, Debug)]
struct Seal {
    /// The shard goes on in this epoch.
    next: Epoch,
    /// The append that says so, until it is synced.
    unsynced: Option<Ticket>,
    /// The owner knows where it is sealed.
    is_said: bool,
}

impl Single {
    /// The replica on node `id`, from its log and its table (the last entry that it has applied).
    pub fn new(id: NodeId, view: View, recovery: Recovery, applied: Position) -> Result<Single, Unfit> {
        assert!(view.member(id).is_some(), "node {id} is a member of the shard it serves");
        let recovered = recovery.finish(Protocol::Single, view, applied)?;
        let too_short = (recovered.ended < applied.index).then_some(recovered.ended);
        if let Some(last) = recovered.lost.or(too_short) {
            return Err(Unfit::Lost { applied: applied.index, last });
        }
        let last = recovered.log.last();
        let term = recovered.log.term(last).unwrap_or_default();
        Ok(Single {
            id,
            view: recovered.view,
            is_view_logged: recovered.is_view_logged,
            begun: false,
            clock: Version::ZERO,
            batch: Batch::default(),
            log: recovered.log,
            term,
            unsynced: VecDeque::new(),
            ticket_base: last,
            given: applied.index,
            applied: applied.index,
            recovered: last,
            reads: BTreeSet::new(),
            early: BTreeSet::new(),
            seal: recovered.seal.map(|next| Seal { next, unsynced: None, is_said: false }),
        })
    }

    fn head(&self) -> Header {
        Header { protocol: Protocol::Single, epoch: self.view.epoch }
    }

    fn durable(&self) -> Index {
        Index(self.log.last().0 - self.unsynced.len() as u64)
    }

    /// Gives out to be applied what the log held at the start.
    fn recover(&mut self, out: &mut Vec<Output>) {
        while self.given < self.recovered {
            self.apply(Vec::new(), out);
        }
    }

    fn append(&mut self, out: &mut Vec<Output>) {
        while self.unsynced.len() < UNSYNCED_MAX && self.log.unapplied_bytes() < UNAPPLIED_BYTES_MAX {
            let Some((data, tokens)) = self.batch.next(self.clock) else { return };
            let index = self.log.last().next();
            let mut records = Vec::from_iter(self.view_to_log());
            let (record, entry) =
                record::own(self.head(), LogEntry { index, term: self.term, kind: 0, data });
            records.push(record);
            self.log.put(entry);
            self.unsynced.push_back(tokens);
            assert!(self.unsynced.len() <= UNSYNCED_MAX, "two entries at most are on their way to the disk");
            let ticket = Ticket(index.since(self.ticket_base));
            out.push(Output::Append { ticket, records, install: false });
        }
    }

    /// The record of the members, if the log does not name them yet.
    fn view_to_log(&mut self) -> Option<bytes::Bytes> {
        let is_logged = std::mem::replace(&mut self.is_view_logged, true);
        (!is_logged).then(|| Record::View(self.view.clone()).encode(self.head()))
    }

    /// Orders nothing more.
    fn seal(&mut self, next: Epoch, out: &mut Vec<Output>) {
        assert!(next > self.view.epoch, "a shard goes on in a later epoch");
        if let Some(seal) = &mut self.seal {
            return seal.is_said = false;
        }
        out.extend(self.batch.drain().map(refusal));
        let mut records = Vec::from_iter(self.view_to_log());
        records.push(Record::Seal(next).encode(self.head()));
        let ticket = Ticket(self.log.last().since(self.ticket_base) + 1);
        self.seal = Some(Seal { next, unsynced: Some(ticket), is_said: false });
        out.push(Output::Append { ticket, records, install: false });
    }

    /// Says that it is sealed, once that is so.
    fn say_sealed(&mut self, out: &mut Vec<Output>) {
        let Some(seal) = &mut self.seal else { return };
        let is_sealed = seal.unsynced.is_none() && self.applied == self.log.last();
        if is_sealed && !std::mem::replace(&mut seal.is_said, true) {
            out.push(Output::Sealed { at: Position { index: self.applied, term: self.term } });
        }
    }

    fn synced(&mut self, ticket: Ticket, out: &mut Vec<Output>) {
        let seal = self.seal.as_mut().and_then(|seal| seal.unsynced.take_if(|own| *own <= ticket));
        let entries = Ticket(ticket.0 - u64::from(seal.is_some()));
        assert!(
            entries.0 <= self.log.last().since(self.ticket_base),
            "append {ticket} is synced, and it was never asked for"
        );
        while self.durable() < self.ticket_base + entries.0 {
            let tokens = self.unsynced.pop_front().expect("what is appended and not synced is known");
            self.apply(tokens, out);
        }
    }

    fn apply(&mut self, tokens: Vec<Token>, out: &mut Vec<Output>) {
        self.given = self.given.next();
        assert!(self.given <= self.durable() || self.given <= self.recovered, "what is applied is synced");
        let entry =
            self.log.get(self.given).expect("an entry stays in memory until it is applied").data.clone();
        let at = Position { index: self.given, term: self.term };
        out.push(Output::Apply { at, entry, tokens, copies: 1 });
    }

    fn applied(&mut self, index: Index, out: &mut Vec<Output>) {
        assert!(
            index <= self.given,
            "entry {index} was applied before it was given: {} was the last",
            self.given
        );
        self.applied = self.applied.max(index);
        self.log.applied(index);
        self.log.evict(0);
        assert!(
            self.applied <= self.given && self.given <= self.log.last(),
            "applied up to given up to last"
        );
        if self.applied >= self.recovered && !self.early.is_empty() {
            let tokens = Vec::from_iter(std::mem::take(&mut self.early));
            self.reads.extend(&tokens);
            out.push(Output::Fetch { tokens });
        }
    }

    fn take_view(&mut self, view: View) {
        assert_eq!(view.epoch, self.view.epoch, "a replica serves one epoch");
        if self.view.is_before(&view) && self.view.has_nodes_of(&view) {
            (self.view, self.is_view_logged) = (view, false);
        }
    }

    fn read(&mut self, token: Token, out: &mut Vec<Output>) {
        if self.seal.is_some() && !mutant::is(Mutant::SealedOwnerServes) {
            out.push(refusal(token));
        } else if self.reads.len() + self.early.len() >= READS_MAX {
            out.push(Output::Refuse { token, error: too_many_reads() });
        } else if self.applied < self.recovered {
            self.early.insert(token);
        } else {
            assert!(self.reads.insert(token), "a token names one open read: {token}");
            out.push(Output::Fetch { tokens: vec![token] });
        }
    }
}

impl Replicate for Single {
    fn step(&mut self, input: Input, out: &mut Vec<Output>) {
        self.begun = true;
        self.recover(out);
        match input {
            Input::Tick { clock, .. } => self.clock = clock,
            Input::View(view) => self.take_view(view),
            // Other members have it in another epoch.
            Input::Want { .. } | Input::Sync(_) | Input::Released => (),
            Input::Gather { .. } | Input::Looked { .. } => (),
            Input::Seal { next, .. } => self.seal(next, out),
            Input::Propose { ops } if self.seal.is_some() => {
                out.extend(ops.into_iter().map(|(token, _)| refusal(token)));
            }
            Input::Propose { ops } => {
                for (token, op) in ops {
                    if let Err(error) = self.batch.push(token, op) {
                        out.push(Output::Refuse { token, error });
                    }
                }
            }
            Input::Read { token, .. } => self.read(token, out),
            Input::Fetched { token } if self.reads.remove(&token) => {
                out.push(Output::Answer {
                    token,
                    reached: Level::Linearizable,
                    staleness_micros: 0,
                    copies: 1,
                });
            }
            Input::Forget { token } => {
                let _ = self.reads.remove(&token) || self.early.remove(&token) || self.batch.forget(token);
            }
            Input::Durable { ticket } => self.synced(ticket, out),
            Input::Applied { index } => self.applied(index, out),
            // There is nobody else.
            Input::Fetched { .. }
            | Input::Message { .. }
            | Input::Connected { .. }
            | Input::Disconnected { .. }
            | Input::Silent { .. }
            | Input::SnapshotMade { .. }
            | Input::SnapshotSent { .. }
            | Input::Yield { .. } => (),
            Input::SnapshotReceived { .. } => out.push(Output::DiscardSnapshot),
        }
        self.append(out);
        self.say_sealed(out);
    }

    fn status(&self) -> Status {
        let leads = self.seal.is_none();
        Status {
            role: if leads { Role::Leader } else { Role::Follower },
            leader: leads.then_some(self.id),
            // Nobody is elected.
            term: Term::ZERO,
            last: self.log.last(),
            durable: self.durable(),
            commit: self.durable(),
            applied: self.applied,
            members: Vec::new(),
            wants_the_gone: false,
            lease_reads: 0,
            counts: Default::default(),
        }
    }

    fn route(&self, _: Class, _: Level) -> Route {
        match self.seal {
            None => Route::Here,
            Some(_) if mutant::is(Mutant::SealedOwnerServes) => Route::Here,
            Some(_) => Route::Nobody("it is being handed over to another node"),
        }
    }

    fn hello(&self, _: NodeId) -> bytes::Bytes {
        bytes::Bytes::new()
    }

    fn due(&self) -> Instant {
        // What the log held at the start is given out with the first input.
        if self.begun { Instant::MAX } else { Instant::default() }
    }

    fn view(&self) -> &View {
        &self.view
    }

    fn checkpoint(&self) -> Vec<bytes::Bytes> {
        let at = Position { index: self.applied, term: self.term };
        let base = Record::Base(at, self.view.clone());
        let entries = self.log.above(self.applied).cloned().map(Record::Entry);
        let seal = self.seal.map(|seal| Record::Seal(seal.next));
        std::iter::once(base).chain(entries).chain(seal).map(|record| record.encode(self.head())).collect()
    }
}

/// Its shard is handed over: whoever inherits it serves this.
fn refusal(token: Token) -> Output {
    Output::Refuse { token, error: Error::WrongNode { try_next: None } }
}

/// Why a read is refused when too many wait.
pub(crate) fn too_many_reads() -> Error {
    Error::Unavailable(format!(
        "cannot take the read: {READS_MAX} of its shard wait already; try again in a moment"
    ))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use kv::Epoch;

    use super::*;

    fn members() -> View {
        View::of(Epoch(1), &[NodeId(1)])
    }

    fn begin(recovery: Recovery, applied: u64) -> Result<Single, Unfit> {
        Single::new(NodeId(1), members(), recovery, Position::new(applied, 0))
    }

    fn step(single: &mut Single, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        single.step(input, &mut out);
        out
    }

    fn propose(single: &mut Single, token: Token) -> Vec<Output> {
        step(single, Input::Propose { ops: vec![(token, Bytes::from_static(b"op"))] })
    }

    fn single() -> Single {
        let mut single = begin(Recovery::default(), 0).unwrap();
        let clock = Version::new(9, kv::ReplicaId(1));
        assert!(step(&mut single, Input::Tick { now: Instant(1), clock }).is_empty());
        single
    }

    fn records(out: &[Output]) -> Vec<Bytes> {
        out.iter()
            .flat_map(
                |output| if let Output::Append { records, .. } = output { records.clone() } else { vec![] },
            )
            .collect()
    }

    fn applies(out: &[Output]) -> Vec<(u64, Vec<Token>)> {
        let apply = |output: &Output| match output {
            Output::Apply { at, tokens, .. } => Some((at.index.0, tokens.clone())),
            _ => None,
        };
        out.iter().filter_map(apply).collect()
    }

    #[test]
    fn single_write_is_applied_once_synced() {
        let mut single = single();
        let out = propose(&mut single, 7);
        assert!(matches!(&out[..], [Output::Append { ticket: Ticket(1), install: false, .. }]), "{out:?}");
        let out = step(&mut single, Input::Durable { ticket: Ticket(1) });
        assert_eq!(applies(&out), [(1, vec![7])]);
        step(&mut single, Input::Applied { index: Index(1) });
        assert_eq!((single.status().durable, single.status().applied), (Index(1), Index(1)));
    }

    #[test]
    fn single_writes_beyond_two_unsynced_entries_share_the_next() {
        let mut single = single();
        for token in 1..=5 {
            assert_eq!(propose(&mut single, token).len(), usize::from(token <= UNSYNCED_MAX as u64));
        }
        let out = step(&mut single, Input::Durable { ticket: Ticket(2) });
        assert_eq!(applies(&out), [(1, vec![1]), (2, vec![2])]);
        assert_eq!(records(&out).len(), 1, "the members are in the log since the first append");
        assert_eq!(applies(&step(&mut single, Input::Durable { ticket: Ticket(3) })), [(3, vec![3, 4, 5])]);
    }

    #[test]
    fn single_read_is_let_go_at_once_and_answered_once() {
        let mut single = single();
        let out = step(&mut single, Input::Read { token: 3, scope: kv::Scope::Shard, level: Level::Local });
        assert!(matches!(&out[..], [Output::Fetch { tokens }] if tokens == &[3]));
        let out = step(&mut single, Input::Fetched { token: 3 });
        assert!(matches!(
            &out[..],
            [Output::Answer { token: 3, reached: Level::Linearizable, staleness_micros: 0, copies: 1 }]
        ));
        assert!(step(&mut single, Input::Fetched { token: 3 }).is_empty());
    }

    #[test]
    fn single_read_after_restart_waits_for_the_log_to_be_applied_again() {
        let mut first = single();
        let mut written = records(&propose(&mut first, 1));
        written.extend(records(&propose(&mut first, 2)));
        let mut recovery = Recovery::default();
        written.iter().for_each(|record| recovery.replay(record).unwrap());
        let mut single = begin(recovery, 1).unwrap();
        let out =
            step(&mut single, Input::Read { token: 5, scope: kv::Scope::Shard, level: Level::Linearizable });
        assert_eq!(applies(&out), [(2, vec![])]);
        assert_eq!(out.len(), 1, "no fetch yet");
        let out = step(&mut single, Input::Applied { index: Index(2) });
        assert!(matches!(&out[..], [Output::Fetch { tokens }] if tokens == &[5]));
    }

    #[test]
    fn single_checkpoint_stands_for_all_earlier_records() {
        let mut first = single();
        propose(&mut first, 1);
        propose(&mut first, 2);
        step(&mut first, Input::Durable { ticket: Ticket(2) });
        step(&mut first, Input::Applied { index: Index(1) });
        let mut recovery = Recovery::default();
        first.checkpoint().iter().for_each(|record| recovery.replay(record).unwrap());
        let mut single = begin(recovery, 1).unwrap();
        assert_eq!(applies(&propose(&mut single, 3)), [(2, vec![])]);
        assert_eq!(single.status().last, Index(3));
    }

    #[test]
    fn single_table_behind_its_log_is_refused() {
        let mut recovery = Recovery::default();
        recovery
            .replay(
                &Record::Base(Position::new(7, 0), members())
                    .encode(Header { protocol: Protocol::Single, epoch: Epoch(1) }),
            )
            .unwrap();
        let lost = begin(recovery, 5).err().unwrap();
        assert_eq!(lost, Unfit::Lost { applied: Index(5), last: Index(7) });
        assert!(lost.to_string().contains("up to 5, and its log begins behind that and ends at 7"), "{lost}");
    }

    #[test]
    fn single_log_that_ends_before_its_table_is_refused() {
        let mut first = single();
        // The first append names the members as well.
        let written = [records(&propose(&mut first, 1)), records(&propose(&mut first, 2))];
        for kept in 0..=2 {
            let mut recovery = Recovery::default();
            written[..kept].iter().flatten().for_each(|record| recovery.replay(record).unwrap());
            let found = begin(recovery, 2).err();
            assert_eq!(
                found,
                (kept < 2).then_some(Unfit::Lost { applied: Index(2), last: Index(kept as u64) })
            );
        }
        let lost = Unfit::Lost { applied: Index(2), last: Index(1) }.to_string();
        assert!(lost.contains("up to 2, and its log ends before that, at 1"), "{lost}");
    }

    #[test]
    fn single_forgotten_requests_leave_nothing() {
        let mut single = single();
        (1..=3).for_each(|token| drop(propose(&mut single, token)));
        step(&mut single, Input::Read { token: 9, scope: kv::Scope::Shard, level: Level::Local });
        step(&mut single, Input::Forget { token: 3 });
        step(&mut single, Input::Forget { token: 9 });
        assert!(step(&mut single, Input::Fetched { token: 9 }).is_empty());
        assert!(records(&step(&mut single, Input::Durable { ticket: Ticket(2) })).is_empty());
    }
}
