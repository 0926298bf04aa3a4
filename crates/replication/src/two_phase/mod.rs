//! `two-phase`: every copy has everything, or nobody has it.
//!
//! # The problem
//!
//! A write is to be on all copies of a shard before it is acknowledged, so that any copy answers reads that miss nothing, and any
//! copy alone is enough to go on from. The copies must take it in together: where one of them cannot, none may. That is atomic
//! commitment, and its protocol is the *two-phase commit*: one replica, the *master*, asks all others, the *participants*, to
//! *prepare*; each writes down what it was asked for and *votes*; when all have voted, the master *decides*, for ever.
//!
//! The textbook runs it once for each transaction, under locks. Here it runs once for each entry of one log: the log says what comes
//! before what, so nothing needs a lock, and many entries are prepared at the same time and decided in order.
//!
//! # How
//!
//! ```text
//!        n1 (master)              n2                    n3
//!   Propose [t7: put k]
//!   Append entry 4 ── prepare ──▶ Append entry 4        Append entry 4
//!     │ sync                        │ sync                │ sync              k is blocked there from here ...
//!     ▼                             ▼                     ▼
//!   Durable       ◀── vote 4 ──── Durable               Durable
//!   Append "decided up to 4"
//!     │ sync
//!     ▼
//!   Durable ── decided up to 4 ─▶ Apply 4               Apply 4               ... to here
//!   Apply 4 [t7], on 3 nodes
//!     │ table
//!     ▼
//!   Applied 4                     the owner answers t7 with the table's result
//! ```
//!
//! - *Prepare*: the master puts an entry into its log and sends it at once. A participant puts it into its own where it follows what
//!   the master has there, and votes when that is synced. A vote names an index: everything up to it is prepared.
//! - *Decide*: what the master and all participants have synced is decided by one record of the master's log, which may decide
//!   several entries. When the record is synced the master applies, acknowledges, and says it with the next prepare; at once when
//!   there is none. A participant applies nothing that it does not know decided.
//! - *Abort*: what is not decided never is, once the master gives it up: when a participant breaks off, falls silent, or does not vote
//!   within [`PATIENCE_MICROS`]; and when the master itself was restarted, for it does not know who was promised what. Nothing is
//!   written for a single entry (*presumed abort*): the master begins a new *life*, whose first entry is empty and stands in the place of the
//!   first that is not decided. When that is synced, those who waited are told that nothing of their writes will ever appear.
//!   Participants cut what they had prepared where the new life's entries come in its place.
//! - *Lives* are the terms of the log. Each start of the master and each abort begins one, with a number that is synced before
//!   anything is said in it. An entry is known by (life, index): where these are equal, the logs are equal up to there. A vote names
//!   the life that it is for, and counts in no other.
//! - *While a participant is away* the master refuses writes at once, and stores nothing. A participant that comes back has all that is
//!   decided, for nothing was decided without it: all that it can lack is the tail, and the master sends that first of all.
//!
//! # Reads
//!
//! Every replica answers them, without asking another. What was acknowledged was prepared here before: so it is applied here, or it is
//! in the tail of the log. A read whose keys no entry of the tail touches ([`prepared`]) shows everything that was
//! acknowledged. Any other one waits until the last entry that touches them is applied, or cut. A read at a participant that was
//! restarted is blocked by the same entries as before.
//!
//! The master knows what is decided: of its own tail only that blocks a read, until the table has it.
//!
//! A replica that starts reads nothing before it has heard of the master, and the master nothing before it has heard of a participant. Its folder may be
//! an old copy, put back while the shard went on without it in another epoch: whoever was there when more was written knows it from the
//! true one, and lets it in no more.
//!
//! `bounded` reads go without what is in the tail, as long as it came within the bound; `local` reads do not ask, and say when
//! the oldest entry came that they may miss.
//!
//! # An example
//!
//! `n3` crashes while entries 5 and 6 are prepared:
//!
//! ```text
//!   n1 (master)   4@1 | 5@1 6@1          decided up to 4; n3 breaks off
//!                 4@1 | 5@2              life 2 begins: 5@1 and 6@1 are given up, their writers are told
//!   n2            4@1 | 5@1 6@1          their keys are blocked until 5@2 comes: then the tail is cut
//!                 4@1 | 5@2
//!   n3            4@1 | 5@1              starts again; its key of 5@1 is blocked until n1 is heard of
//!                 4@1 | 5@2              all three vote for 5@2: it is decided, and writes are taken again
//! ```
//!
//! # The end of an epoch
//!
//! The shard goes on with other members in the next epoch: its last entry is a seal ([`seal`]), which is prepared and decided like any
//! other. So an epoch ends when every replica has the same state, and not before. Within an epoch members become fewer only when people
//! declare one dead ([`members`]).
//!
//! # What holds
//!
//! 1. One decision per index: an entry that is decided is in the log of every replica, synced, and never replaced.
//! 2. What was acknowledged is decided; what was refused will never appear.
//! 3. A read misses nothing that was acknowledged before it was asked, at any replica.
//!
//! # Caveats
//!
//! No write is taken while any replica is down, cut off or frozen, the master above all: nobody takes its place unless people say so. A
//! master that goes leaves the tail prepared: keys that it touches are not read at participants until it is back, or declared dead; nor is
//! anything at a participant that starts meanwhile. Who is declared dead must be off: reads are under no lease.
//!
//! While its shard is being cut into others, from the seal until all parts have opened, nobody reads either: who goes down then is
//! waited for.
//!
//! A replica whose log lost what it had voted for cannot tell by itself, as with `single`. Where its table has more than its log it
//! does not start ([`Unfit`]); where the others show that it lacks something ([`Output::Lacking`]) it serves nothing more, and is not
//! made whole by them: restore its node's data folder.
//!
//! What has expired and what was written meanwhile is decided by the master's clock: a read at a participant that comes upon a key
//! with a deadline is the master's to answer.

