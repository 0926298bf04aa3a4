//! What the primary does: it makes entries, sends them to all, and finds out what all that are in sync have.
//!
//! ```text
//!   written that it orders ──▶ promises to others are over ──▶ opens: its own empty entry ──▶ orders
//! ```

use std::collections::BTreeMap;

use bytes::Bytes;
use kv::{Index, NodeId, Position, ReplicaId};
use mutant::Mutant;

use super::message::{Kind, Message};
use super::replica::Primary;
use crate::entries::{LogEntry, OPS};
use crate::follow::Progress;
use crate::lease::{Asked, Held};
use crate::record;
use crate::transfer::Snapshots;
use crate::{Duty, Instant, Output, Ticket, UNAPPLIED_BYTES_MAX, UNSYNCED_MAX};

/// What a primary knows of its term.
pub(super) struct Order {
    /// The append that says that it orders, until it is synced.
    unwritten: Option<Ticket>,
    /// When it opened the term.
    pub(super) opened: Option<Instant>,
    /// It has ordered without a break since then.
    pub(super) since: Option<Instant>,
    /// Since it has ordered without a break it has agreed on an entry of its own: it knows all that was acknowledged.
    is_proven: bool,
    pub(super) followers: BTreeMap<ReplicaId, Follower>,
    snapshots: Snapshots,
    /// When it was heard of last.
    pub(super) beat: Option<Instant>,
    /// Members without whom nothing is acknowledged, though they are not known to be in sync yet: it has asked the directory for it,
    /// or is about to.
    pub(super) joining: BTreeMap<ReplicaId, Index>,
}

/// Another member, as the primary knows it.
pub(super) struct Follower {
    pub(super) progress: Progress,
    /// That it does not take over.
    pub(super) promise: Held,
    /// It wants to read, and asked so last.
    wants: Option<Asked>,
    /// What is agreed on, as it was told last.
    told: Index,
    /// What is in the snapshot that is on its way to it.
    sending: Index,
    /// It lost what it had acknowledged.
    pub(super) is_lossy: bool,
    /// When it got last what no write waits for, and up to where.
    pub(super) fed: Option<(Instant, Index)>,
}

impl Primary {
    /// The directory has made this replica the primary of a term; that is written with an append.
    pub(super) fn begin_to_order(&mut self, ticket: Ticket, before: Option<Order>) -> Order {
        let last = self.log.last();
        let (mut promises, since, is_proven) = match before {
            Some(before) => (before.followers, before.since, before.is_proven),
            None => (BTreeMap::new(), None, false),
        };
        let follower = |replica: ReplicaId| {
            let fresh = Held::new(self.config.lease_micros, self.config.drift_percent);
            let promise = promises.remove(&replica).map_or(fresh, |follower| follower.promise);
            let progress = Progress::new(last);
            (
                replica,
                Follower {
                    progress,
                    promise,
                    wants: None,
                    told: Index::ZERO,
                    sending: Index::ZERO,
                    is_lossy: false,
                    fed: None,
                },
            )
        };
        // Who is astray continues no log: it comes again as another replica.
        let follows = self.view.members.iter().filter(|member| member.duty != Duty::Astray);
        let follows = follows.map(|member| member.replica).filter(|replica| *replica != self.replica);
        let followers = follows.map(follower).collect();
        let (snapshots, joining) = (Snapshots::default(), BTreeMap::new());
        let (unwritten, opened, beat) = (Some(ticket), None, None);
        Order { unwritten, opened, since, is_proven, followers, snapshots, beat, joining }
    }

    /// Whether it may read now: nobody else can have taken over. Who it has asked to be in sync may be by now, and can.
    pub(super) fn is_leased(&self, order: &Order) -> bool {
        let holds = |replica: ReplicaId| {
            order.followers.get(&replica).is_some_and(|follower| follower.promise.is_valid(self.now))
        };
        let others = self.in_sync().filter(|replica| *replica != self.replica);
        order.opened.is_some() && order.is_proven && others.chain(self.wishes.adding()).all(holds)
    }

    /// What follows from where things stand, if it orders.
    pub(super) fn work_in_order(&mut self, out: &mut Vec<Output>) {
        let Some(mut order) = self.order.take() else { return };
        self.open(&mut order, out);
        if order.opened.is_some() {
            while self.append_next(out) {}
            self.note_commit(&mut order);
            self.talk(&mut order, out);
        }
        let wanted = std::iter::from_fn(|| order.snapshots.next_wanted(self.applied.index));
        let wanted = Vec::from_iter(wanted);
        out.extend(wanted.into_iter().filter_map(|to| Some(Output::MakeSnapshot { to: self.node_of(to)? })));
        self.order = Some(order);
    }

