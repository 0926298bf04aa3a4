//! The raft crate behind plain data: nothing outside this folder names its types.
//!
//! A call changes the core; [`Core::work`] then tells, step by step, what is to be written, sent and applied because of it.
//! What the crate leaves to its users or gets wrong is set right here, where it shows in its types: our own election jitter
//! instead of its thread-local one, late rejections, commits beyond a log that was cut.

mod members;
mod present;
mod store;
mod wire;

use std::cell::RefCell;
use std::collections::VecDeque;

use ::raft::eraftpb::{Entry, HardState, Message as Wire, MessageType};
use ::raft::{ProgressState, RawNode, ReadOnlyOption, SnapshotStatus, StateRole};
use bytes::Bytes;
use kv::cluster::Role;
use kv::{Index, Position, Protocol, ReplicaId, Term};
use mutant::Mutant;

use self::store::Store;
use super::Config;
use super::message::{Kind, Message};
use crate::View;
use crate::entries::{LogEntry, MEMBERS, NUMBER_MAX};
use crate::random::Random;
use crate::record::{self, Header, Record, State};
use crate::recovery::Recovered;

/// A message holds at most so many bytes of entries, unless a single one is larger.
const MESSAGE_BYTES_MAX: u64 = 1 << 20;
/// So many messages with entries are on their way to a follower at most.
const INFLIGHT_MAX: usize = 256;
/// While so many bytes are not agreed on, a leader appends no more.
const UNCOMMITTED_BYTES_MAX: usize = 64 << 20;
/// So many rounds of reads wait for their majority at most; a leader steps down after a few that do not get it.
const ROUNDS_MAX: usize = 4096;

/// The state machine of the raft crate.
pub(super) struct Core {
    raw: RawNode<Store>,
    head: Header,
    /// The members that the replica began with, and its number, are to be written with the next record.
    is_begun_unwritten: bool,
    /// The last step that changed term or vote, until it is synced.
    vote_unsynced: Option<u64>,
    /// The highest number that a member was seen to have.
    highest: ReplicaId,
    random: Random,
    election_ticks: usize,
    /// The election timeout that counts, for the term and role it was drawn for.
    timeout_ticks: usize,
    drawn_for: (u64, StateRole),
    /// What the log says of the state.
    written: State,
    /// How many rounds of reads were begun as the leader.
    issues: u64,
}

/// One step of what is to be done. What it commits may be applied, what it sends early may leave at once.
pub(super) struct Work {
    /// Its number, for [`Core::persisted`].
    pub(super) step: u64,
    /// To be written and synced; often nothing.
    pub(super) records: Vec<Bytes>,
    /// The log was replaced by this snapshot.
    pub(super) snapshot: Option<Position>,
    /// Leaves at once.
    pub(super) early: Vec<Message>,
    /// Leaves when the records are synced.
    pub(super) late: Vec<Message>,
    /// To be applied.
    pub(super) committed: Vec<LogEntry>,
    /// Rounds of reads that are confirmed, with their index.
    pub(super) rounds: Vec<(Bytes, Index)>,
}

/// What a leader knows of a follower.
pub(super) struct Progress {
    /// The last index that it acknowledged.
    pub(super) matched: Index,
    /// All entries up to here are agreed on, as it said last.
    pub(super) commit: Index,
    /// The index that is sent next.
    pub(super) next: Index,
    /// Where the logs meet is yet to be found.
    pub(super) probes: bool,
    /// Nothing more is sent until it says something.
    pub(super) waits: bool,
    /// A snapshot is on its way.
    pub(super) snapshot: bool,
}