mod describe;
pub mod fuzz;
mod master;
mod members;
mod message;
pub mod observe;
mod participant;
mod prepared;
mod reads;
mod seal;

use bytes::Bytes;
use kv::cluster::Role;
use kv::{Class, Error, Index, Level, NodeId, Position, Protocol, Term, Version};
use mutant::Mutant;

use self::master::Master;
use self::message::{Hello, Message};
use self::participant::Participant;
use self::prepared::Prepared;
use self::reads::Reads;
use self::seal::End;
use crate::journal::Journal;
use crate::record::{Header, Record, State};
use crate::recovery::Recovery;
use crate::{Duty, Input, Instant, Output, Replicate, Route, Status, Token, Unfit, View};

pub use self::describe::describe;

/// So long the master waits for a vote; then it gives up what is not decided. Longer than a node that is slow by a second needs, and
/// short enough that a client hears of it within its own patience.
pub const PATIENCE_MICROS: u64 = 3_000_000;
/// What a participant has not answered for so long is sent again. Connections lose nothing while they stand: this is for those
/// that break without a word.
const RESEND_MICROS: u64 = 1_000_000;

/// A replica of a shard.
pub struct TwoPhase {
    id: NodeId,
    view: View,
    /// The log names the members.
    is_view_logged: bool,
    /// It was called at least once.
    begun: bool,
    /// Since its start it has heard of the master, or as the master of a participant.
    has_met: bool,
    now: Instant,
    clock: Version,
    /// The master's life, as far as is known here.
    life: Term,
    journal: Journal,
    /// All entries up to here are decided, as far as is known here; at the master: and that is synced.
    decided: Index,
    prepared: Prepared,
    reads: Reads,
    part: Part,
    /// It lacks entries that it had voted for or decided, up to this one: it serves nothing.
    lacks: Option<Index>,
    end: Option<End>,
}

/// What a replica is in its epoch.
enum Part {
    Master(Box<Master>),
    Participant(Participant),
}

