//! One member of a shard: inputs in, outputs out.
//!
//! An input goes to the room that it concerns. Then [`Primary::settle`] carries out all that follows from it.

use std::collections::VecDeque;

use bytes::Bytes;
use kv::codec::is_note;
use kv::{Class, Error, Index, Level, NodeId, Position, Protocol, ReplicaId, Term, Version};
use mutant::Mutant;

use super::Config;
use super::changes::Wishes;
use super::forks::Forks;
use super::message::{self, Kind, Message};
use super::order::Order;
use super::reads::{Moment, Reads, Verdict};
use super::seal::{Seal, sealed};
use super::sleep::Sleep;
use super::syncs::Syncs;
use crate::batch::Batch;
use crate::entries::{Entries, LogEntry, OPS};
use crate::known::Known;
use crate::lease::{Asked, Given, Held};
use crate::proposals::Proposals;
use crate::random::Random;
use crate::record::{Header, Record, State};
use crate::recovery::Recovery;
use crate::{Duty, Input, Instant, Member, Output, Replicate, Route, Status, Ticket, Token, Unfit, View};

/// So many bits of a term are the revision's; the epoch's stand above them.
const TERM_BITS: u32 = 32;

/// A member of a shard under `primary`.
pub struct Primary {
    pub(super) config: Config,
    /// Its number.
    pub(super) replica: ReplicaId,
    /// Its log is one of an earlier life.
    has_lived: bool,
    /// The log says who its members are.
    pub(super) is_told: bool,
    /// Names this life in questions for a lease; drawn at the first tick.
    pub(super) life: Option<u64>,
    pub(super) now: Instant,
    pub(super) clock: Version,
    /// The members, as far as it knows.
    pub(super) view: View,
    /// The members as it will know them after a restart.
    pub(super) known: Known,
    /// In which term it, or a life of it before, was to order: never again in that one.
    pub(super) used: Term,
    pub(super) log: Entries,
    pub(super) syncs: Syncs,
    /// The log is the primary's up to here, as was found in this term.
    pub(super) verified: Index,
    /// All entries up to here are agreed on.
    pub(super) commit: Index,
    /// What is up to here was given out to be applied.
    pub(super) given: Index,
    pub(super) applying: VecDeque<Position>,
    pub(super) applied: Position,
    /// A snapshot that is on its way to the disk.
    pub(super) installing: Option<(Ticket, Position)>,
    /// It has lost entries that it had: it counts for nobody until a snapshot has come.
    pub(super) is_lossy: bool,
    /// What it does when it orders.
    pub(super) order: Option<Order>,
    pub(super) batch: Batch,
    pub(super) proposals: Proposals,
    pub(super) reads: Reads,
    /// As a secondary: under which it reads.
    pub(super) lease: Held,
    /// And how many reads it has answered so.
    pub(super) lease_reads: u64,
    /// A read has wanted it since it was asked for last.
    pub(super) wants_lease: bool,
    /// When what the primary has told of was asked, and how far was agreed on then.
    pub(super) told: Option<(Instant, Index)>,
    /// Nothing is missing here of what was acknowledged before that.
    pub(super) fresh: Option<Instant>,
    /// The leases that it gave: as a secondary not to take over, as the primary to read.
    pub(super) promised: Given,
    pub(super) lent: Given,
    /// When it looked at what is due last.
    pub(super) looked: Instant,
    /// When it heard of the primary last, or began to wait for it, and when it called it last.
    pub(super) heard: Instant,
    pub(super) called: Instant,
    pub(super) wishes: Wishes,
    pub(super) sleep: Sleep,
    pub(super) seal: Seal,
    pub(super) forks: Forks,
}

