//! One replica of a raft group: inputs in, outputs out.
//!
//! An input goes to the room that it concerns. Then [`Raft::settle`] carries out all that follows from it, in the order that
//! keeps the promises: what is written, what leaves now and what leaves after the sync, what is applied, which reads go on.

use std::collections::VecDeque;

use bytes::Bytes;
use kv::cluster::Role;
use kv::{Class, Error, Index, Level, NodeId, Position, ReplicaId, Term, Version};
use mutant::Mutant;

use super::Config;
use super::addresses::{Addresses, is_alone};
use super::core::{Core, Work};
use super::guard::{Guard, Ticker};
use super::lease::Lease;
use super::loss::{Hello, Loss};
use super::message::{self, Kind, Message};
use super::outbox::Outbox;
use super::reads::{Moment, Reads, Verdict};
use super::seal::{Seal, sealed};
use super::sleep::Sleep;
use crate::batch::Batch;
use crate::entries::NUMBER_MAX;
use crate::known::Known;
use crate::proposals::{Proposals, not_appended};
use crate::random::Random;
use crate::record::Record;
use crate::recovery::Recovery;
use crate::{
    Input, Instant, Member, Output, Replicate, Route, Status, Ticket, Token, UNAPPLIED_BYTES_MAX, Unfit, View,
};

/// A replica of a raft group.
pub struct Raft {
    pub(super) config: Config,
    /// Its number in the group.
    pub(super) replica: ReplicaId,
    pub(super) addresses: Addresses,
    pub(super) now: Instant,
    pub(super) clock: Version,
    pub(super) core: Core,
    pub(super) ticker: Ticker,
    pub(super) guard: Guard,
    pub(super) lease: Lease,
    pub(super) reads: Reads,
    pub(super) loss: Loss,
    pub(super) batch: Batch,
    pub(super) proposals: Proposals,
    pub(super) outbox: Outbox<Message>,
    pub(super) sleep: Sleep,
    pub(super) seal: Seal,
    /// As a leader: the members that the group is to have, as long as it has others.
    pub(super) wanted: Option<Vec<Member>>,
    /// It was last asked for members of whom one was a member and is none any more.
    pub(super) wants_the_gone: bool,
    pub(super) known: Known,
    /// What is up to here was given out to be applied.
    pub(super) given: Index,
    /// What was given out and is not applied, in order.
    pub(super) applying: VecDeque<Position>,
    /// The table has applied what is up to here.
    pub(super) applied: Position,
    /// A snapshot that is on its way to the disk, and the ticket of its append.
    pub(super) installing: Option<(Ticket, Position)>,
    /// The term and the role that the rooms know of.
    pub(super) seen: (Term, Role),
    /// Makes the names of rounds unique among the lives of this replica; drawn at the first tick.
    pub(super) life: Option<u64>,
}

impl Raft {
    /// The replica, from its log and its table (the last entry that it has applied). It is the one that the log names, or else
    /// the member on its node.
    pub fn new(config: Config, recovery: Recovery, applied: Position) -> Result<Raft, Unfit> {
        let recovered = recovery.finish(kv::Protocol::Raft, config.view.clone(), applied)?;
        let replica = recovered.replica_on(config.id)?;
        let too_short = (recovered.ended < applied.index).then_some(recovered.ended);
        if let Some(last) = recovered.lost.or(too_short).filter(|_| is_alone(&recovered.view, config.id)) {
            return Err(Unfit::Lost { applied: applied.index, last });
        }
        let timeout_micros = config.election_ticks as u64 * config.tick_micros;
        let guard = Guard::new(timeout_micros, recovered.lost.unwrap_or_default());
        let seal = Seal::recovered(recovered.sealed, applied);
        let core = Core::new(&config, replica, recovered, applied.index);
        Ok(Raft {
            replica,
            addresses: Addresses::default(),
            now: Instant::default(),
            clock: Version::ZERO,
            ticker: Ticker::new(config.tick_micros),
            guard,
            lease: Lease::new(config.tick_micros, config.election_ticks, config.drift_percent),
            reads: Reads::default(),
            loss: Loss::default(),
            batch: Batch::default(),
            proposals: Proposals::default(),
            outbox: Outbox::new(),
            sleep: Sleep::default(),
            seal,
            wanted: None,
            wants_the_gone: false,
            known: Known::new(core.view().clone()),
            given: applied.index,
            applying: VecDeque::new(),
            applied,
            installing: None,
            seen: (core.term(), core.role()),
            life: None,
            core,
            config,
        })
    }

