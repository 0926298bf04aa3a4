//! Inputs in, outputs out: each input goes to the room that it concerns, then follows what comes of it.

use bytes::Bytes;
use kv::cluster::Role;
use kv::{Class, Level, NodeId, RequestId, Term};

use super::message::{Message, Said};
use super::rounds::Got;
use super::{PATIENCE_MICROS, Quorum, message, peers};
use crate::record::Record;
use crate::{Input, Instant, Output, Replicate, Route, Status, View};

impl Quorum {
    fn take_message(&mut self, from: NodeId, body: &Bytes, out: &mut Vec<Output>) {
        let Ok(Message { from: life, to, at, said }) = Message::decode(body) else { return };
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if peer.life != Some(life) || to != self.life {
            return;
        }
        peer.is_silent = false;
        match said {
            Said::Inherit(what) => self.inherit_of(from, life, at, what),
            Said::Found(found, last) => self.got(from, at, Got::Found(found, last), out),
            // Who is sealed takes and answers nothing else.
            _ if self.seal.is_some() => {}
            Said::Look(what) => self.look_for(from, life, at, what, out),
            Said::Store(rows) => self.store_of(from, life, at, rows),
            Said::Close => self.close(from, life, at),
            Said::Collect(names, words) => self.collect_of(from, life, at, names, &words),
            Said::Stored => self.got(from, at, Got::Stored, out),
            Said::Closed(round) => {
                let word = message::Word { node: from, life, round };
                self.got(from, at, Got::Closed(word), out);
            }
        }
    }

    fn synced(&mut self, ticket: crate::Ticket, out: &mut Vec<Output>) {
        self.journal.synced(ticket);
        self.issue.is_synced(ticket);
        if let Some(seal) = &mut self.seal {
            seal.synced(ticket);
        }
        for number in self.rounds.with(|round| round.waits_for_the_log()) {
            self.advance(number, out);
        }
    }

    fn take_view(&mut self, view: View) {
        assert_eq!(view.epoch, self.view.epoch, "a replica serves one epoch");
        // Members and weights change with the epoch.
        if self.view.is_before(&view) && self.view.has_nodes_of(&view) {
            (self.view, self.is_view_logged) = (view, false);
        }
    }

    fn forget(&mut self, token: crate::Token) {
        let _ = self.forget_read(token) || self.forget_write(token);
    }

    /// Whether others may be about to come, for it has begun a moment ago: nothing fails yet for want of them.
    fn is_new(&self) -> bool {
        !self.has_met && self.begun.is_none_or(|begun| self.now.since(begun) < PATIENCE_MICROS)
    }

    /// What follows from an input.
    fn follow_up(&mut self, out: &mut Vec<Output>) {
        if !self.has_met {
            let near = self.within_reach();
            self.has_met = self.reads_enough(&near) && self.writes_enough(&near);
        }
        if self.seal.is_none() {
            self.begin_reads(out);
            self.begin_writes(out);
            self.ask_the_silent(out);
            self.send_hints(out);
            self.begin_repair(out);
            self.begin_collect(out);
            self.say_closed(out);
            self.append(out);
        }
        self.give(out);
        self.end_goes_on(out);
    }
}

impl Replicate for Quorum {
    fn step(&mut self, input: Input, out: &mut Vec<Output>) {
        // What the log held at the start goes to the table before anything is looked at there.
        self.give(out);
        match input {
            Input::Tick { now, clock } => {
                (self.now, self.clock) = (now, clock);
                self.begun.get_or_insert(now);
                self.look_at_the_clock(out);
            }
            Input::View(view) => self.take_view(view),
            Input::Propose { ops } => self.propose(ops, out),
            Input::Read { token, level, .. } => self.read(token, level, out),
            Input::Fetched { token } => self.fetched(token, out),
            Input::Gather { reads } => {
                reads.into_iter().for_each(|(token, look, level)| self.gather(token, look, level, out));
            }
            Input::Looked { ticket, found, last } => self.looked(ticket, found, last, out),
            Input::Forget { token } => self.forget(token),
            Input::Message { from, body, .. } => self.take_message(from, &body, out),
            Input::Durable { ticket } => self.synced(ticket, out),
            Input::Applied { index } => self.applied(index, out),
            Input::Connected { node, hello } => self.connected(node, &hello, out),
            Input::Disconnected { node } => self.disconnected(node, out),
            Input::Silent { node } => self.silent(node, out),
            Input::Seal { next, among } => self.end_epoch(next, among, out),
            Input::SnapshotReceived { .. } => out.push(Output::DiscardSnapshot),
            // Members change with the epoch; who comes back is repaired.
            Input::Want { .. }
            | Input::Sync(_)
            | Input::Released
            | Input::Yield { .. }
            | Input::SnapshotMade { .. }
            | Input::SnapshotSent { .. } => (),
        }
        self.follow_up(out);
    }

    fn route(&self, _: Class, level: Level) -> Route {
        match &self.seal {
            None if level != Level::Local && self.is_new() => Route::Nobody("its replicas are about to meet"),
            None => Route::Here,
            Some(_) => Route::Nobody("it is being handed over"),
        }
    }

    fn hello(&self, _: NodeId) -> Bytes {
        peers::encode_hello(self.life)
    }

    fn is_response(&self, body: &[u8]) -> bool {
        message::is_response(body)
    }

    fn due(&self) -> Instant {
        if self.begun.is_none() {
            return Instant::default();
        }
        if self.seal.is_some() {
            return self.rounds.due();
        }
        self.rounds.due().min(self.repair_due()).min(self.collect_due()).min(self.silent_due())
    }

    fn remembers(&self, id: &RequestId) -> bool {
        self.writes.bonds.remembers(id)
    }

    fn view(&self) -> &View {
        &self.view
    }

    fn checkpoint(&self) -> Vec<Bytes> {
        let base = Record::Base(self.journal.applied_at(), self.view.clone());
        let entries = self.journal.log().above(self.journal.applied()).cloned().map(Record::Entry);
        let ceiling = Record::Ceiling(self.issue.ceiling());
        let seal = self.seal.as_ref().map(|seal| Record::Seal(seal.next));
        let records = std::iter::once(base).chain(entries).chain([ceiling]).chain(seal);
        records.map(|record| record.encode(self.head())).collect()
    }

    fn status(&self) -> Status {
        let near = self.within_reach();
        let serves = self.seal.is_none() && self.reads_enough(&near) && self.writes_enough(&near);
        Status {
            // Nobody leads: whoever is asked serves, while enough members are within reach.
            role: if serves { Role::Member } else { Role::Follower },
            leader: serves.then_some(self.config.id),
            term: Term::ZERO,
            last: self.journal.last(),
            durable: self.journal.durable(),
            commit: self.journal.durable(),
            applied: self.journal.applied(),
            members: Vec::new(),
            wants_the_gone: false,
            lease_reads: 0,
            counts: self.counts,
        }
    }
}
