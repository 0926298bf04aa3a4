//! Tombstones that nobody needs any more go, without a clock.
//!
//! A tombstone hides an older value of its key. It may go where no such value is left, and none can come any more: neither from the table of a
//! member, nor from what is under way. One member, the first by its node, sees to it while all are within reach:
//!
//! ```text
//!   1. look     which tombstones are here; and are they the newest rows of their keys at every member, durably?
//!   2. close    every member ends all that it opened before, drops its hints, stores none of those rows again, and says so: its life, and
//!               its last round
//!   3. collect  those tombstones and those words go to all: each takes nothing more of the rounds that are over, and drops them;
//!               again for those that somebody has still, who had more revisions before them than one step takes
//! ```
//!
//! What is opened after a member has closed is made of what the tables hold after (1): the tombstone or what is newer. What was opened before is over,
//! and what of it is late in the network is of a round that was closed. A member that starts again is another life, to which nothing of before
//! is said.
//!
//! Where the tombstone has gone nobody sees its version. A new write must be above it all the same, for a member that still has it would hide the
//! write: so each answer to a look tells the newest version that its table ever held, and versions are issued above that.
//!
//! # Caveats
//!
//! Nothing goes while a member is away. One that did not hear the third step gives the tombstone back to the others by repair; then it goes
//! with the next round.

use std::collections::BTreeMap;

use kv::NodeId;
use kv::merged::{Found, Look, Named, Row};
use mutant::Mutant;

use super::Quorum;
use super::message::{Said, Step, Word};
use super::rounds::{Ask, Got, Next, Round, Task};
use crate::{Instant, Output};

/// So often tombstones are looked for while there may be any.
pub const INTERVAL_MICROS: u64 = 5_000_000;
/// So many go at once.
const TOMBSTONES_AT_ONCE: usize = 1024;

/// What a member knows of tombstones to be collected.
#[derive(Debug)]
pub(super) struct Collector {
    /// The table may hold some.
    may_have: bool,
    /// Not before this they are looked for.
    next: Instant,
    /// Who waits for which rounds to end here.
    closing: Vec<Closing>,
}

#[derive(Clone, Copy, Debug)]
struct Closing {
    by: NodeId,
    life: u64,
    at: Step,
    to: u64,
}

/// The steps of one collection.
#[derive(Debug, Default)]
pub(super) struct Collect {
    names: Vec<Named>,
    words: Vec<Word>,
}

impl Default for Collector {
    fn default() -> Collector {
        Collector { may_have: true, next: Instant::default(), closing: Vec::new() }
    }
}

impl Collector {
    /// Something was applied. It need not be a tombstone: with any row the table lets values go whose time is over.
    pub(super) fn applied(&mut self) {
        self.may_have = true;
    }
}

impl Quorum {
    /// The member that sees to tombstones.
    fn collects(&self) -> NodeId {
        self.view.members.first().expect("a shard has a member").node
    }

    /// Whether there may be tombstones, and something can be done about them.
    fn may_collect(&self) -> bool {
        let is_open = |round: &Round| matches!(round.task, Task::Collect(_));
        let is_near = |node: &NodeId| self.peers.get(node).is_some_and(|peer| peer.is_near());
        self.collector.may_have
            && match self.collects() {
                first if first == self.config.id => self.peers.keys().all(is_near),
                first => is_near(&first),
            }
            && self.rounds.with(is_open).is_empty()
    }

    /// When tombstones are looked for next.
    pub(super) fn collect_due(&self) -> Instant {
        if self.may_collect() { self.collector.next } else { Instant::MAX }
    }

    /// Looks for tombstones; who does not see to them makes sure that who does has them.
    pub(super) fn begin_collect(&mut self, out: &mut Vec<Output>) {
        if !self.may_collect() || self.collector.next > self.now {
            return;
        }
        self.collector.next = self.now.plus(INTERVAL_MICROS);
        self.collector.may_have = false;
        match self.collects() {
            first if first == self.config.id => {
                let look = Look::Tombstones { after: None };
                self.open(Task::Collect(Box::default()), Ask::Look(look), [first].into(), out);
            }
            first => self.differs(first),
        }
    }