impl Primary {
    /// The replica, from its log and its table (the last entry that it has applied). It is the one that the log names, or else
    /// the member on its node.
    pub fn new(config: Config, recovery: Recovery, applied: Position) -> Result<Primary, Unfit> {
        let recovered = recovery.finish(Protocol::Primary, config.view.clone(), applied)?;
        // What an epoch begins with names no replica: this one has said nothing in it yet.
        let has_lived = recovered.replica.is_some();
        let replica = recovered.replica_on(config.id)?;
        let too_short = (recovered.ended < applied.index).then_some(recovered.ended);
        let lost = recovered.lost.or(too_short);
        let view = recovered.view;
        let in_sync = view.members.iter().filter(|member| is_in_sync(member));
        let is_alone = in_sync.map(|member| member.replica).eq([replica]);
        if let Some(last) = lost.filter(|_| is_alone) {
            return Err(Unfit::Lost { applied: applied.index, last });
        }
        let lease = config.lease_micros;
        let State { term, vote, .. } = recovered.state;
        let has_entries = recovered.log.term(recovered.log.last()) == Some(term_of(&view));
        let is_used = term == term_of(&view) && (vote == replica || has_entries);
        Ok(Primary {
            replica,
            has_lived,
            is_told: has_lived,
            life: None,
            now: Instant::default(),
            clock: Version::ZERO,
            known: Known::new(view.clone()),
            used: if is_used && !mutant::is(Mutant::RoleKeptOverARestart) {
                term_of(&view)
            } else {
                Term::ZERO
            },
            syncs: Syncs::new(recovered.log.last()),
            verified: recovered.state.commit,
            commit: recovered.state.commit,
            given: applied.index,
            applying: VecDeque::new(),
            applied,
            installing: None,
            is_lossy: lost.is_some(),
            order: None,
            batch: Batch::default(),
            proposals: Proposals::default(),
            reads: Reads::default(),
            lease: Held::new(lease, config.drift_percent),
            lease_reads: 0,
            wants_lease: false,
            told: None,
            fresh: None,
            promised: Given::new(lease),
            lent: Given::new(lease),
            looked: Instant::default(),
            heard: Instant::default(),
            called: Instant::default(),
            wishes: Wishes::default(),
            sleep: Sleep::default(),
            seal: Seal::recovered(recovered.sealed, applied),
            forks: Forks::default(),
            log: recovered.log,
            view,
            config,
        })
    }

    pub(super) fn head(&self) -> Header {
        Header { protocol: Protocol::Primary, epoch: self.view.epoch }
    }

    /// The term.
    pub(super) fn term(&self) -> Term {
        term_of(&self.view)
    }

    /// The member that orders.
    pub(super) fn primary(&self) -> Option<&Member> {
        self.view.members.iter().find(|member| member.duty == Duty::Primary)
    }

    /// Whether the directory has it order, be it in this life or not.
    pub(super) fn is_primary(&self) -> bool {
        self.primary().is_some_and(|member| member.replica == self.replica)
    }

    /// Whether it is in sync: it counts.
    pub(super) fn is_in_sync(&self) -> bool {
        self.view.replica(self.replica).is_some_and(is_in_sync)
    }