impl TwoPhase {
    /// The replica on node `id`, from its log and its table (the last entry that it has applied).
    pub fn new(id: NodeId, view: View, recovery: Recovery, applied: Position) -> Result<TwoPhase, Unfit> {
        let head = Header { protocol: Protocol::TwoPhase, epoch: view.epoch };
        let recovered = recovery.finish(Protocol::TwoPhase, view, applied)?;
        let too_short = (recovered.ended < applied.index).then_some(recovered.ended);
        if let Some(last) = recovered.lost.or(too_short) {
            return Err(Unfit::Lost { applied: applied.index, last });
        }
        recovered.replica_on(id)?;
        let view = recovered.view;
        let masters = view.members.iter().filter(|member| member.duty == Duty::Primary).count();
        if masters != 1 || view.member(id).is_none() {
            return Err(Unfit::NoMaster { masters });
        }
        let State { term, commit: decided, .. } = recovered.state;
        let life = if recovered.is_view_logged { term } else { members::first_life(term, &view) };
        let mut log = recovered.log;
        if mutant::is(Mutant::PreparedForgottenAtRestart) {
            log.truncate(decided.next());
        }
        let is_master = view.member(id).is_some_and(|member| member.duty == Duty::Primary);
        let others = view.members.iter().map(|member| member.node).filter(|other| *other != id);
        let part = match is_master {
            true => Part::Master(Box::new(Master::new(others, decided, members::kept(&log, life)))),
            false => Part::Participant(Participant::default()),
        };
        Ok(TwoPhase {
            id,
            is_view_logged: recovered.is_view_logged,
            begun: false,
            has_met: view.members.len() == 1,
            now: Instant::default(),
            clock: Version::ZERO,
            life,
            prepared: Prepared::recovered(applied.index, log.last()),
            journal: Journal::new(head, log, applied.index),
            decided,
            reads: Reads::default(),
            part,
            lacks: None,
            end: End::recovered(recovered.sealed, applied),
            view,
        })
    }

    /// The member that orders.
    fn master(&self) -> NodeId {
        let master = self.view.members.iter().find(|member| member.duty == Duty::Primary);
        master.expect("a two-phase shard has a master").node
    }

    fn is_master(&self) -> bool {
        matches!(self.part, Part::Master(_))
    }

    fn head(&self) -> Header {
        self.journal.head()
    }

    /// The record of the members, if the log does not name them yet.
    fn view_to_log(&mut self) -> Option<Bytes> {
        let is_logged = std::mem::replace(&mut self.is_view_logged, true);
        (!is_logged).then(|| Record::View(self.view.clone()).encode(self.head()))
    }

    /// The record that says what is decided, in which life.
    fn decision(&self, decided: Index) -> Bytes {
        let state = State { term: self.life, vote: kv::ReplicaId(0), commit: decided };
        Record::State(state).encode(self.head())
    }

    /// The members but this one.
    fn others(&self) -> Vec<NodeId> {
        self.view.members.iter().map(|member| member.node).filter(|other| *other != self.id).collect()
    }

    fn take_message(&mut self, from: NodeId, body: &Bytes, out: &mut Vec<Output>) {
        let message = Message::decode(body).ok().filter(|message| message.is_sound(self.view.epoch));
        match message {
            Some(Message::Prepare { life, before, decided, entries }) if from == self.master() => {
                self.meet(from);
                self.prepare(life, before, decided, entries, out);
            }
            Some(Message::Vote { life, synced, decided, lacks }) => {
                self.meet(from);
                self.take_vote(from, (life, synced, decided), lacks, out);
            }
            _ => {}
        }
    }

    /// It lacks what others show that it had.
    fn lack(&mut self, last: Index, out: &mut Vec<Output>) {
        if self.lacks.is_none() {
            out.push(Output::Lacking { last });
        }
        self.lacks = self.lacks.max(Some(last));
    }

    /// Hands what is decided to the table.
    fn give(&mut self, out: &mut Vec<Output>) {
        while let Some(entry) = self.journal.give(self.to_give()) {
            let at = entry.at();
            let tokens = match &mut self.part {
                Part::Master(master) => master.tokens_of(at.index),
                Part::Participant(_) => Vec::new(),
            };
            let next = entry.seal().expect("what is in a log was checked when it came");
            if let Some(next) = next {
                self.end_epoch(at, next, out);
            }
            let entry = if next.is_some() { Bytes::new() } else { entry.data };
            out.push(Output::Apply { at, entry, tokens, copies: self.copies() });
        }
    }

    /// Up to where entries may be applied. What stands behind the end of the epoch is nobody's.
    fn to_give(&self) -> Index {
        self.end.map_or(self.decided, |end| end.at.index.min(self.decided))
    }

    /// On how many nodes what is decided is synced.
    fn copies(&self) -> u32 {
        self.view.members.len() as u32
    }

    fn applied(&mut self, index: Index) {
        self.journal.is_applied(index, 0);
        self.prepared.applied(index);
        self.reads.applied(index);
    }

    /// What follows from an input.
    fn follow_up(&mut self, out: &mut Vec<Output>) {
        self.advance(out);
        self.give(out);
        self.send_prepares(out);
        self.send_vote(out);
        self.let_reads_go(out);
        self.say_sealed(out);
    }
}