impl Core {
    /// Of the replica of this number with this log.
    pub(super) fn new(config: &Config, replica: ReplicaId, recovered: Recovered, applied: Index) -> Core {
        let raft = ::raft::Config {
            id: wire::id(replica),
            election_tick: config.election_ticks,
            heartbeat_tick: config.heartbeat_ticks,
            applied: applied.0,
            max_size_per_msg: MESSAGE_BYTES_MAX,
            max_inflight_msgs: INFLIGHT_MAX,
            max_uncommitted_size: UNCOMMITTED_BYTES_MAX as u64,
            check_quorum: true,
            pre_vote: true,
            read_only_option: match mutant::is(Mutant::ReadIndexWithoutQuorum) {
                true => ReadOnlyOption::LeaseBased,
                false => ReadOnlyOption::Safe,
            },
            ..::raft::Config::default()
        };
        let written = recovered.state;
        let head = Header { protocol: Protocol::Raft, epoch: recovered.view.epoch };
        let is_begun_unwritten = !recovered.is_view_logged || recovered.replica.is_none();
        let highest = highest(&recovered.view).max(replica);
        let store = Store {
            log: recovered.log,
            state: written,
            views: VecDeque::from([recovered.view]),
            snapshots: RefCell::default(),
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let mut raw = RawNode::new(&raft, store, &logger).expect("the recovered state fits its log");
        // Followers learn of a commit with the next entries or heartbeat: a message of its own for each would double the
        // traffic of small writes, and nobody waits for it.
        raw.skip_bcast_commit(true);
        let mut random = Random::new(config.seed ^ config.id.0);
        let timeout_ticks = config.election_ticks + random.below(config.election_ticks as u64) as usize;
        let drawn_for = (raw.raft.term, raw.raft.state);
        let mut core = Core {
            raw,
            head,
            is_begun_unwritten,
            vote_unsynced: None,
            highest,
            random,
            election_ticks: config.election_ticks,
            timeout_ticks,
            drawn_for,
            written,
            issues: 0,
        };
        core.keep_timeout();
        core
    }

    /// A tick is over. Without `may_campaign` it does not end in a campaign.
    pub(super) fn tick(&mut self, may_campaign: bool) {
        let raft = &self.raw.raft;
        let campaigns = raft.state != StateRole::Leader && raft.election_elapsed + 1 >= self.timeout_ticks;
        if may_campaign || !campaigns {
            self.raw.tick();
            self.keep_timeout();
        }
    }

    /// Asks to be elected, now.
    pub(super) fn campaign(&mut self) {
        let _ = self.raw.campaign();
        self.keep_timeout();
    }

    /// Takes a sound message.
    pub(super) fn step(&mut self, message: Message) {
        let from = wire::id(message.from);
        if self.is_late_rejection(&message) || !self.is_for_this_role(message.kind) {
            return;
        }
        let message = self.with_issue(message);
        // An error means that the message came at the wrong time: it is as good as lost.
        let _ = self.raw.step(wire::from_plain(message, self.last()));
        if let Some(progress) = self.raw.raft.mut_prs().get_mut(from) {
            progress.next_idx = progress.next_idx.max(progress.matched + 1);
        }
        if mutant::is(Mutant::EarlierTermCommittedByCounting) && self.role() == Role::Leader {
            let counted = self.raw.raft.mut_prs().maximal_committed_index().0;
            self.raw.raft.raft_log.commit_to(counted);
        }
        self.keep_timeout();
    }

    /// Takes a received snapshot, which has members, in place of the log. Whether it was needed.
    pub(super) fn restore(&mut self, message: Message) -> bool {
        let view = message.view.clone();
        let _ = self.raw.step(wire::from_plain(message, self.last()));
        self.keep_timeout();
        let taken = self.raw.snap().is_some();
        if let Some(view) = view.filter(|_| taken) {
            self.highest = self.highest.max(highest(&view));
            self.raw.mut_store().views = VecDeque::from([view]);
        }
        taken
    }

    /// Appends an entry as the leader: where it stands.
    pub(super) fn propose(&mut self, data: Bytes) -> Option<Position> {
        let mut message =
            Wire { msg_type: MessageType::MsgPropose, from: self.raw.raft.id, ..Wire::default() };
        message.set_entries(vec![Entry { data, ..Entry::default() }].into());
        self.raw.raft.step(message).ok()?;
        assert!(
            self.last().0 <= NUMBER_MAX && self.role() == Role::Leader,
            "a leader appends where it can count on"
        );
        Some(Position { index: self.last(), term: self.term() })
    }

    /// Asks for a round of reads under this name.
    pub(super) fn read_index(&mut self, round: &Bytes) {
        let round = if self.role() == Role::Leader { self.issue(round) } else { round.clone() };
        self.raw.read_index(round.into());
    }

    /// The next step of what is to be done.
    pub(super) fn work(&mut self) -> Option<Work> {
        if !self.raw.has_ready() {
            return None;
        }
        let mut ready = self.raw.ready();
        let (mut records, head) = (Vec::new(), self.head);
        let Store { log, views, .. } = self.raw.mut_store();
        let snapshot = (!ready.snapshot().is_empty()).then(|| wire::position(ready.snapshot()));
        if let Some(at) = snapshot {
            assert!(at.index > log.base().index, "a snapshot is ahead of the log that it replaces");
            log.restart(at);
            let view = views.back().expect("a snapshot comes with members").clone();
            records.push(Record::Snapshot(at, view).encode(head));
        }
        let mut changes_members = false;
        for entry in ready.take_entries() {
            let (record, entry) = record::own(head, wire::plain_entry(entry));
            changes_members |= entry.kind == MEMBERS;
            log.put(entry);
            records.push(record);
        }
        // Whoever has a change of members knows that the one before is agreed on; it must know that after a restart too, or it
        // would ask to be elected by the members of long ago.
        let now = changes_members.then(|| self.raw.raft.hard_state());
        let state = ready.hs().or(now.as_ref());
        let changes_vote = state.is_some_and(|state| self.write_state(state, &mut records));
        if !records.is_empty() && std::mem::take(&mut self.is_begun_unwritten) {
            let begun = [Record::View(self.view().clone()), Record::Replica(self.id())];
            records.extend(begun.map(|record| record.encode(head)));
        }
        let step = ready.number();
        if changes_vote {
            self.vote_unsynced = Some(step);
        }
        let mut early = wire::plain_messages(ready.take_messages());
        let mut late = wire::plain_messages(ready.take_persisted_messages());
        if mutant::is(Mutant::VoteBeforeSync) {
            early.append(&mut late);
        } else if changes_vote
            || self.vote_unsynced.is_some() && !mutant::is(Mutant::LoneLeaderSpeaksUnsynced)
        {
            // Who elects itself alone leads at once. What it says in a term that it may forget would be said twice, and differ. A
            // heartbeat is not kept for later: the next one says the same.
            early.retain(|message| message.kind != Kind::Heartbeat || !message.round.is_empty());
            late.append(&mut early);
        }
        let committed = wire::plain_entries(ready.take_committed_entries());
        let rounds =
            ready.take_read_states().into_iter().map(|round| (round.request_ctx.into(), Index(round.index)));
        let rounds = rounds.collect();
        self.raw.advance_append_async(ready);
        Some(Work { step, records, snapshot, early, late, committed, rounds })
    }

    /// The records of all steps up to this one are synced.
    pub(super) fn persisted(&mut self, step: u64) {
        self.vote_unsynced = self.vote_unsynced.filter(|changed| *changed > step);
        self.raw.on_persist_ready(step);
    }

    /// All entries up to this index are applied.
    pub(super) fn applied(&mut self, index: Index, cache_bytes: usize) {
        let raft = &self.raw.raft.raft_log;
        if index.0 > raft.applied() {
            assert!(
                index.0 <= raft.committed.min(raft.persisted),
                "entry {index} was applied before it was given"
            );
            self.raw.advance_apply_to(index.0);
        }
        let store = self.raw.mut_store();
        store.log.applied(index);
        store.log.evict(cache_bytes);
        store.evict_views();
    }

    /// What was sent to a replica lately may be lost.
    pub(super) fn unreachable(&mut self, replica: ReplicaId) {
        self.raw.report_unreachable(wire::id(replica));
    }

    /// A replica is there (again), with a log up to `last`: sends on from what it has.
    pub(super) fn connected(&mut self, replica: ReplicaId, last: Index) {
        let (to, last) = (wire::id(replica), last.0);
        if self.role() != Role::Leader || to == self.raw.raft.id {
            return;
        }
        let Some(progress) = self.raw.raft.mut_prs().get_mut(to) else { return };
        if progress.matched > last {
            progress.snapshot_failure();
            progress.become_probe();
            progress.matched = last;
        }
        match progress.state {
            ProgressState::Replicate => progress.become_probe(),
            ProgressState::Probe => {
                progress.resume();
                progress.next_idx = progress.next_idx.min(last + 1).max(progress.matched + 1);
            }
            ProgressState::Snapshot => return,
        }
        self.raw.raft.send_append(to);
    }

    /// Hands the leadership to a follower that keeps up.
    pub(super) fn transfer(&mut self, to: ReplicaId) {
        let will_count = self.view().replica(to).is_some_and(|member| member.duty.will_count());
        let (to, last) = (wire::id(to), self.last().0);
        // After a new connection the crate keeps probing a follower until there is another entry for it.
        let keeps_up = self.raw.raft.prs().get(to).is_some_and(|progress| {
            let has_all = progress.state == ProgressState::Probe && progress.matched == last;
            progress.recent_active && (progress.state == ProgressState::Replicate || has_all)
        });
        if self.role() == Role::Leader && keeps_up && will_count {
            self.raw.transfer_leader(to);
        }
    }

    /// A replica for which a snapshot is to be made, now that the table has applied what is up to here.
    pub(super) fn next_snapshot(&mut self, applied: Index) -> Option<ReplicaId> {
        self.raw.store().snapshots.borrow_mut().next_wanted(applied)
    }

    /// A snapshot is made, or could not be.
    pub(super) fn snapshot_made(&mut self, to: ReplicaId, at: Option<Position>) {
        self.raw.store().snapshots.borrow_mut().made(to, at);
        let to = wire::id(to);
        if self.role() == Role::Leader && at.is_some() && self.raw.raft.prs().get(to).is_some() {
            self.raw.raft.send_append(to);
        }
    }

    /// A snapshot has arrived, or has not.
    pub(super) fn snapshot_sent(&mut self, to: ReplicaId, arrived: bool) {
        let status = if arrived { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.raw.report_snapshot(wire::id(to), status);
    }

    /// It slept: the time until it asks to be elected, or finds that nobody follows it, begins anew.
    pub(super) fn wake(&mut self) {
        self.raw.raft.election_elapsed = 0;
    }

    /// Draws an election timeout when the term or the role changed; the crate's own never counts.
    fn keep_timeout(&mut self) {
        let now = (self.raw.raft.term, self.raw.raft.state);
        if now != self.drawn_for {
            self.drawn_for = now;
            self.timeout_ticks = self.election_ticks + self.random.below(self.election_ticks as u64) as usize;
        }
        self.raw.raft.set_randomized_election_timeout(self.timeout_ticks);
    }

    /// The crate would let a rejection of a message long answered take a follower back behind what it acknowledged.
    fn is_late_rejection(&self, message: &Message) -> bool {
        message.kind == Kind::AppendResponse
            && message.reject
            && self.raw.raft.prs().get(wire::id(message.from)).is_some_and(|progress| {
                progress.state != ProgressState::Replicate && message.at.index.0 <= progress.matched
            })
    }

    /// Questions about reads are for the leader, votes for who has asked, which is after its sync; snapshots come with their
    /// rows.
    fn is_for_this_role(&self, kind: Kind) -> bool {
        match kind {
            Kind::ReadIndex => self.role() == Role::Leader && self.raw.raft.pending_read_count() < ROUNDS_MAX,
            Kind::VoteResponse => self.last() == self.durable(),
            Kind::Snapshot => false,
            _ => true,
        }
    }

    fn with_issue(&mut self, message: Message) -> Message {
        match message.kind {
            Kind::ReadIndex => Message { round: self.issue(&message.round), ..message },
            _ => message,
        }
    }

    /// A round as a leader asks its followers to confirm it: its name, and which issue this is. A round that is asked for again
    /// may have been confirmed before. Confirmations of then, late, must not count for now: they would prove all rounds that
    /// began in between.
    fn issue(&mut self, round: &Bytes) -> Bytes {
        self.issues += u64::from(!mutant::is(Mutant::RoundIssuesMixedUp));
        [&round[..], &self.issues.to_be_bytes()].concat().into()
    }

    /// The record that says how far entries are agreed on, when all else of the state is written.
    pub(super) fn commit_record(&mut self) -> Bytes {
        self.written.commit = self.commit();
        Record::State(self.written).encode(self.head)
    }

    /// Writes the state when the term or the vote changed, or when something is written anyway. Whether they changed.
    fn write_state(&mut self, state: &HardState, records: &mut Vec<Bytes>) -> bool {
        let state =
            State { term: Term(state.term), vote: wire::replica(state.vote), commit: Index(state.commit) };
        assert!(
            state.term > self.written.term
                || state.term == self.written.term
                    && (self.written.vote == ReplicaId(0) || state.vote == self.written.vote),
            "a replica votes once in a term: {:?}, then {state:?}",
            self.written
        );
        let changes_vote = (state.term, state.vote) != (self.written.term, self.written.vote);
        if changes_vote || !records.is_empty() {
            self.written = state;
            records.push(Record::State(state).encode(self.head));
        }
        changes_vote
    }
}

fn highest(view: &View) -> ReplicaId {
    view.members.iter().map(|member| member.replica).max().expect("a shard has a member")
}