    /// Who is in sync, this replica too.
    pub(super) fn in_sync(&self) -> impl Iterator<Item = ReplicaId> + '_ {
        self.view.members.iter().filter(|member| is_in_sync(member)).map(|member| member.replica)
    }

    /// All members but this one.
    pub(super) fn others(&self) -> impl Iterator<Item = ReplicaId> + '_ {
        self.view.members.iter().map(|member| member.replica).filter(|replica| *replica != self.replica)
    }

    pub(super) fn node_of(&self, replica: ReplicaId) -> Option<NodeId> {
        self.view.replica(replica).map(|member| member.node)
    }

    /// A question for a lease, asked now.
    pub(super) fn asks(&self) -> Option<Asked> {
        self.life.map(|life| Asked { life, at: self.now })
    }

    /// Sends a message, if its receiver is a member.
    pub(super) fn send(&self, message: &Message, out: &mut Vec<Output>) {
        assert!(message.is_sound(self.view.epoch), "what is said is what is believed there: {message}");
        out.extend(self.node_of(message.to).map(|to| Output::Send { to, body: message.encode() }));
    }

    /// A message of now to another replica.
    pub(super) fn message(&self, kind: Kind, to: ReplicaId, at: Position) -> Message {
        let at = if at.term > self.term() { Position::ZERO } else { at };
        Message::new(kind, self.replica, to, self.term(), at)
    }

    /// Writes records behind what the log holds now.
    pub(super) fn append(&mut self, records: Vec<Record>, out: &mut Vec<Output>) -> Ticket {
        let head = self.head();
        let records = records.into_iter().map(|record| record.encode(head)).collect();
        let ticket = self.syncs.issue(self.log.last());
        out.push(Output::Append { ticket, records, install: false });
        ticket
    }

    fn tick(&mut self, now: Instant, clock: Version) {
        (self.now, self.clock) = (self.now.max(now), clock);
        if self.life.is_none() {
            self.life = Some(Random::new(self.config.seed ^ now.0.rotate_left(32)).next());
            self.heard = self.now;
            // What an earlier life promised may not be over, and a question of it may come about.
            if self.has_lived {
                let others = Vec::from_iter(self.others());
                others.into_iter().for_each(|replica| self.promised.give(replica, self.now));
            }
        }
    }

    fn propose(&mut self, token: Token, op: Bytes, out: &mut Vec<Output>) {
        let has_copies = self.in_sync().count() >= self.min_copies();
        let taken = match &self.order {
            Some(_) if self.is_sealed() => Err(Error::WrongNode { try_next: None }),
            // The store's own is no write that is acknowledged to anybody.
            Some(_) if !has_copies && !is_note(&op) => Err(self.too_few_copies()),
            Some(_) => self.batch.push(token, op),
            None => Err(Error::WrongNode { try_next: None }),
        };
        if let Err(error) = taken {
            out.push(Output::Refuse { token, error });
        }
    }

    fn too_few_copies(&self) -> Error {
        let (has, wants) = (self.in_sync().count(), self.min_copies());
        Error::Unavailable(format!(
            "cannot take the write: {has} of its shard's replicas is in sync, and {wants} must be; nothing of it happened: bring \
             the other nodes back (capstan cluster status names them), and try again"
        ))
    }

    /// What matters to reads.
    pub(super) fn moment(&self) -> Moment {
        let has_this_term = self.log.term(self.verified) == Some(self.term());
        let (is_leased, index) = match &self.order {
            Some(order) => (self.is_leased(order), self.commit),
            None => (self.is_in_sync() && self.lease.is_valid(self.now) && has_this_term, self.verified),
        };
        Moment { now: self.now, is_leased, index, applied: self.applied.index, fresh: self.fresh }
    }

    fn read(&mut self, token: Token, level: Level, out: &mut Vec<Output>) {
        if self.is_sealed() {
            return out.push(sealed(token));
        }
        if self.is_astray() || !self.is_in_sync() && !self.answers_old(level) {
            return out.push(Output::Refuse { token, error: Error::WrongNode { try_next: None } });
        }
        self.wants_lease = true;
        if let Err(error) = self.reads.read(token, level, self.moment()) {
            out.push(Output::Refuse { token, error });
        }
    }

    fn fetched(&mut self, token: Token, out: &mut Vec<Output>) {
        if let Verdict::Answer { reached, staleness_micros } = self.reads.fetched(token, self.moment()) {
            self.lease_reads += u64::from(reached == Level::Linearizable && self.order.is_none());
            let all = self.in_sync().count() as u32;
            let copies = if reached == Level::Linearizable { all } else { 1 };
            out.push(Output::Answer { token, reached, staleness_micros, copies });
        }
    }

    fn synced(&mut self, ticket: Ticket, out: &mut Vec<Output>) {
        self.syncs.synced(ticket);
        self.known.synced(ticket);
        self.seal.synced(ticket);
        if let Some((_, at)) = self.installing.take_if(|(install, _)| *install <= ticket) {
            self.set_applied(at);
        }
        if self.order.is_none() {
            self.acknowledge(None, out);
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
        self.applied = self.applied.max(at);
        self.log.applied(self.applied.index);
        self.log.evict(self.config.cache_bytes);
        self.reads.applied(self.applied.index);
    }

    /// Carries out all that follows from an input.
    fn settle(&mut self, out: &mut Vec<Output>) {
        self.begin(out);
        self.settle_astray(out);
        self.work_in_order(out);
        self.give_out(out);
        self.note_fresh();
        self.settle_seal(out);
        self.wait_for_primary(out);
        self.ask_directory(out);
        self.settle_reads(out);
        let refused = self.proposals.take_refused();
        out.extend(refused.map(|(token, error)| Output::Refuse { token, error }));
    }

    fn settle_reads(&mut self, out: &mut Vec<Output>) {
        self.reads.place(self.moment());
        let patience = self.config.grace_micros;
        if self.reads.waits_since().is_some_and(|since| self.now.since(since) >= patience) {
            let over = self.reads.give_up(Instant(self.now.0 - patience));
            out.extend(over.into_iter().map(sealed));
        }
        let tokens = self.reads.take_fetch();
        out.extend((!tokens.is_empty()).then(|| Output::Fetch { tokens }));
    }

    /// Gives out to be applied what is agreed on and on the disk here.
    fn give_out(&mut self, out: &mut Vec<Output>) {
        let ready = self.commit.min(self.syncs.durable());
        while self.installing.is_none() && self.given < ready {
            let index = self.given.next();
            let entry = self.log.get(index).expect("an entry stays in memory until it is applied").clone();
            self.given = index;
            self.give(entry, out);
        }
    }

    fn give(&mut self, entry: LogEntry, out: &mut Vec<Output>) {
        let at = entry.at();
        let mut tokens = self.proposals.committed(at);
        if self.is_astray() {
            // Whoever proposed it has it in the log, and nobody has agreed on it.
            out.extend(tokens.drain(..).map(|token| Output::Refuse { token, error: on_too_few() }));
            self.applying.push_back(at);
            let entry = if entry.kind == OPS { entry.data } else { Bytes::new() };
            return out.push(Output::Apply { at, entry, tokens, copies: 1 });
        }
        if self.is_behind_the_end(at) {
            return out.extend(tokens.into_iter().map(sealed));
        }
        self.applying.push_back(at);
        // Another one may order by now, and this replica have it beside those in sync.
        let copies = self.in_sync().count() + usize::from(!self.is_in_sync());
        if copies < self.min_copies() {
            let in_doubt = |token| Output::Refuse { token, error: on_too_few() };
            out.extend(tokens.drain(..).map(in_doubt));
        }
        if let Some(next) = entry.seal().expect("what is in a log was checked when it came") {
            self.end_epoch(at, next, out);
        }
        let entry = if entry.kind == OPS { entry.data } else { Bytes::new() };
        out.push(Output::Apply { at, entry, tokens, copies: copies as u32 });
    }
}