    /// Opens its term, once it is written that it orders, and what it promised to others is over.
    fn open(&mut self, order: &mut Order, out: &mut Vec<Output>) {
        let known = self.known.view().revision == self.view.revision;
        order.unwritten = order.unwritten.filter(|_| !known);
        let is_free = self.promised.others_over_at(self.replica) <= self.now;
        if order.opened.is_some() || order.unwritten.is_some() || !is_free || self.installing.is_some() {
            return;
        }
        order.opened = Some(self.now);
        order.since.get_or_insert(self.now);
        self.order_entry(OPS, Bytes::new(), out);
    }

    /// Puts an entry behind all others.
    pub(super) fn order_entry(&mut self, kind: u8, data: Bytes, out: &mut Vec<Output>) -> Position {
        let entry = LogEntry { index: self.log.last().next(), term: self.term(), kind, data };
        let (record, entry) = record::own(self.head(), entry);
        let at = entry.at();
        self.log.put(entry);
        let ticket = self.syncs.issue(at.index);
        out.push(Output::Append { ticket, records: vec![record], install: false });
        at
    }

    /// Appends the next entry, if it may be. Whether it was.
    fn append_next(&mut self, out: &mut Vec<Output>) -> bool {
        let has_room =
            self.syncs.waiting() < UNSYNCED_MAX && self.log.unapplied_bytes() < UNAPPLIED_BYTES_MAX;
        if !has_room || self.is_sealed() {
            return false;
        }
        let Some((data, tokens)) = self.batch.next(self.clock) else { return false };
        let at = self.order_entry(OPS, data, out);
        self.proposals.appended(at, tokens);
        true
    }

    /// What all have that are in sync, or about to be, is agreed on.
    fn note_commit(&mut self, order: &mut Order) {
        let mut counted = Vec::from_iter(self.in_sync().filter(|replica| *replica != self.replica));
        counted.extend(order.joining.keys());
        if mutant::is(Mutant::AcknowledgedOutsideTheInSyncSet) {
            counted.truncate(1);
        }
        let has = |replica: &ReplicaId| {
            order.followers.get(replica).map_or(Index::ZERO, |follower| follower.progress.matched)
        };
        let all = counted.iter().map(has).fold(self.syncs.durable(), Index::min);
        // What an earlier term ordered is agreed on together with the entry that opens this one.
        if self.log.term(all) == Some(self.term()) {
            self.commit = self.commit.max(all);
        }
        self.verified = self.log.last();
        order.is_proven |= self.log.term(self.commit) == Some(self.term());
    }

    /// Sends what there is to be sent.
    fn talk(&mut self, order: &mut Order, out: &mut Vec<Output>) {
        let is_due = !self.sleep.asleep
            && order.beat.is_none_or(|beat| self.now.since(beat) >= self.config.beat_micros);
        if is_due {
            order.beat = Some(self.now);
        }
        for to in Vec::from_iter(order.followers.keys().copied()) {
            self.talk_to(order, to, is_due, out);
        }
    }

    fn talk_to(&self, order: &mut Order, to: ReplicaId, beats: bool, out: &mut Vec<Output>) {
        let interval = self.interval_for(order, to);
        let follower = order.followers.get_mut(&to).expect("it is one of them");
        if beats && follower.progress.probes {
            follower.progress.sent = None;
        }
        let is_behind = follower.progress.next <= self.log.base().index;
        // Not again at once, when one was lost.
        let may_begin = beats || order.snapshots.is_made_for(to);
        let is_there = self.node_of(to).is_some_and(|node| self.is_connected(node));
        if is_behind && !follower.progress.snapshot && may_begin && is_there {
            let least = self.log.base().index.max(self.commit.min(self.applied.index));
            if let Some(at) = order.snapshots.take(to, least) {
                (follower.progress.snapshot, follower.sending) = (true, at.index);
                let header = self.snapshot_header(to, at);
                out.extend(self.node_of(to).map(|to| Output::SendSnapshot { to, header }));
            }
        }
        let is_held_back =
            interval.is_some_and(|interval| follower.is_held_back(self.now, interval, self.log.last()));
        let mut must = beats || follower.wants.is_some();
        loop {
            let progress = &mut follower.progress;
            let waits =
                is_behind || is_held_back || progress.snapshot || progress.probes && progress.sent.is_some();
            let before = Index(progress.next.0 - 1);
            let entries = if waits { Vec::new() } else { progress.take_next(&self.log) };
            let has_news =
                self.lent.over_at(to) > self.now && follower.told < self.commit && !progress.probes;
            if entries.is_empty() && !must && !has_news {
                return;
            }
            // Who is behind the log hears that it is there.
            let at = self.log.term(before).map_or(self.log.base(), |term| Position { index: before, term });
            if progress.probes {
                (progress.next, progress.sent) = (before.next(), Some(self.now));
            }
            follower.told = self.commit;
            let message = Message {
                commit: self.commit,
                beat: self.asks().filter(|_| beats && must),
                lease: follower.wants.take(),
                view: (!follower.progress.is_heard).then(|| self.view.clone()),
                entries,
                ..self.message(Kind::Append, to, at)
            };
            self.send(&message, out);
            must = false;
            if waits || follower.progress.probes {
                return;
            }
        }
    }