    /// It is now. Whether anything was due: else nothing follows from it.
    fn tick(&mut self, now: Instant, clock: Version, out: &mut Vec<Output>) -> bool {
        (self.now, self.clock) = (self.now.max(now), clock);
        if self.life.is_some() && self.due() > self.now {
            return false;
        }
        self.guard.tick(self.now);
        if self.life.is_none() {
            self.life = Some(Random::new(self.config.seed ^ now.0.rotate_left(32)).next());
            if self.is_alone() {
                self.core.campaign();
            }
        }
        if !self.sleep.asleep && self.ticker.is_due(self.now) {
            self.core.tick(self.may_elect(false));
            self.repeat_round();
            self.step_aside();
        }
        self.say_losses(out);
        true
    }

    fn message(&mut self, from: NodeId, body: &Bytes, out: &mut Vec<Output>) {
        let Some(message) = self.addressed(Some(from), body) else { return };
        self.wake_on(&message);
        let is_member = self.core.view().replica(message.from).is_some();
        match message.kind {
            Kind::Acknowledged if is_member => self.lack(&message, out),
            Kind::Acknowledged => {}
            Kind::Sleep => self.told_to_sleep(&message),
            _ if self.guard.believes(message.term) => self.believed(message),
            _ => (),
        }
    }

    fn believed(&mut self, message: Message) {
        let dropped = match message.kind {
            Kind::Vote | Kind::PreVote => !self.may_elect(message.forced),
            Kind::VoteResponse | Kind::PreVoteResponse | Kind::TimeoutNow => !self.may_elect(true),
            // Too far behind with applying: the leader sends it again.
            Kind::Append => {
                !message.entries.is_empty() && self.core.log().unapplied_bytes() > 2 * UNAPPLIED_BYTES_MAX
            }
            _ => false,
        };
        let (is_of_leader, from, term) = (message.is_of_leader(), message.from, message.term);
        if !dropped {
            self.core.step(message);
        }
        if is_of_leader && term == self.core.term() && self.core.leader() == Some(from) {
            self.guard.heard(self.now);
        }
    }

    fn propose(&mut self, token: Token, op: Bytes, out: &mut Vec<Output>) {
        let taken = match self.core.role() {
            Role::Leader if !self.orders_no_more() => self.batch.push(token, op),
            _ => Err(Error::WrongNode { try_next: None }),
        };
        if let Err(error) = taken {
            out.push(Output::Refuse { token, error });
        }
    }

    fn read(&mut self, token: Token, level: Level, out: &mut Vec<Output>) {
        if self.is_sealed() {
            return out.push(sealed(token));
        }
        let moment = moment(self.now, &self.core, &self.lease, self.applied);
        if let Err(error) = self.reads.read(token, level, moment) {
            out.push(Output::Refuse { token, error });
        }
    }

    fn fetched(&mut self, token: Token, out: &mut Vec<Output>) {
        let moment = moment(self.now, &self.core, &self.lease, self.applied);
        if let Verdict::Answer { reached, staleness_micros } = self.reads.fetched(token, moment) {
            let copies = if reached == Level::Linearizable { self.core.view().majority() as u32 } else { 1 };
            out.push(Output::Answer { token, reached, staleness_micros, copies });
        }
    }

    fn forget(&mut self, token: Token) {
        let _ = self.reads.forget(token) || self.batch.forget(token);
    }

    fn synced(&mut self, ticket: Ticket, out: &mut Vec<Output>) {
        self.known.synced(ticket);
        self.seal.synced(ticket);
        let Some((step, late)) = self.outbox.synced(ticket) else { return };
        self.core.persisted(step);
        self.send(late, out);
        if let Some((_, at)) = self.installing.take_if(|(install, _)| *install <= ticket) {
            self.set_applied(at);
        }
    }

    fn applied(&mut self, index: Index) {
        assert!(
            index <= self.given,
            "entry {index} was applied before it was given: {} was the last",
            self.given
        );
        while let Some(at) = self.applying.pop_front_if(|at| at.index <= index) {
            self.set_applied(at);
        }
    }

    fn set_applied(&mut self, at: Position) {
        let (was, is_later) = (self.applied, at.index > self.applied.index);
        assert!(!is_later || at.term >= was.term, "terms never fall along a log: {at} after {was}");
        self.applied = was.max(at);
        self.core.applied(self.applied.index, self.config.cache_bytes);
        self.reads.applied(self.applied.index);
    }

    /// Carries out all that follows from an input.
    fn settle(&mut self, out: &mut Vec<Output>) {
        loop {
            self.note_role(out);
            if let Some(work) = self.core.work() {
                self.carry_out(work, out);
            } else if !self.append_seal(out)
                && !self.append_next(out)
                && !self.change_members()
                && !self.begin_round()
            {
                break;
            }
        }
        while let Some(to) = self.core.next_snapshot(self.applied.index) {
            out.extend(self.node_of(to).map(|to| Output::MakeSnapshot { to }));
        }
        self.note_whole(out);
        self.say_sealed(out);
        let tokens = self.reads.take_fetch();
        if !tokens.is_empty() {
            out.push(Output::Fetch { tokens });
        }
        let refused = self.proposals.take_refused();
        out.extend(refused.map(|(token, error)| Output::Refuse { token, error }));
    }