impl Replicate for Primary {
    fn step(&mut self, input: Input, out: &mut Vec<Output>) {
        if matches!(input, Input::Propose { .. } | Input::Read { .. } | Input::Yield { .. }) {
            self.wake();
        }
        let is_tick = matches!(input, Input::Tick { .. });
        match input {
            Input::Tick { now, clock } => {
                self.tick(now, clock);
                // Most come before another input only, for it to know the time.
                if self.due() > self.now {
                    return;
                }
                self.looked = self.now;
            }
            Input::View(view) => self.take_view(view, out),
            Input::Want { members } => self.want(members),
            Input::Sync(sync) => self.config.sync = sync,
            Input::Propose { ops } => ops.into_iter().for_each(|(token, op)| self.propose(token, op, out)),
            Input::Read { token, level, .. } => self.read(token, level, out),
            Input::Fetched { token } => self.fetched(token, out),
            Input::Forget { token } => drop(self.reads.forget(token) || self.batch.forget(token)),
            Input::Message { from, body, .. } => self.take_message(from, &body, out),
            Input::Durable { ticket } => self.synced(ticket, out),
            Input::Applied { index } => self.applied(index),
            Input::Connected { node, hello } => self.connected(node, &hello, out),
            Input::Disconnected { node } => self.disconnected(node),
            Input::Silent { node } => self.note_silent(node),
            Input::SnapshotMade { to, at } => self.snapshot_made(to, at),
            Input::SnapshotSent { to, arrived } => self.snapshot_sent(to, arrived),
            Input::SnapshotReceived { header } => self.snapshot_received(&header, out),
            Input::Yield { to } => self.yield_to(to),
            Input::Seal { next, .. } => self.seal(next),
            Input::Released => self.forks.is_released = true,
            Input::Gather { .. } | Input::Looked { .. } => (),
        }
        self.settle(out);
        if is_tick {
            self.let_sleep(out);
        }
    }

