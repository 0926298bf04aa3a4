//! What a member does that does not order: it takes what the primary has, says what of it is synced, and waits for more.

use bytes::{Bytes, BytesMut};
use kv::codec::{Malformed, Reader, put_uint};
use kv::{Index, NodeId, Position, ReplicaId};
use mutant::Mutant;

use super::message::{Kind, Message};
use super::replica::Primary;
use crate::entries::{LogEntry, NUMBER_MAX};
use crate::follow::{Taken, take};
use crate::lease::Asked;
use crate::record::{self, Record};
use crate::{Instant, Output, UNAPPLIED_BYTES_MAX};

/// A lease is asked for so often in a beat, at most: reads that wait for it are late by a part of one.
const QUESTIONS_A_BEAT: u64 = 4;

impl Primary {
    /// The primary says something.
    pub(super) fn of_primary(&mut self, message: Message, out: &mut Vec<Output>) {
        let is_of_it = self.primary().is_some_and(|primary| primary.replica == message.from);
        if !is_of_it || self.is_lossy || self.is_astray() {
            return;
        }
        self.heard = self.now;
        match message.kind {
            Kind::Append => self.follow(message, out),
            Kind::Sleep => self.told_to_sleep(&message),
            _ => (),
        }
    }

    fn follow(&mut self, message: Message, out: &mut Vec<Output>) {
        if message.beat.is_some() {
            self.promised.give(message.from, self.now);
        }
        let Message { at, commit, beat, entries, .. } = message;
        let is_full = self.log.unapplied_bytes() > 2 * UNAPPLIED_BYTES_MAX || self.installing.is_some();
        let entries = if is_full { Vec::new() } else { entries };
        match take(&self.log, self.commit, at, entries) {
            Taken::Unmatched(hint) => {
                let refusal = Message { hint, beat, ..self.message(Kind::Reject, message.from, at) };
                self.send(&refusal, out);
            }
            Taken::New { entries, matched } => {
                let is_new = !entries.is_empty();
                self.take_entries(entries, out);
                self.verified = self.verified.max(matched);
                self.commit = self.commit.max(commit.min(self.verified));
                if let (Some(asked), Some(life)) = (message.lease, self.life)
                    && self.takes_answer(asked, life)
                {
                    self.told = self.told.max(Some((asked.at, commit)));
                }
                let is_unsynced = is_new && !mutant::is(Mutant::FollowerAcknowledgesUnsynced);
                if beat.is_some() || !is_unsynced {
                    self.acknowledge(beat, out);
                }
            }
        }
    }

    /// Puts entries into the log; what was in their places and behind goes.
    fn take_entries(&mut self, entries: Vec<LogEntry>, out: &mut Vec<Output>) {
        let Some(first) = entries.first().map(|first| first.index) else { return };
        assert!(first > self.commit, "entry {first} is agreed on, and is not replaced: {}", self.commit);
        if first <= self.log.last() {
            self.syncs.truncate(Index(first.0 - 1));
        }
        let mut records = Vec::with_capacity(entries.len());
        for entry in entries {
            let (record, entry) = record::own(self.head(), entry);
            records.push(record);
            self.log.put(entry);
        }
        let ticket = self.syncs.issue(self.log.last());
        out.push(Output::Append { ticket, records, install: false });
    }

    /// Says to the primary what of its log is synced here.
    pub(super) fn acknowledge(&mut self, beat: Option<Asked>, out: &mut Vec<Output>) {
        let Some(to) = self.primary().map(|primary| primary.replica).filter(|to| *to != self.replica) else {
            return;
        };
        if self.is_lossy || self.is_astray() || self.heard == Instant::default() {
            return;
        }
        let unsynced = mutant::is(Mutant::FollowerAcknowledgesUnsynced);
        let durable = if unsynced { self.log.last() } else { self.syncs.durable() };
        let index = self.verified.min(durable);
        let term = self.log.term(index).unwrap_or_default();
        let lease = self.lease_question(beat.is_some());
        let message = self.message(Kind::Ack, to, Position { index, term });
        self.send(&Message { beat, lease, ..message }, out);
    }

    /// The question for a lease, if reads want one, half of the present one is over, and none was asked just now: each answer is
    /// acknowledged, and would bring the next question as fast as the network goes. With a beat it is asked all the same, for a primary that
    /// has just woken answers no question before.
    fn lease_question(&mut self, is_beat: bool) -> Option<Asked> {
        let pause = self.config.beat_micros / QUESTIONS_A_BEAT;
        let has_asked = !is_beat && self.lease.was_asked_within(pause, self.now);
        let half = self.config.lease_micros / 2;
        let is_young = self.lease.from().is_some_and(|from| self.now.since(from) < half);
        let wants = self.wants_lease || self.reads.waits_since().is_some();
        if !wants || is_young || has_asked || !self.is_in_sync() && !self.is_for_few() {
            return None;
        }
        self.wants_lease = false;
        self.called = self.now;
        self.lease.ask(self.now);
        self.asks()
    }