impl Replicate for TwoPhase {
    fn step(&mut self, input: Input, out: &mut Vec<Output>) {
        if let Input::Tick { now, clock } = input {
            (self.now, self.clock) = (now, clock);
        }
        if !std::mem::replace(&mut self.begun, true) {
            self.begin(out);
        }
        match input {
            Input::Tick { .. } => self.look_at_the_clock(out),
            Input::View(view) => self.take_view(view, out),
            Input::Propose { ops } => self.propose(ops, out),
            Input::Read { token, scope, level } => self.read(token, scope, level, out),
            Input::Fetched { token } => self.fetched(token, out),
            Input::Forget { token } => {
                let _ = self.reads.forget(token) || self.forget_write(token);
            }
            Input::Message { from, body, .. } => self.take_message(from, &body, out),
            Input::Durable { ticket } => {
                self.journal.synced(ticket);
                self.take_synced(ticket, out);
            }
            Input::Applied { index } => self.applied(index),
            Input::Connected { node, hello } => {
                self.meet_at(node, &hello);
                self.connected(node, &hello, out);
            }
            Input::Disconnected { node } => self.away(node, false, out),
            Input::Silent { node } => self.away(node, true, out),
            Input::Seal { next, .. } => self.want_seal(next),
            Input::SnapshotReceived { .. } => out.push(Output::DiscardSnapshot),
            // Members change with the epoch, the master too; and whoever comes back needs no more than the log's tail.
            Input::Want { .. }
            | Input::Sync(_)
            | Input::Released
            | Input::Gather { .. }
            | Input::Looked { .. }
            | Input::Yield { .. }
            | Input::SnapshotMade { .. }
            | Input::SnapshotSent { .. } => (),
        }
        self.follow_up(out);
    }

    fn route(&self, class: Class, level: Level) -> Route {
        if self.lacks.is_some() {
            return Route::Nobody("a replica of it has lost what it had: restore its node's data folder");
        }
        if self.is_sealed() {
            return Route::Nobody("it is being handed over");
        }
        match class {
            Class::Read if self.may_read(level) => Route::Here,
            Class::Read => Route::Nobody("it has just started, and has not heard of its master yet"),
            _ if self.is_master() => Route::Here,
            _ => Route::To(self.master()),
        }
    }

    fn hello(&self, _: NodeId) -> Bytes {
        Hello { life: self.life, decided: self.decided }.encode()
    }

    fn is_response(&self, body: &[u8]) -> bool {
        message::is_response(body)
    }

    fn due(&self) -> Instant {
        match &self.part {
            _ if !self.begun => Instant::default(),
            Part::Master(master) if self.lacks.is_none() => master.due(self.decided, self.journal.last()),
            _ => Instant::MAX,
        }
    }

    fn view(&self) -> &View {
        &self.view
    }

    fn checkpoint(&self) -> Vec<Bytes> {
        let decided = match &self.part {
            Part::Master(master) => master.logged(),
            Part::Participant(_) => self.decided,
        };
        let base = Record::Base(self.journal.applied_at(), self.view.clone());
        let entries = self.journal.log().above(self.journal.applied()).cloned().map(Record::Entry);
        let records = std::iter::once(base).chain(entries).map(|record| record.encode(self.head()));
        let sealed = self.end.map(|end| Record::Sealed(end.at, end.next).encode(self.head()));
        records.chain([self.decision(decided)]).chain(sealed).collect()
    }

    fn status(&self) -> Status {
        let serves = !self.is_sealed() && self.lacks.is_none();
        Status {
            role: if self.is_master() && serves { Role::Leader } else { Role::Follower },
            leader: serves.then(|| self.master()),
            term: self.life,
            last: self.journal.last(),
            durable: self.journal.durable(),
            commit: self.decided,
            applied: self.journal.applied(),
            members: Vec::new(),
            wants_the_gone: false,
            lease_reads: 0,
            counts: Default::default(),
        }
    }
}

/// Another replica serves this, or will.
fn elsewhere(token: Token) -> Output {
    Output::Refuse { token, error: Error::WrongNode { try_next: None } }
}

/// Why a replica serves nothing.
fn has_lost() -> Error {
    Error::Unavailable(
        "a replica of this shard has lost what it had acknowledged: restore its node's data folder, its journal tells more".into(),
    )
}
