//! The raft crate behind plain data: nothing outside this folder names its types.
//!
//! A call changes the core; [`Core::work`] then tells, step by step, what is to be written, sent and applied because of it.
//! What the crate leaves to its users or gets wrong is set right here, where it shows in its types: our own election jitter
//! instead of its thread-local one, late rejections, commits beyond a log that was cut.

mod store;
mod wire;

use std::cell::RefCell;

use ::raft::eraftpb::{Entry, HardState, Message as Wire, MessageType};
use ::raft::{ProgressState, RawNode, ReadOnlyOption, SnapshotStatus, StateRole};
use bytes::Bytes;
use kv::cluster::Role;
use mutant::Mutant;

use self::store::Store;
use super::Config;
use super::message::{Kind, Message};
use crate::entries::{Entries, LogEntry, Position};
use crate::random::Random;
use crate::record::{self, Record, State};
use crate::recovery::Recovered;
use crate::{UNAPPLIED_BYTES_MAX, UNSYNCED_MAX};

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
    pub(super) rounds: Vec<(Bytes, u64)>,
}

/// What a leader knows of a follower.
pub(super) struct Progress {
    /// The last index that it acknowledged.
    pub(super) matched: u64,
    /// The index that is sent next.
    pub(super) next: u64,
    /// Where the logs meet is yet to be found.
    pub(super) probes: bool,
    /// Nothing more is sent until it says something.
    pub(super) waits: bool,
    /// A snapshot is on its way.
    pub(super) snapshot: bool,
}