    /// Calls the primary, when reads wait for its word or nothing was heard of it.
    pub(super) fn wait_for_primary(&mut self, out: &mut Vec<Output>) {
        let to = self.primary().map(|primary| primary.replica).filter(|to| *to != self.replica);
        let (Some(to), true) = (to, !self.sleep.asleep) else { return };
        let is_silent = self.is_in_sync() && self.now.since(self.heard) >= self.config.lease_micros / 2;
        let may_ask = self.is_in_sync() || self.is_for_few();
        let is_wanted = may_ask && self.reads.waits_since().is_some() && !self.moment().is_leased;
        let lately = if is_wanted { self.config.beat_micros / 2 } else { self.config.beat_micros };
        let has_called = self.called > Instant::default() && self.now.since(self.called) < lately;
        if (is_silent || is_wanted) && !has_called {
            self.called = self.now;
            let lease = self.asks().filter(|_| is_wanted);
            if is_wanted {
                self.lease.ask(self.now);
            }
            let message = self.message(Kind::Call, to, Position::ZERO);
            self.send(&Message { lease, ..message }, out);
        }
    }

    /// Notes what is known of how fresh its table is.
    pub(super) fn note_fresh(&mut self) {
        let applied = self.applied.index;
        let fresh = match &self.order {
            Some(order) => (self.is_leased(order) && self.commit <= applied).then_some(self.now),
            None => self.told.filter(|(_, index)| *index <= applied).map(|(at, _)| at),
        };
        self.fresh = self.fresh.max(fresh);
    }

    /// A snapshot is here. It is taken when it is ahead, and of the primary of now.
    pub(super) fn snapshot_received(&mut self, header: &Bytes, out: &mut Vec<Output>) {
        let message = Message::decode(header).ok();
        let message = message.filter(|message| {
            message.kind == Kind::Snapshot && message.to == self.replica && message.is_sound(self.view.epoch)
        });
        if let Some(view) = message.as_ref().and_then(|message| message.view.clone()) {
            self.take_view(view, out);
        }
        let is_of_primary = |message: &Message| {
            let primary = self.primary().map(|primary| primary.replica);
            message.term == self.term() && primary == Some(message.from)
        };
        let is_ahead = |message: &Message| message.at.index > self.given && message.at.index > self.commit;
        let taken = message.filter(is_of_primary).filter(is_ahead);
        match taken.filter(|_| self.installing.is_none() && !self.is_lossy && !self.is_astray()) {
            // What stands behind it here may count as a copy already.
            Some(Message { at, .. }) if self.log.term(at.index) == Some(at.term) => {
                self.commit = self.commit.max(at.index);
                self.verified = self.verified.max(at.index);
                out.push(Output::DiscardSnapshot);
            }
            Some(message) => self.install(&message, out),
            None => out.push(Output::DiscardSnapshot),
        }
    }

    fn install(&mut self, message: &Message, out: &mut Vec<Output>) {
        let at = message.at;
        self.heard = self.now;
        self.proposals.covered(at);
        self.log.restart(at);
        self.syncs.restart();
        (self.given, self.commit, self.verified) = (at.index, at.index, at.index);
        self.applying.clear();
        let mut records = vec![
            Record::Snapshot(at, self.view.clone()).encode(self.head()),
            Record::Replica(self.replica).encode(self.head()),
        ];
        let ticket = self.syncs.issue(at.index);
        self.known.learn(ticket, self.view.clone());
        records.extend(self.take_end(at, message.seal, ticket));
        self.installing = Some((ticket, at));
        out.push(Output::Append { ticket, records, install: true });
    }

    /// The connection to a node stands.
    pub(super) fn connected(&mut self, node: NodeId, hello: &Bytes, out: &mut Vec<Output>) {
        self.note_connected(node);
        let Ok((replica, durable)) = hello_of(hello) else { return };
        if self.node_of(replica) == Some(node) && replica != self.replica {
            self.greet_follower(replica, durable, out);
        }
    }

    /// What it says first to another replica: its number, and how far its log is synced.
    pub(super) fn greeting(&self) -> Bytes {
        let mut into = BytesMut::new();
        put_uint(&mut into, u64::from(self.replica.0));
        put_uint(&mut into, self.syncs.durable().0);
        into.freeze()
    }
}

fn hello_of(bytes: &Bytes) -> Result<(ReplicaId, Index), Malformed> {
    let mut reader = Reader::new(bytes.clone());
    let (replica, last) = (ReplicaId(reader.u16()?), reader.uint()?);
    reader.end()?;
    if last > NUMBER_MAX {
        return Err(Malformed("the last entry of a log has too high an index"));
    }
    Ok((replica, Index(last)))
}