    /// Tells the rooms when the term or the role changed.
    fn note_role(&mut self, out: &mut Vec<Output>) {
        let now = (self.core.term(), self.core.role());
        if now != self.seen {
            self.seen = now;
            self.lease.reset();
            self.reads.interrupt();
            self.forget_losses();
            self.forget_wanted_seal();
            if now.1 != Role::Leader {
                (self.wanted, self.wants_the_gone) = (None, false);
                out.extend(self.batch.drain().map(|token| Output::Refuse { token, error: not_appended() }));
            }
        }
    }

    fn carry_out(&mut self, work: Work, out: &mut Vec<Output>) {
        let Work { step, mut records, snapshot, mut early, mut late, committed, rounds } = work;
        if mutant::is(Mutant::FollowerAcknowledgesUnsynced) {
            early.extend(late.extract_if(.., |message| message.kind == Kind::AppendResponse));
        }
        self.send(early, out);
        if !records.is_empty() {
            let ticket = self.outbox.issue();
            if let Some(at) = snapshot {
                assert!(
                    at.index > self.given,
                    "a snapshot is installed when it is ahead: {at} after {}",
                    self.given
                );
                self.proposals.covered(at);
                self.given = at.index;
                self.installing = Some((ticket, at));
                self.known.learn(ticket, self.core.view().clone());
                records.extend(self.take_coming_end(at, ticket));
            }
            out.push(Output::Append { ticket, records, install: snapshot.is_some() });
            self.outbox.hold(step, late);
            if mutant::is(Mutant::LeaderCountsUnsynced) && self.core.role() == Role::Leader {
                self.core.persisted(step);
            }
        } else if self.outbox.is_idle() {
            self.core.persisted(step);
            self.send(late, out);
        } else {
            self.outbox.hold(step, late);
        }
        for (name, index) in rounds {
            self.round_confirmed(&name, index);
        }
        for entry in committed {
            self.give(entry, out);
        }
    }

    fn give(&mut self, entry: crate::entries::LogEntry, out: &mut Vec<Output>) {
        let at = entry.at();
        assert_eq!(at.index, self.given.next(), "entries are given out one after the other");
        self.given = at.index;
        let tokens = self.proposals.committed(at);
        if self.is_behind_the_end(at) {
            return out.extend(tokens.into_iter().map(sealed));
        }
        self.applying.push_back(at);
        tracing::trace!("an entry is agreed on");
        let copies = self.core.copies(at.index);
        let checked = "what is in a log was checked when it came";
        let (members, next) = (entry.members().expect(checked), entry.seal().expect(checked));
        let entry = if members.is_some() || next.is_some() { Bytes::new() } else { entry.data };
        if let Some(next) = next {
            self.end_epoch(at, next, out);
        }
        if let Some(members) = members {
            self.take_members(members, out);
        }
        out.push(Output::Apply { at, entry, tokens, copies });
    }

    fn send(&mut self, messages: Vec<Message>, out: &mut Vec<Output>) {
        for mut message in messages {
            if message.kind == Kind::Snapshot {
                message.view = Some(self.core.view_at(message.at.index).clone());
                let end = self.seal.end().filter(|end| end.at.index == message.at.index);
                message.seal = end.map(|end| end.next);
            }
            assert_eq!(message.from, self.replica, "a replica says its own words");
            let epoch = self.core.view().epoch;
            assert!(
                message.is_sound(epoch, Index(NUMBER_MAX)),
                "what is said is what is believed there: {message}"
            );
            // Who asked, and is not where it was: it asks again.
            let Some(to) = self.node_of(message.to) else { continue };
            let body = message.encode();
            match message.kind {
                Kind::Snapshot => out.push(Output::SendSnapshot { to, header: body }),
                Kind::TimeoutNow => {
                    if !mutant::is(Mutant::LeaseKeptOnTransfer) {
                        self.lease.give_away();
                    }
                    out.push(Output::Send { to, body });
                }
                _ => out.push(Output::Send { to, body }),
            }
        }
    }

