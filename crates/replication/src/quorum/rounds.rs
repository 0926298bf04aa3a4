//! Rounds: a question to some members, their answers, and what follows.
//!
//! All that a member does with others is a round, under a number that rises; each question in it is a step. What a round is for is its
//! [`Task`]; the task says after each answer whether to wait, to ask on, or that it is over.

use std::collections::{BTreeMap, BTreeSet};

use kv::merged::{Found, Look, Named, Row};
use kv::{NodeId, Version};
use mutant::Mutant;

use super::collect::Collect;
use super::message::{Said, Step, Word};
use super::reads::Read;
use super::repair::Repair;
use super::writes::Write;
use super::{PATIENCE_MICROS, Quorum, RESEND_MICROS};
use crate::{Instant, Output, Ticket};

/// So many looks of others are under way here; more are not answered, and asked again.
const LOOKS_MAX: usize = 4096;
/// So many bytes of rows wait in rounds whose writes are done, for members that have not acknowledged them; the rest become hints.
const DONE_BYTES_MAX: usize = 32 << 20;
/// So many such rounds, for all that are open are gone through again and again.
const DONE_MAX: usize = 128;

/// What a round is for.
#[derive(Debug)]
pub(super) enum Task {
    Write(Box<Write>),
    Read(Box<Read>),
    Hint,
    Repair(Box<Repair>),
    Collect(Box<Collect>),
}

/// What is asked.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    Look(Look),
    Store(Vec<Row>),
    Close,
    Collect(Vec<Named>, Vec<Word>),
    /// Nothing, before this moment.
    Rest(Instant),
}

/// What is answered.
#[derive(Clone, Debug)]
pub(super) enum Got {
    Found(Found, Version),
    Stored,
    Closed(Word),
}

/// What follows.
pub(super) enum Next {
    Wait,
    Ask(Ask, BTreeSet<NodeId>),
    End,
}

/// An open round.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) task: Task,
    pub(super) ask: Ask,
    /// Who is asked.
    pub(super) of: BTreeSet<NodeId>,
    /// Who has answered: each counts once.
    pub(super) got: BTreeMap<NodeId, Got>,
    step: u32,
    opened: Instant,
    sent: Instant,
}

/// The rounds that are open, and the looks under way in the own table.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    open: BTreeMap<u64, Box<Round>>,
    last: u64,
    ticket: Ticket,
    looks: BTreeMap<Ticket, Asker>,
    /// Rounds whose writes are done, and the bytes of their rows.
    done: usize,
    done_bytes: usize,
}

/// Whose a look is.
#[derive(Clone, Copy, Debug)]
enum Asker {
    Own(Step),
    Peer(NodeId, u64, Step),
}

impl Round {
    /// Who has answered.
    pub(super) fn answered(&self) -> BTreeSet<NodeId> {
        self.got.keys().copied().collect()
    }

    /// Whether all that are asked have answered.
    pub(super) fn is_answered(&self) -> bool {
        self.got.len() == self.of.len()
    }

    /// Whether its rows can be made as soon as versions can be issued.
    pub(super) fn waits_for_the_log(&self) -> bool {
        matches!((&self.task, &self.ask), (Task::Write(write), Ask::Look(_)) if write.is_gathered())
    }

    /// So long those that were asked first are waited for.
    pub(super) fn first_until(&self) -> Option<Instant> {
        if let Task::Read(read) = &self.task { read.first_until() } else { None }
    }

    /// Whether it is between members that are sealed.
    fn is_of_sealed(&self) -> bool {
        matches!(&self.task, Task::Repair(repair) if repair.is_last())
    }

    fn is_over(&self, now: Instant) -> bool {
        now.since(self.opened) >= PATIENCE_MICROS
    }

    /// The rows that it wants stored.
    pub(super) fn rows(&self) -> &[Row] {
        if let Ask::Store(rows) = &self.ask { rows } else { &[] }
    }
}

impl Rounds {
    /// The number of the last round that was opened.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Whether a round that may bring rows to others is open, up to this number.
    pub(super) fn has_open(&self, to: u64) -> bool {
        self.open.range(..=to).any(|(_, round)| !matches!(round.task, Task::Collect(_)))
    }