impl Core {
    /// Of a replica with this log.
    pub(super) fn new(config: &Config, recovered: Recovered, applied: u64) -> Core {
        let raft = ::raft::Config {
            id: config.id.0.into(),
            election_tick: config.election_ticks,
            heartbeat_tick: config.heartbeat_ticks,
            applied,
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
        let voters = config.members.iter().map(|member| member.0.into()).collect();
        let store = Store { log: recovered.log, state: written, voters, snapshots: RefCell::default() };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let mut raw = RawNode::new(&raft, store, &logger).expect("the recovered state fits its log");
        // Followers learn of a commit with the next entries or heartbeat: a message of its own for each would double the
        // traffic of small writes, and nobody waits for it.
        raw.skip_bcast_commit(true);
        let mut random = Random::new(config.seed ^ u64::from(config.id.0));
        let timeout_ticks = config.election_ticks + random.below(config.election_ticks as u64) as usize;
        let drawn_for = (raw.raft.term, raw.raft.state);
        let mut core = Core {
            raw,
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
        let from = message.from;
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

    /// Takes a received snapshot in place of the log, with the voters as they are. Whether it was needed.
    pub(super) fn restore(&mut self, message: Message) -> bool {
        let mut wire = wire::from_plain(message, self.last());
        wire.mut_snapshot().mut_metadata().set_conf_state(self.raw.store().conf_state());
        let _ = self.raw.step(wire);
        self.keep_timeout();
        self.raw.snap().is_some()
    }

    /// Appends an entry as the leader: where it stands.
    pub(super) fn propose(&mut self, data: Bytes) -> Option<Position> {
        let mut message =
            Wire { msg_type: MessageType::MsgPropose, from: self.raw.raft.id, ..Wire::default() };
        message.set_entries(vec![Entry { data, ..Entry::default() }].into());
        self.raw.raft.step(message).ok()?;
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
        let mut records = Vec::new();
        let log = &mut self.raw.mut_store().log;
        let snapshot = (!ready.snapshot().is_empty()).then(|| wire::position(ready.snapshot()));
        if let Some(at) = snapshot {
            log.restart(at);
            records.push(Record::Snapshot(at).encode());
        }
        for entry in ready.take_entries() {
            let (record, entry) = record::own(wire::plain_entry(entry));
            log.put(entry);
            records.push(record);
        }
        let changes_vote = ready.hs().is_some_and(|state| self.write_state(state, &mut records));
        let mut early = wire::plain_messages(ready.take_messages());
        let mut late = wire::plain_messages(ready.take_persisted_messages());
        if mutant::is(Mutant::VoteBeforeSync) {
            early.append(&mut late);
        } else if changes_vote {
            late.append(&mut early);
        }
        let committed = ready.take_committed_entries().into_iter().map(wire::plain_entry).collect();
        let rounds =
            ready.take_read_states().into_iter().map(|round| (round.request_ctx.into(), round.index));
        let rounds = rounds.collect();
        let step = ready.number();
        self.raw.advance_append_async(ready);
        Some(Work { step, records, snapshot, early, late, committed, rounds })
    }

    /// The records of all steps up to this one are synced.
    pub(super) fn persisted(&mut self, step: u64) {
        self.raw.on_persist_ready(step);
    }

    /// All entries up to this index are applied.
    pub(super) fn applied(&mut self, index: u64, cache_bytes: usize) {
        let raft = &self.raw.raft.raft_log;
        if index > raft.applied() {
            assert!(
                index <= raft.committed.min(raft.persisted),
                "entry {index} was applied before it was given"
            );
            self.raw.advance_apply_to(index);
        }
        let log = &mut self.raw.mut_store().log;
        log.applied(index);
        log.evict(cache_bytes);
    }

    /// What was sent to a node lately may be lost.
    pub(super) fn unreachable(&mut self, node: u64) {
        self.raw.report_unreachable(node);
    }

    /// A node is there (again), with a log up to `last`: sends on from what it has.
    pub(super) fn connected(&mut self, node: u64, last: u64) {
        if self.role() != Role::Leader || node == self.raw.raft.id {
            return;
        }
        let Some(progress) = self.raw.raft.mut_prs().get_mut(node) else { return };
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
        self.raw.raft.send_append(node);
    }

    /// Hands the leadership to a follower that keeps up.
    pub(super) fn transfer(&mut self, to: u64) {
        let last = self.last();
        // After a new connection the crate keeps probing a follower until there is another entry for it.
        let keeps_up = self.raw.raft.prs().get(to).is_some_and(|progress| {
            let has_all = progress.state == ProgressState::Probe && progress.matched == last;
            progress.recent_active && (progress.state == ProgressState::Replicate || has_all)
        });
        if self.role() == Role::Leader && keeps_up {
            self.raw.transfer_leader(to);
        }
    }

    /// A node for which a snapshot is to be made.
    pub(super) fn next_snapshot(&mut self) -> Option<u64> {
        self.raw.store().snapshots.borrow_mut().next_wanted()
    }

    /// A snapshot is made, or could not be.
    pub(super) fn snapshot_made(&mut self, to: u64, at: Option<Position>) {
        self.raw.store().snapshots.borrow_mut().made(to, at);
        if self.role() == Role::Leader && at.is_some() && self.raw.raft.prs().get(to).is_some() {
            self.raw.raft.send_append(to);
        }
    }

    /// A snapshot has arrived, or has not.
    pub(super) fn snapshot_sent(&mut self, to: u64, arrived: bool) {
        let status = if arrived { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.raw.report_snapshot(to, status);
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
            && self.raw.raft.prs().get(message.from).is_some_and(|progress| {
                progress.state != ProgressState::Replicate && message.at.index <= progress.matched
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

    /// Writes the state when the term or the vote changed, or when something is written anyway. Whether they changed.
    fn write_state(&mut self, state: &HardState, records: &mut Vec<Bytes>) -> bool {
        let state = State { term: state.term, vote: state.vote, commit: state.commit };
        let changes_vote = (state.term, state.vote) != (self.written.term, self.written.vote);
        if changes_vote || !records.is_empty() {
            self.written = state;
            records.push(Record::State(state).encode());
        }
        changes_vote
    }
}

/// What it is at present.
impl Core {
    pub(super) fn role(&self) -> Role {
        match self.raw.raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Follower => Role::Follower,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
        }
    }

    /// 0 = nobody known.
    pub(super) fn leader(&self) -> u64 {
        self.raw.raft.leader_id
    }

    pub(super) fn term(&self) -> u64 {
        self.raw.raft.term
    }

    pub(super) fn last(&self) -> u64 {
        self.raw.raft.raft_log.last_index()
    }

    pub(super) fn durable(&self) -> u64 {
        self.raw.raft.raft_log.persisted
    }

    pub(super) fn commit(&self) -> u64 {
        self.raw.raft.raft_log.committed
    }

    pub(super) fn state(&self) -> State {
        let raft = &self.raw.raft;
        State { term: raft.term, vote: raft.vote, commit: self.commit() }
    }

    pub(super) fn log(&self) -> &Entries {
        &self.raw.store().log
    }

    /// As a leader: the last index that a node has acknowledged.
    pub(super) fn acknowledged(&self, node: u64) -> Option<u64> {
        let progress = self.raw.raft.prs().get(node)?;
        (self.role() == Role::Leader).then_some(progress.matched)
    }

    /// As a leader: how far a node is.
    pub(super) fn progress(&self, node: u64) -> Option<Progress> {
        let progress = self.raw.raft.prs().get(node)?;
        Some(Progress {
            matched: progress.matched,
            next: progress.next_idx,
            probes: progress.state == ProgressState::Probe,
            waits: progress.is_paused() && progress.state != ProgressState::Snapshot,
            snapshot: progress.state == ProgressState::Snapshot,
        })
    }

    /// As a leader: who is to lead in its place.
    pub(super) fn transferee(&self) -> Option<u64> {
        self.raw.raft.lead_transferee
    }

    /// On how many nodes a committed entry is synced, as far as is known.
    pub(super) fn copies(&self, index: u64) -> u32 {
        let progress = self.raw.raft.prs();
        let majority = self.raw.store().voters.len() / 2 + 1;
        let known = match self.role() {
            Role::Leader => progress.iter().filter(|(_, progress)| progress.matched >= index).count(),
            _ => 0,
        };
        known.max(majority) as u32
    }

    /// Whether it leads and has committed an entry of its term.
    pub(super) fn has_committed(&self) -> bool {
        self.role() == Role::Leader && self.raw.raft.commit_to_current_term()
    }

    /// Whether it may append an entry now.
    pub(super) fn may_propose(&self) -> bool {
        let raft = &self.raw.raft;
        self.role() == Role::Leader
            && raft.lead_transferee.is_none()
            && self.last() - self.durable() < UNSYNCED_MAX as u64
            && raft.uncommitted_size() < UNCOMMITTED_BYTES_MAX / 2
            && self.log().unapplied_bytes() < UNAPPLIED_BYTES_MAX
    }
}