    /// Appends the next entry, if it may be. Whether it was.
    fn append_next(&mut self, out: &mut Vec<Output>) -> bool {
        if self.batch.is_empty() || !self.core.may_propose() {
            return false;
        }
        let Some((entry, tokens)) = self.batch.next(self.clock) else { return false };
        match self.core.propose(entry) {
            Some(at) => {
                tracing::trace!("ops have become an entry");
                self.proposals.appended(at, tokens);
            }
            None => {
                out.extend(tokens.into_iter().map(|token| Output::Refuse { token, error: not_appended() }))
            }
        }
        true
    }
}

impl Replicate for Raft {
    fn step(&mut self, input: Input, out: &mut Vec<Output>) {
        if matches!(input, Input::Propose { .. } | Input::Read { .. } | Input::Yield { .. }) {
            self.wake();
        }
        let is_tick = matches!(input, Input::Tick { .. });
        match input {
            Input::Tick { now, clock } => {
                // Most come before another input only, for it to know the time.
                if !self.tick(now, clock, out) {
                    return;
                }
            }
            // Members change by entries: a view that another node knows comes with them.
            Input::View(_) | Input::Sync(_) | Input::Released => (),
            Input::Gather { .. } | Input::Looked { .. } => (),
            Input::Want { members } => self.want(members),
            Input::Propose { ops } => ops.into_iter().for_each(|(token, op)| self.propose(token, op, out)),
            Input::Read { token, level, .. } => self.read(token, level, out),
            Input::Fetched { token } => self.fetched(token, out),
            Input::Forget { token } => self.forget(token),
            // Members change by entries, so the term says what a revision says elsewhere.
            Input::Message { from, body, .. } => self.message(from, &body, out),
            Input::Durable { ticket } => self.synced(ticket, out),
            Input::Applied { index } => self.applied(index),
            Input::Connected { node, hello } => {
                self.note_connected(node);
                self.greeted(node, &hello, out);
            }
            Input::Disconnected { node } => {
                self.note_disconnected(node);
                self.with_member(node, Core::unreachable);
            }
            Input::Silent { node } => self.note_silent(node),
            Input::SnapshotMade { to, at } => self.with_member(to, |core, to| core.snapshot_made(to, at)),
            Input::SnapshotSent { to, arrived } => {
                self.with_member(to, |core, to| core.snapshot_sent(to, arrived))
            }
            Input::SnapshotReceived { header } => self.snapshot_received(&header, out),
            Input::Yield { to } => self.with_member(to, Core::transfer),
            Input::Seal { next, .. } => self.seal(next),
        }
        self.settle(out);
        // Behind a heartbeat of the same tick, which would wake those who sleep.
        if is_tick {
            self.let_sleep(out);
        }
    }

    fn route(&self, class: Class, level: Level) -> Route {
        // What may be no older than now is only to be had from the leader.
        let is_stale = class == Class::Read && matches!(level, Level::Local | Level::Bounded(1..));
        if self.orders_no_more() {
            return Route::Nobody("it is being handed over");
        }
        match self.core.leader().and_then(|leader| self.node_of(leader)) {
            _ if is_stale => Route::Here,
            Some(leader) if leader == self.config.id => Route::Here,
            Some(leader) => Route::To(leader),
            None => Route::Nobody("it has no leader that can be reached"),
        }
    }

    fn hello(&self, _: NodeId) -> Bytes {
        Hello { replica: self.replica, last: self.core.durable() }.encode()
    }

    fn is_response(&self, body: &[u8]) -> bool {
        message::is_response(body)
    }

    fn due(&self) -> Instant {
        if self.sleep.asleep { Instant::MAX } else { self.ticker.due().min(self.loss_due()) }
    }

    fn view(&self) -> &View {
        self.known.view()
    }

    fn status(&self) -> Status {
        self.present()
    }

    fn checkpoint(&self) -> Vec<Bytes> {
        let (log, head) = (self.core.log(), self.core.head());
        let view_at = |at: Position| self.core.view_at(at.index).clone();
        let mut records = vec![
            Record::Base(self.applied, view_at(self.applied)),
            Record::Replica(self.replica),
            Record::State(self.core.state()),
        ];
        if let Some((_, at)) = self.installing {
            records.push(Record::Snapshot(at, view_at(at)));
        }
        records.extend(log.above(self.applied.index).cloned().map(Record::Entry));
        records.extend(self.seal.end().map(|end| Record::Sealed(end.at, end.next)));
        records.into_iter().map(|record| record.encode(head)).collect()
    }
}

/// What a message says, for people.
pub fn describe(body: &Bytes) -> String {
    Message::decode(body).map_or_else(|error| error.to_string(), |message| message.to_string())
}

pub(super) fn moment<'a>(now: Instant, core: &Core, lease: &'a Lease, applied: Position) -> Moment<'a> {
    let lease = core.has_committed().then_some(lease);
    Moment { now, lease, commit: core.commit(), applied: applied.index }
}

#[cfg(test)]
mod tests;