    /// The rounds with these tasks.
    pub(super) fn with(&self, is: impl Fn(&Round) -> bool) -> Vec<u64> {
        self.open.iter().filter(|(_, round)| is(round)).map(|(number, _)| *number).collect()
    }

    /// How many there are with these tasks.
    pub(super) fn count_of(&self, is: impl Fn(&Round) -> bool) -> usize {
        self.open.values().filter(|round| is(round)).count()
    }

    /// Goes through the writes.
    pub(super) fn each_write(&mut self, mut visit: impl FnMut(&mut Write)) {
        for round in self.open.values_mut() {
            if let Task::Write(write) = &mut round.task {
                visit(write);
            }
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.open.len()
    }

    /// Takes all away.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Box<Round>> + use<> {
        self.looks.clear();
        std::mem::take(&mut self.open).into_values()
    }

    /// When one of them wants to know the time.
    pub(super) fn due(&self) -> Instant {
        let of = |round: &Round| match round.ask {
            Ask::Rest(until) => until,
            _ => {
                let sent_again = round.sent.plus(RESEND_MICROS).min(round.opened.plus(PATIENCE_MICROS));
                round.first_until().map_or(sent_again, |until| until.min(sent_again))
            }
        };
        self.open.values().map(|round| of(round)).min().unwrap_or(Instant::MAX)
    }
}

impl Quorum {
    /// Opens a round.
    pub(super) fn open(&mut self, task: Task, ask: Ask, of: BTreeSet<NodeId>, out: &mut Vec<Output>) {
        self.rounds.last += 1;
        let (number, now) = (self.rounds.last, self.now);
        let (got, step) = (BTreeMap::new(), 0);
        let round = Round { task, ask: Ask::Close, of: BTreeSet::new(), got, step, opened: now, sent: now };
        self.ask(number, Box::new(round), ask, of, out);
    }

    /// Asks the next question of a round.
    fn ask(
        &mut self,
        number: u64,
        mut round: Box<Round>,
        ask: Ask,
        of: BTreeSet<NodeId>,
        out: &mut Vec<Output>,
    ) {
        round.step += 1;
        (round.ask, round.of, round.sent) = (ask, of, self.now);
        round.got.clear();
        let nodes = round.of.clone();
        self.send(number, &round, &nodes, out);
        self.rounds.open.insert(number, round);
    }

    /// Says what a round asks to some of those that it is for.
    fn send(&mut self, number: u64, round: &Round, nodes: &BTreeSet<NodeId>, out: &mut Vec<Output>) {
        let at = Step { round: number, step: round.step };
        let said = match &round.ask {
            Ask::Look(look) if round.is_of_sealed() => Said::Inherit(look.clone()),
            Ask::Look(look) => Said::Look(look.clone()),
            Ask::Store(rows) => Said::Store(rows.clone()),
            Ask::Close => Said::Close,
            Ask::Collect(names, words) => Said::Collect(names.clone(), words.clone()),
            Ask::Rest(_) => return,
        };
        for node in nodes {
            match *node == self.config.id {
                true => self.ask_itself(at, said.clone(), out),
                false => self.say(*node, at, &said, out),
            }
        }
    }

    /// Says something to another member, if it is connected.
    pub(super) fn say(&self, to: NodeId, at: Step, said: &Said, out: &mut Vec<Output>) {
        if let Some(life) = self.peers.get(&to).and_then(|peer| peer.life) {
            out.push(Output::Send { to, body: said.encode(self.life, life, at) });
        }
    }

    fn ask_itself(&mut self, at: Step, said: Said, out: &mut Vec<Output>) {
        match said {
            Said::Look(look) | Said::Inherit(look) => self.look(Asker::Own(at), look, out),
            Said::Store(rows) => self.store_own(at, rows),
            Said::Close => self.close(self.config.id, self.life, at),
            Said::Collect(names, words) => self.collect_own(at, names, &words),
            Said::Found(..) | Said::Stored | Said::Closed(_) => unreachable!("these are answers"),
        }
    }

