//! Inputs in, outputs out: each input goes to the room that it concerns, then follows what comes of it.

use bytes::Bytes;
use kv::cluster::Role;
use kv::merged::{Found, Look};
use kv::{Class, Error, Level, NodeId, RequestId, Term, Version};

use super::message::Message;
use super::{Broadcast, CLOCKS_APART_MICROS, Whose, message};
use crate::record::Record;
use crate::{Input, Instant, Output, READS_MAX, Replicate, Route, Status, Ticket, Token, View};

impl Broadcast {
    fn take_message(&mut self, from: NodeId, body: &Bytes, out: &mut Vec<Output>) {
        let Ok(message) = Message::decode(body) else { return };
        if !self.peers.contains_key(&from) || self.seal.is_some() {
            return;
        }
        match message {
            Message::Rows { origin, link } => self.take_link(origin, link),
            Message::Vector { have, asks } => self.take_vector(from, &have, asks, out),
            Message::Fetch { origin, after } => self.answer_fetch(from, origin, after, out),
            Message::Sent { origin } => self.sent(origin),
            Message::Gone { .. } => self.begin_compare(from, out),
            Message::Look { number, what } => {
                let have = self.intake.have.clone();
                self.look(Whose::Peer { node: from, number, have }, what, out);
            }
            Message::Found { number, found, have } => self.found_there(from, number, found, have, out),
        }
    }

    /// Looks at its own table.
    pub(super) fn look(&mut self, whose: Whose, what: Look, out: &mut Vec<Output>) {
        self.last_look = self.last_look.next();
        self.looks.insert(self.last_look, whose);
        out.push(Output::Look { ticket: self.last_look, what });
    }

    fn looked(&mut self, ticket: Ticket, found: Found, last: Version, out: &mut Vec<Output>) {
        match self.looks.remove(&ticket) {
            Some(Whose::Write) => self.looked_for_writes(found, last, out),
            Some(Whose::Compare(number)) => self.found_here(number, found, out),
            Some(Whose::Collect) => self.found_tombstones(found, out),
            Some(Whose::Peer { node, number, have }) => {
                self.send(node, &Message::Found { number, found, have }, out);
            }
            None => {}
        }
    }

    pub(super) fn send(&self, to: NodeId, message: &Message, out: &mut Vec<Output>) {
        out.push(Output::Send { to, body: message.encode() });
    }

    fn read(&mut self, token: Token, level: Level, out: &mut Vec<Output>) {
        let error = if !self.serves() {
            Error::WrongNode { try_next: None }
        } else if level != Level::Local {
            Error::Invalid(format!(
                "a read cannot be {level} here: each copy takes writes by itself, and none knows what the others took a moment ago; read with \
                 --level local, or use a keyspace of protocol single, raft, primary, two-phase or quorum"
            ))
        } else if self.reads.len() >= READS_MAX {
            Error::Unavailable("too many reads of the shard wait already: try again in a moment".into())
        } else {
            self.reads.insert(token, self.stable);
            return out.push(Output::Fetch { tokens: vec![token] });
        };
        out.push(Output::Refuse { token, error });
    }

    /// The rows of a read may be answered: all is in them that was made up to what was stable.
    fn fetched(&mut self, token: Token, out: &mut Vec<Output>) {
        // What came since is not in the rows.
        if let Some(stable) = self.reads.remove(&token) {
            let behind = self.clock.micros().saturating_sub(stable.micros()) + CLOCKS_APART_MICROS;
            let staleness_micros = if stable == Version::ZERO { u64::MAX } else { behind };
            out.push(Output::Answer { token, reached: Level::Local, staleness_micros, copies: 1 });
        }
    }