    fn snapshot_header(&self, to: ReplicaId, at: Position) -> Bytes {
        let end = self.seal.end().filter(|end| end.at.index == at.index);
        let message = self.message(Kind::Snapshot, to, at);
        let (view, seal) = (Some(self.view.clone()), end.map(|end| end.next));
        Message { view, seal, ..message }.encode()
    }

    /// A member answers, or asks.
    pub(super) fn of_member(&mut self, message: Message) {
        let Some(mut order) = self.order.take() else { return };
        if let Some(follower) = order.followers.get_mut(&message.from) {
            if let Some(asked) = message.beat
                && let Some(life) = self.life
            {
                follower.promise.granted(asked, life, self.now);
            }
            match message.kind {
                Kind::Ack => follower.progress.acknowledged(message.at.index.min(self.log.last())),
                Kind::Reject => follower.progress.refused(message.at.index, message.hint),
                _ => order.beat = None,
            }
            if message.lease.is_some() {
                let in_sync = self.in_sync().any(|replica| replica == message.from);
                let is_lent =
                    in_sync && !self.wishes.removes(message.from) && self.surplus() != Some(message.from);
                if self.is_leased(&order) && (is_lent || !in_sync && self.is_for_few()) {
                    if is_lent {
                        self.lent.give(message.from, self.now);
                    }
                    let follower = order.followers.get_mut(&message.from).expect("it was just here");
                    follower.wants = message.lease;
                } else {
                    // It asks again: by then the others have said that they do not take over.
                    let lately = self.config.beat_micros / 4;
                    order.beat = order.beat.filter(|beat| self.now.since(*beat) < lately);
                }
            }
        }
        self.order = Some(order);
    }

    /// The connection to a member stands: what was sent may be lost, and its log may be shorter than it was.
    pub(super) fn greet_follower(&mut self, replica: ReplicaId, durable: Index, out: &mut Vec<Output>) {
        let node = self.node_of(replica);
        let (Some(order), Some(node)) = (&mut self.order, node) else { return };
        let Some(follower) = order.followers.get_mut(&replica) else { return };
        let matched = follower.progress.matched;
        if durable < matched {
            out.push(Output::PeerLacks { node, acknowledged: matched, last: durable });
            follower.is_lossy = true;
            let is_heard = follower.progress.is_heard;
            follower.progress = Progress { is_heard, ..Progress::new(durable.min(self.log.last())) };
        }
        follower.progress.begin_again();
        follower.progress.is_heard = false;
        order.beat = None;
    }

    pub(super) fn snapshot_made(&mut self, to: NodeId, at: Option<Position>) {
        let to = self.view.member(to).map(|member| member.replica);
        if let (Some(order), Some(to)) = (&mut self.order, to) {
            order.snapshots.made(to, at);
        }
    }

    /// A snapshot has arrived, or was lost. That it was acknowledged as well may have been lost.
    pub(super) fn snapshot_sent(&mut self, to: NodeId, arrived: bool) {
        let to = self.view.member(to).map(|member| member.replica);
        let follower = self.order.as_mut().zip(to).and_then(|(order, to)| order.followers.get_mut(&to));
        match follower.filter(|follower| follower.progress.snapshot) {
            Some(follower) if arrived => follower.progress.has_snapshot(follower.sending),
            Some(follower) => follower.progress.begin_again(),
            None => (),
        }
    }
}