    fn look(&mut self, asker: Asker, what: Look, out: &mut Vec<Output>) {
        self.rounds.ticket = self.rounds.ticket.next();
        let ticket = self.rounds.ticket;
        self.rounds.looks.insert(ticket, asker);
        out.push(Output::Look { ticket, what });
    }

    /// Another member looks at what this one holds.
    pub(super) fn look_for(&mut self, node: NodeId, life: u64, at: Step, what: Look, out: &mut Vec<Output>) {
        if self.rounds.looks.len() < LOOKS_MAX {
            self.look(Asker::Peer(node, life, at), what, out);
        }
    }

    /// The own table was looked at.
    pub(super) fn looked(&mut self, ticket: Ticket, found: Found, last: Version, out: &mut Vec<Output>) {
        let last = if mutant::is(Mutant::FloorNotTold) { Version::ZERO } else { last };
        match self.rounds.looks.remove(&ticket) {
            Some(Asker::Own(at)) => self.got(self.config.id, at, Got::Found(found, last), out),
            Some(Asker::Peer(node, life, at)) => {
                self.answer(node, life, at, Said::Found(found, last), out);
            }
            None => {}
        }
    }

    /// Answers a member in the life in which it asked.
    pub(super) fn answer(&self, node: NodeId, life: u64, at: Step, said: Said, out: &mut Vec<Output>) {
        if self.peers.get(&node).is_some_and(|peer| peer.life == Some(life)) {
            self.say(node, at, &said, out);
        }
    }

    /// An answer to a step of a round: it counts once, and only while that is what the round asks.
    pub(super) fn got(&mut self, mut node: NodeId, at: Step, got: Got, out: &mut Vec<Output>) {
        let Some(round) = self.rounds.open.get_mut(&at.round) else { return };
        if mutant::is(Mutant::AcknowledgementCountedTwice) && round.got.contains_key(&node) {
            let missing = round.of.iter().find(|other| !round.got.contains_key(other));
            node = missing.copied().unwrap_or(node);
        }
        if round.step != at.step || !round.of.contains(&node) || round.got.contains_key(&node) {
            return;
        }
        let fits = match (&round.ask, &got) {
            (Ask::Look(look), Got::Found(found, _)) => is_found_by(look, found),
            (Ask::Store(_) | Ask::Collect(..), Got::Stored) | (Ask::Close, Got::Closed(_)) => true,
            _ => false,
        };
        if fits {
            round.got.insert(node, got);
            self.advance(at.round, out);
        }
    }

    /// Does what follows from where a round stands.
    pub(super) fn advance(&mut self, number: u64, out: &mut Vec<Output>) {
        let Some(mut round) = self.rounds.open.remove(&number) else { return };
        let is_over = round.is_over(self.now);
        let is_done = matches!(&round.task, Task::Write(write) if write.is_done());
        let next = match &round.task {
            Task::Write(_) => self.write_goes_on(&mut round, is_over, out),
            Task::Read(_) => self.read_goes_on(&mut round, is_over, out),
            Task::Hint => self.hint_goes_on(&round, is_over),
            Task::Repair(_) => self.repair_goes_on(&mut round, is_over),
            Task::Collect(_) => self.collect_goes_on(&mut round, is_over),
        };
        match next {
            Next::Wait => {
                let bytes = round.rows().iter().map(Row::bytes).sum::<usize>();
                let is_done_now = matches!(&round.task, Task::Write(write) if write.is_done());
                if is_done_now && !is_done {
                    self.rounds.done_bytes += bytes;
                    self.rounds.done += 1;
                }
                self.rounds.open.insert(number, round);
                if self.rounds.done_bytes > DONE_BYTES_MAX || self.rounds.done > DONE_MAX {
                    self.end_oldest_done();
                }
            }
            Next::Ask(ask, of) => self.ask(number, round, ask, of, out),
            Next::End => self.end(number, &round, is_done),
        }
    }