    /// Where a collection stands.
    pub(super) fn collect_goes_on(&mut self, round: &mut Round, is_over: bool) -> Next {
        let answered = round.got.len() == round.of.len();
        if !answered && (is_over || !round.of.is_subset(&self.within_reach())) {
            self.collector.may_have = true;
            // Who did not hear that they are collected has them still.
            let missing = round.of.iter().filter(|node| !round.got.contains_key(node)).copied();
            Vec::from_iter(missing).into_iter().for_each(|node| self.differs(node));
            return Next::End;
        }
        if !answered {
            return Next::Wait;
        }
        let got = std::mem::take(&mut round.got);
        let Task::Collect(collect) = &mut round.task else { unreachable!("it is a collection") };
        match &round.ask {
            Ask::Look(Look::Tombstones { .. }) => {
                collect.take_names(got);
                if collect.names.is_empty() {
                    return Next::End;
                }
                self.collector.may_have = true;
                Next::Ask(Ask::Look(collect.look()), self.members())
            }
            Ask::Look(_) if collect.words.is_empty() => {
                // Who has something else there gets it by repair.
                let differ = Vec::from_iter(collect.differing(&got));
                collect.keep_confirmed(&got);
                differ.into_iter().for_each(|node| self.differs(node));
                if collect.names.is_empty() { Next::End } else { Next::Ask(Ask::Close, self.members()) }
            }
            Ask::Close => {
                let word = |got| if let Got::Closed(word) = got { Some(word) } else { None };
                collect.words = got.into_values().filter_map(word).collect();
                Next::Ask(Ask::Collect(collect.names.clone(), collect.words.clone()), self.members())
            }
            Ask::Look(_) => {
                self.counts.collected += collect.drop_gone(&got);
                // What was not at hand need not wait.
                self.collector.next = self.now;
                match collect.names.is_empty() {
                    true => Next::End,
                    false => {
                        Next::Ask(Ask::Collect(collect.names.clone(), collect.words.clone()), self.members())
                    }
                }
            }
            _ => Next::Ask(Ask::Look(collect.look()), self.members()),
        }
    }

    /// All that was opened here up to now is to end: who asks is told when it has.
    pub(super) fn close(&mut self, by: NodeId, life: u64, at: Step) {
        let to = self.rounds.last();
        self.writes.bonds.close(to);
        let is_known = |closing: &Closing| (closing.by, closing.life, closing.at) == (by, life, at);
        if self.collector.closing.iter().any(is_known) {
            return;
        }
        self.collector.closing.retain(|closing| closing.by != by);
        self.collector.closing.push(Closing { by, life, at, to });
        if !mutant::is(Mutant::HintOutlivesTombstone) {
            let dropped: u64 = self.peers.values_mut().map(|peer| peer.drop_hints()).sum();
            self.counts.hints_dropped += dropped;
        }
        self.give_up_to(to);
    }

    /// Says that what was to end has ended.
    pub(super) fn say_closed(&mut self, out: &mut Vec<Output>) {
        let rounds = &self.rounds;
        let closed =
            Vec::from_iter(self.collector.closing.extract_if(.., |closing| !rounds.has_open(closing.to)));
        for Closing { by, life, at, to } in closed {
            let word = Word { node: self.config.id, life: self.life, round: to };
            match by == self.config.id {
                true => self.got(by, at, Got::Closed(word), out),
                false => self.answer(by, life, at, Said::Closed(to), out),
            }
        }
    }

    /// Tombstones go that this member has collected.
    pub(super) fn collect_own(&mut self, at: Step, names: Vec<Named>, words: &[Word]) {
        self.close_others(words);
        self.store_collect(None, at, names);
    }

    /// Tombstones go that another member has collected.
    pub(super) fn collect_of(
        &mut self,
        node: NodeId,
        life: u64,
        at: Step,
        names: Vec<Named>,
        words: &[Word],
    ) {
        self.close_others(words);
        self.store_collect(Some((node, life)), at, names);
    }

    /// What others have closed counts no more, should it still come.
    fn close_others(&mut self, words: &[Word]) {
        for word in words {
            if let Some(peer) = self.peers.get_mut(&word.node) {
                peer.close(word.life, word.round);
            }
        }
    }
}

impl Collect {
    fn take_names(&mut self, got: BTreeMap<NodeId, Got>) {
        for got in got.into_values() {
            if let Got::Found(Found::Names { mut names, .. }, _) = got {
                names.truncate(TOMBSTONES_AT_ONCE);
                self.names = names;
            }
        }
    }

    fn look(&self) -> Look {
        Look::Keys(self.names.iter().map(|(key, _)| key.clone()).collect())
    }

    /// Keeps those that somebody has still, who found no room to let go all that is kept before them; returns how many are gone.
    fn drop_gone(&mut self, got: &BTreeMap<NodeId, Got>) -> u64 {
        let before = self.names.len();
        self.names.retain(|name| got.values().any(|got| holds(got, name)));
        (before - self.names.len()) as u64
    }

    /// Keeps those that are the newest of their keys at all who were asked.
    fn keep_confirmed(&mut self, got: &BTreeMap<NodeId, Got>) {
        self.names.retain(|name| {
            mutant::is(Mutant::TombstoneDroppedEarly) || got.values().all(|got| holds(got, name))
        });
    }

    /// Who does not hold all of them.
    fn differing<'a>(&'a self, got: &'a BTreeMap<NodeId, Got>) -> impl Iterator<Item = NodeId> + 'a {
        let lacks = |got: &Got| !self.names.iter().all(|name| holds(got, name));
        got.iter().filter(move |(_, got)| lacks(got)).map(|(node, _)| *node)
    }
}

fn rows_of(got: &Got) -> &[Row] {
    if let Got::Found(Found::Rows { rows, .. }, _) = got { rows } else { &[] }
}

fn holds(got: &Got, (key, rank): &Named) -> bool {
    let rows = rows_of(got);
    rows.binary_search_by(|row| row.key.cmp(key)).is_ok_and(|place| rows[place].rank() == *rank)
}