    fn route(&self, class: Class, level: Level) -> Route {
        let is_read = class == Class::Read;
        if self.is_sealed() && !self.is_astray() && !mutant::is(Mutant::SealedLeaderAcknowledges) {
            return Route::Nobody("it is being handed over");
        }
        let is_near = self.sleep.asleep || self.now.since(self.heard) < self.config.lease_micros;
        let reads_here = is_near && (self.is_in_sync() || self.answers_old(level)) || level == Level::Local;
        let reads_here = reads_here && !self.is_astray();
        match self.primary() {
            _ if self.order.is_some() => Route::Here,
            _ if is_read && reads_here => Route::Here,
            Some(primary) if primary.node != self.config.id => Route::To(primary.node),
            _ => Route::Nobody("its primary has restarted, and the directory has not made one since"),
        }
    }

    fn hello(&self, _: NodeId) -> Bytes {
        self.greeting()
    }

    fn is_response(&self, body: &[u8]) -> bool {
        message::is_response(body)
    }

    fn due(&self) -> Instant {
        self.next_due()
    }

    fn view(&self) -> &View {
        self.known.view()
    }

    fn status(&self) -> Status {
        self.present()
    }

    fn checkpoint(&self) -> Vec<Bytes> {
        let view = || self.view.clone();
        let mut records =
            vec![Record::Base(self.applied, view()), Record::Replica(self.replica), self.state()];
        if let Some((_, at)) = self.installing {
            records.push(Record::Snapshot(at, view()));
        }
        records.extend(self.log.above(self.applied.index).cloned().map(Record::Entry));
        records.extend(self.seal.end().map(|end| Record::Sealed(end.at, end.next)));
        records.into_iter().map(|record| record.encode(self.head())).collect()
    }
}

/// The term of a view: its revision, and above all of earlier epochs, whatever ordered in them.
pub(super) fn term_of(view: &View) -> Term {
    Term(view.epoch.0.saturating_sub(1) << TERM_BITS | view.revision.0)
}

/// Whether a member counts: what is acknowledged is in its log.
pub(super) fn is_in_sync(member: &Member) -> bool {
    matches!(member.duty, Duty::Primary | Duty::Voter)
}

fn on_too_few() -> Error {
    Error::InDoubt(
        "the other replicas of its shard were lost before they had the write: it is on too few to be acknowledged, and may be seen \
         all the same"
            .into(),
    )
}

/// What a message says, for people.
pub fn describe(body: &Bytes) -> String {
    Message::decode(body).map_or_else(|error| error.to_string(), |message| message.to_string())
}