    fn connected(&mut self, node: NodeId, hello: &Bytes, out: &mut Vec<Output>) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.is_near = true;
        }
        if let Ok(Message::Vector { have, asks }) = Message::decode(hello) {
            // Another message may be late, and of before this member began.
            if let Some(goals) = &mut self.returning {
                goals.entry(node).or_insert_with(|| have.clone());
            }
            self.take_vector(node, &have, asks, out);
        }
    }

    fn disconnected(&mut self, node: NodeId) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.is_near = false;
        }
    }

    fn take_view(&mut self, view: View) {
        assert_eq!(view.epoch, self.view.epoch, "a replica serves one epoch");
        // Members change with the epoch.
        if self.view.is_before(&view) && self.view.has_nodes_of(&view) {
            (self.view, self.is_view_logged) = (view, false);
        }
    }

    /// Whether it takes requests.
    pub(super) fn serves(&self) -> bool {
        self.seal.is_none() && self.returning.is_none()
    }

    /// What follows from an input.
    fn follow_up(&mut self, out: &mut Vec<Output>) {
        if self.seal.is_none() {
            self.give_compare_up();
            self.make(out);
            self.begin_writes(out);
            self.fetch_missing(out);
            self.speak(out);
            self.begin_collect(out);
            self.append(out);
            self.publish(out);
            self.look_whether_back();
        }
        self.give(out);
        self.say_sealed(out);
    }
}

impl Replicate for Broadcast {
    fn step(&mut self, input: Input, out: &mut Vec<Output>) {
        // What the log held at the start goes to the table before anything is looked at there.
        self.give(out);
        match input {
            Input::Tick { now, clock } => {
                (self.now, self.clock) = (now, clock);
                self.begun.get_or_insert(now);
            }
            Input::View(view) => self.take_view(view),
            Input::Propose { ops } => self.propose(ops, out),
            Input::Read { token, level, .. } => self.read(token, level, out),
            Input::Fetched { token } => self.fetched(token, out),
            Input::Looked { ticket, found, last } => self.looked(ticket, found, last, out),
            Input::Forget { token } => {
                self.reads.remove(&token);
                self.forget_write(token);
            }
            Input::Message { from, body, .. } => self.take_message(from, &body, out),
            Input::Durable { ticket } => self.synced(ticket),
            Input::Applied { index } => self.applied(index, out),
            Input::Connected { node, hello } => self.connected(node, &hello, out),
            Input::Disconnected { node } => self.disconnected(node),
            Input::Seal { next, .. } => self.end_epoch(next, out),
            Input::SnapshotReceived { .. } => out.push(Output::DiscardSnapshot),
            // Rows are read from the table here. Members change with the epoch; who comes back asks for what it lacks.
            Input::Gather { .. }
            | Input::Want { .. }
            | Input::Sync(_)
            | Input::Released
            | Input::Yield { .. }
            | Input::Silent { .. }
            | Input::SnapshotMade { .. }
            | Input::SnapshotSent { .. } => (),
        }
        self.follow_up(out);
    }

    fn route(&self, _: Class, _: Level) -> Route {
        match (&self.seal, &self.returning) {
            (Some(_), _) => Route::Nobody("it is being handed over"),
            (None, Some(_)) => Route::Nobody("this copy is about to hear what it missed"),
            (None, None) => Route::Here,
        }
    }

    fn hello(&self, _: NodeId) -> Bytes {
        Message::Vector { have: self.intake.have.clone(), asks: false }.encode()
    }

    fn is_response(&self, body: &[u8]) -> bool {
        message::is_response(body)
    }

    fn due(&self) -> Instant {
        let Some(begun) = self.begun else { return Instant::default() };
        if self.seal.is_some() {
            return Instant::MAX;
        }
        let back = self.returning.as_ref().map_or(Instant::MAX, |_| begun.plus(super::PATIENCE_MICROS));
        // Whoever waits for longer than that waits for somebody's word.
        let back = if back <= self.now { Instant::MAX } else { back };
        self.spread_due().min(self.compare_due()).min(self.collect_due()).min(back)
    }

    fn remembers(&self, id: &RequestId) -> bool {
        self.is_remembered(id)
    }

    fn view(&self) -> &View {
        &self.view
    }

    fn checkpoint(&self) -> Vec<Bytes> {
        let base = Record::Base(self.journal.applied_at(), self.view.clone());
        let entries = self.journal.log().above(self.journal.applied()).cloned().map(Record::Entry);
        let ceiling = Record::Ceiling(self.issue.ceiling());
        let vector = Record::Vector(self.intake.logged.clone());
        let seal = self.seal.as_ref().map(|seal| Record::Seal(seal.next));
        let records = std::iter::once(base).chain(entries).chain([ceiling, vector]).chain(seal);
        records.map(|record| record.encode(self.head())).collect()
    }

    fn status(&self) -> Status {
        let serves = self.serves();
        Status {
            // Nobody leads: whoever is asked serves.
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