    /// A round is over: what some did not acknowledge is kept for them.
    fn end(&mut self, number: u64, round: &Round, was_done: bool) {
        let Task::Write(_) = &round.task else { return };
        if was_done {
            self.rounds.done_bytes -= round.rows().iter().map(Row::bytes).sum::<usize>();
            self.rounds.done -= 1;
        }
        let missing = round.of.iter().filter(|node| !round.got.contains_key(node));
        match self.writes.bonds.is_closed(number) && !mutant::is(Mutant::HintOutlivesTombstone) {
            // What was deleted since may have gone: only what tables hold may be brought now.
            true => missing.for_each(|node| self.differs(*node)),
            false => missing.for_each(|node| self.hint(*node, round.rows())),
        }
    }

    fn end_oldest_done(&mut self) {
        let is_done = |round: &Round| matches!(&round.task, Task::Write(write) if write.is_done());
        let oldest = self.rounds.open.iter().find(|(_, round)| is_done(round)).map(|(number, _)| *number);
        if let Some((number, round)) = oldest.and_then(|number| self.rounds.open.remove_entry(&number)) {
            self.end(number, &round, true);
        }
    }

    /// Who can be reached has become less.
    pub(super) fn weigh_again(&mut self, out: &mut Vec<Output>) {
        for number in self.rounds.with(|_| true) {
            self.advance(number, out);
        }
    }

    /// A member is back: what it was asked and has not answered is asked again.
    pub(super) fn ask_again(&mut self, node: NodeId, out: &mut Vec<Output>) {
        for number in self.rounds.with(|round| round.of.contains(&node) && !round.got.contains_key(&node)) {
            let Some(round) = self.rounds.open.remove(&number) else { continue };
            self.send(number, &round, &[node].into(), out);
            self.rounds.open.insert(number, round);
        }
    }

    /// Looks at the clock: who waits too long, and what is to be sent again.
    pub(super) fn look_at_the_clock(&mut self, out: &mut Vec<Output>) {
        let now = self.now;
        let is_late = |round: &Round| round.first_until().is_some_and(|until| until <= now);
        let is_due =
            |round: &Round| round.is_over(now) || is_late(round) || matches!(round.ask, Ask::Rest(_));
        for number in self.rounds.with(is_due) {
            self.advance(number, out);
        }
        for number in self.rounds.with(|round| now.since(round.sent) >= RESEND_MICROS) {
            let Some(mut round) = self.rounds.open.remove(&number) else { continue };
            round.sent = now;
            // What it asked of itself is not lost.
            let is_missing = |node: &&NodeId| **node != self.config.id && !round.got.contains_key(node);
            let missing = round.of.iter().filter(is_missing).copied().collect();
            self.send(number, &round, &missing, out);
            self.rounds.open.insert(number, round);
        }
    }

    /// What brings rows of before to others, and nobody waits for, ends: up to this round.
    pub(super) fn give_up_to(&mut self, to: u64) {
        let is_spare = |round: &Round| matches!(round.task, Task::Hint | Task::Repair(_));
        for number in self.rounds.with(is_spare).into_iter().filter(|number| *number <= to) {
            let Some(round) = self.rounds.open.remove(&number) else { continue };
            for node in round.of.iter().copied().chain(repaired(&round)) {
                self.hints_sent(node, &[], false);
                self.differs(node);
            }
        }
    }

    fn hint_goes_on(&mut self, round: &Round, is_over: bool) -> Next {
        let node = *round.of.first().expect("hints are for somebody");
        let is_near = self.peers.get(&node).is_some_and(|peer| peer.life.is_some());
        if !round.is_answered() && is_near && !is_over {
            return Next::Wait;
        }
        self.hints_sent(node, round.rows(), round.is_answered());
        Next::End
    }
}

/// With whom a repair compares.
fn repaired(round: &Round) -> Option<NodeId> {
    if let Task::Repair(repair) = &round.task { Some(repair.peer()) } else { None }
}

/// Whether what was found is of the kind that was looked for.
fn is_found_by(look: &Look, found: &Found) -> bool {
    matches!(
        (look, found),
        (Look::Keys(_) | Look::Range { .. } | Look::AsOf { .. } | Look::Rows(_), Found::Rows { .. })
            | (Look::Buckets { .. } | Look::Tombstones { .. }, Found::Names { .. })
            | (Look::Digests { .. }, Found::Digests(_))
    )
}
