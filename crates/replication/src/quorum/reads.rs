//! Reads: the newest rows among members that weigh R, written back where later readers could miss them.
//!
//! A row that only few members have may be missed by who reads after this one. So what is shown must be where every reader looks: its holders
//! weigh W. Mostly those that showed it do, and nothing more is to be done; if not, it is stored at all members first, as a write is.
//!
//! ```text
//!   n1: k at 10    n2: k at 11    n3: k at 10         R = 2, W = 2 of three
//!   a read hears n1 and n2: k at 11, at n2 only    ─▶ store k at 11 ─▶ n1 and n3 acknowledge ─▶ answered
//! ```
//!
//! Who is asked first are members that weigh R, and W too, so that mostly nothing is written back; who of them is not in time is not asked first
//! again for a while, and then all are asked.
//!
//! A `bounded` read does without: it misses nothing that was acknowledged before it was asked, so it is within every bound, and a write that is
//! under way it may show before a later one does not. For that it costs one question always, and is answered while members that weigh R are there,
//! however much W is.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use kv::merged::{Look, Newest, Row};
use kv::{Error, Level, NodeId, Version};
use mutant::Mutant;

use super::gather::Gather;
use super::peers::Peer;
use super::rounds::{Ask, Next, Round, Task};
use super::{Quorum, peers, seal};
use crate::single::too_many_reads;
use crate::{Gathered, Instant, Output, READS_MAX, Token};

/// So many rounds of reads look at the same time; what comes meanwhile shares the next one.
const LOOKING_MAX: usize = 2;
/// A round is for at most so many keys.
const KEYS_MAX: usize = 4096;

/// When a round has found so many bytes of rows, it answers what it knows in full, and the rest wait for another.
const BYTES_MAX: usize = 8 << 20;
/// A read for more than so many bytes is refused: members would have to send all of it to each other at once.
const ANSWER_BYTES_MAX: usize = 48 << 20;

/// Reads that wait for their round, and those that only want what is here.
#[derive(Debug, Default)]
pub(super) struct Reads {
    waiting: VecDeque<(Token, Look, Level)>,
    /// Rows of the own table are read for them.
    pub(super) local: BTreeSet<Token>,
    /// How many are in rounds.
    open: usize,
}

/// The reads of one round.
#[derive(Debug)]
pub(super) struct Read {
    items: Vec<(Token, Look)>,
    gather: Gather,
    level: Level,
    /// So long those that were asked first are waited for; `None` = whoever weighs R is enough, and all are asked.
    first_until: Option<Instant>,
    /// What expires up to it is gone.
    moment: Version,
    /// Who holds each row that is written back, as far as was seen.
    holders: Vec<BTreeSet<NodeId>>,
}

impl Read {
    /// So long those that were asked first are waited for.
    pub(super) fn first_until(&self) -> Option<Instant> {
        self.first_until
    }

    /// Whose its reads are.
    pub(super) fn tokens(&self) -> impl Iterator<Item = Token> {
        self.items.iter().map(|(token, _)| *token)
    }
}

impl Quorum {
    /// Takes a read in.
    pub(super) fn gather(&mut self, token: Token, look: Look, level: Level, out: &mut Vec<Output>) {
        if self.seal.is_some() {
            return out.push(seal::elsewhere(token));
        }
        if self.reads.waiting.len() + self.reads.open + self.reads.local.len() >= READS_MAX {
            return out.push(Output::Refuse { token, error: too_many_reads() });
        }
        match level {
            Level::Local => self.begin_read(vec![(token, look)], level, out),
            Level::Linearizable | Level::Bounded(_) => self.reads.waiting.push_back((token, look, level)),
        }
    }

    /// A read of the own rows, which the owner makes.
    pub(super) fn read(&mut self, token: Token, level: Level, out: &mut Vec<Output>) {
        let error = match level {
            _ if self.seal.is_some() => return out.push(seal::elsewhere(token)),
            Level::Local if self.reads.local.len() < READS_MAX => {
                self.reads.local.insert(token);
                return out.push(Output::Fetch { tokens: vec![token] });
            }
            Level::Local => too_many_reads(),
            _ => Error::Invalid(
                "the own rows of a member may miss what others acknowledged: read at level local, or keys and ranges".into(),
            ),
        };
        out.push(Output::Refuse { token, error });
    }

    /// The own rows are here.
    pub(super) fn fetched(&mut self, token: Token, out: &mut Vec<Output>) {
        if self.reads.local.remove(&token) {
            let (reached, staleness_micros) = (Level::Local, u64::MAX);
            out.push(Output::Answer { token, reached, staleness_micros, copies: 1 });
        }
    }

    /// Nobody waits for a read any more. Whether it had no round yet.
    pub(super) fn forget_read(&mut self, token: Token) -> bool {
        let before = self.reads.waiting.len();
        self.reads.waiting.retain(|(other, ..)| *other != token);
        self.reads.local.remove(&token) || self.reads.waiting.len() < before
    }

    /// All reads that have no round are turned away.
    pub(super) fn turn_reads_away(&mut self, out: &mut Vec<Output>) {
        let local = std::mem::take(&mut self.reads.local);
        let waiting = std::mem::take(&mut self.reads.waiting).into_iter().map(|(token, ..)| token);
        out.extend(waiting.chain(local).map(seal::elsewhere));
    }

    /// Opens rounds for what waits, as many as may be.
    pub(super) fn begin_reads(&mut self, out: &mut Vec<Output>) {
        let is_looking = |round: &Round| matches!((&round.task, &round.ask), (Task::Read(_), Ask::Look(_)));
        while !self.reads.waiting.is_empty() && self.rounds.count_of(is_looking) < LOOKING_MAX {
            let (items, level) = self.next_reads();
            self.begin_read(items, level, out);
        }
    }

    /// The reads of the next round: of one level, and a range for itself.
    fn next_reads(&mut self) -> (Vec<(Token, Look)>, Level) {
        let (mut items, mut keys) = (Vec::new(), 0);
        let level = self.reads.waiting.front().map_or(Level::Linearizable, |(.., level)| *level);
        while let Some((_, look, _)) = self.reads.waiting.front().filter(|(.., other)| *other == level) {
            keys += if let Look::Keys(keys) = look { keys.len() } else { KEYS_MAX };
            if !items.is_empty() && keys > KEYS_MAX {
                break;
            }
            items.extend(self.reads.waiting.pop_front().map(|(token, look, _)| (token, look)));
        }
        (items, level)
    }

    fn begin_read(&mut self, items: Vec<(Token, Look)>, level: Level, out: &mut Vec<Output>) {
        let mut near = self.within_reach();
        if level == Level::Local {
            near = [self.config.id].into();
        } else if !self.reads_enough(&near) {
            let error = self.too_few("a read", self.config.votes.read);
            let refuse = |(token, _)| Output::Refuse { token, error: error.clone() };
            return out.extend(items.into_iter().map(refuse));
        }
        self.reads.open += items.len();
        let gather = Gather::new(of_all(&items));
        let (look, holders) = (gather.look(), Vec::new());
        let first = if level == Level::Local { None } else { self.first_asked(level) };
        let first_until = first.as_ref().map(|_| self.now.plus(peers::FIRST_MICROS));
        let of = match first {
            _ if level == Level::Local => near,
            Some(first) => first,
            None => self.members(),
        };
        let read = Read { items, gather, level, first_until, moment: self.clock, holders };
        self.open(Task::Read(Box::new(read)), Ask::Look(look), of, out);
    }

    /// Those to be asked first: this member and some of the others by turns, who are within reach and were not late. `None` = they do not weigh
    /// enough.
    fn first_asked(&self, level: Level) -> Option<BTreeSet<NodeId>> {
        let is_enough = |nodes: &BTreeSet<NodeId>| {
            self.reads_enough(nodes) && (level != Level::Linearizable || self.writes_enough(nodes))
        };
        let near = self.peers.iter().filter(|(_, peer)| peer.is_near() && peer.late_until <= self.now);
        let near = Vec::from_iter(near.map(|(node, _)| *node));
        let turn = self.rounds.last() as usize % near.len().max(1);
        let mut first: BTreeSet<NodeId> = [self.config.id].into();
        for node in near.iter().cycle().skip(turn).take(near.len()) {
            if is_enough(&first) {
                break;
            }
            first.insert(*node);
        }
        Some(first).filter(is_enough)
    }

    /// Whether some of those that were asked first have not answered, and are still expected to.
    fn waits_for_the_first(&self, round: &Round) -> bool {
        let is_in_time = round.first_until().is_some_and(|until| self.now < until);
        let is_near = |node: &NodeId| self.peers.get(node).is_none_or(Peer::is_near);
        is_in_time
            && matches!(round.ask, Ask::Look(_))
            && !round.is_answered()
            && round.of.iter().all(|node| round.got.contains_key(node) || is_near(node))
    }

    /// Where a round of reads stands.
    pub(super) fn read_goes_on(&mut self, round: &mut Round, is_over: bool, out: &mut Vec<Output>) -> Next {
        if self.waits_for_the_first(round) {
            return Next::Wait;
        }
        let answered = round.answered();
        let Task::Read(read) = &mut round.task else { unreachable!("it is a read") };
        let near = &answered | &(&round.of & &self.within_reach());
        if let (Ask::Look(look), Some(until)) = (&round.ask, read.first_until) {
            let is_late = self.now >= until;
            read.first_until = None;
            let late = (&round.of - &answered).into_iter().filter(|_| is_late);
            late.for_each(|node| self.is_late(node));
            if !self.reads_enough(&answered) {
                return Next::Ask(Ask::Look(look.clone()), self.members());
            }
        }
        let (is_enough, may_be) = match round.ask {
            Ask::Look(_) if read.level == Level::Local => (!answered.is_empty(), true),
            Ask::Look(_) => (self.reads_enough(&answered), self.reads_enough(&near)),
            _ => (self.are_held(&read.holders, &answered), self.are_held(&read.holders, &near)),
        };
        match round.ask {
            _ if !is_enough && (is_over || !may_be) => {
                let what = if matches!(round.ask, Ask::Look(_)) {
                    self.config.votes.read
                } else {
                    self.config.votes.write
                };
                let error = self.too_few("a read", what);
                let refuse = |(token, _)| Output::Refuse { token, error: error.clone() };
                self.reads.open -= read.items.len();
                out.extend(read.items.drain(..).map(refuse));
                Next::End
            }
            _ if !is_enough => Next::Wait,
            Ask::Look(_)
                if !read.gather.take(std::mem::take(&mut round.got)) && !self.has_enough(read, out) =>
            {
                let of = if read.level == Level::Local { [self.config.id].into() } else { self.members() };
                Next::Ask(Ask::Look(read.gather.look()), of)
            }
            Ask::Look(_) if read.level != Level::Linearizable => {
                read.moment = self.clock;
                self.reply(read, &BTreeSet::new(), |_| true, out);
                Next::End
            }
            Ask::Look(_) => self.write_back(read, out),
            _ => {
                self.reply(read, &answered, |_| true, out);
                Next::End
            }
        }
    }

    /// Whether a round has found so much that those of its reads that are known in full are answered first; the others wait again.
    fn has_enough(&mut self, read: &mut Read, out: &mut Vec<Output>) -> bool {
        if read.gather.bytes < BYTES_MAX {
            return false;
        }
        let items = std::mem::take(&mut read.items);
        let (known, later): (Vec<_>, Vec<_>) =
            items.into_iter().partition(|(_, look)| read.gather.knows(look));
        let is_too_large = known.is_empty() && read.gather.bytes >= ANSWER_BYTES_MAX;
        if known.is_empty() && !is_too_large {
            read.items = later;
            return false;
        }
        self.reads.open -= later.len();
        for (token, look) in later.into_iter().rev() {
            match is_too_large {
                true => out.push(Output::Refuse { token, error: too_large(read.gather.bytes) }),
                false => self.reads.waiting.push_front((token, look, read.level)),
            }
        }
        read.items = known;
        true
    }

    /// Answers what enough members hold, and stores the rest at them.
    fn write_back(&mut self, read: &mut Read, out: &mut Vec<Output>) -> Next {
        read.moment = self.clock;
        read.gather.expire(read.moment);
        let mut rows: Vec<Row> = Vec::new();
        for row in read.gather.newest.rows() {
            let holders = read.gather.holders(row);
            if !self.are_enough_for_writes(holders.clone()) && !mutant::is(Mutant::ReadWithoutWriteBack) {
                rows.push(row.clone());
                read.holders.push(holders.collect());
            }
        }
        let reads = read.items.len() as u64;
        let mut missed = Newest::default();
        rows.iter().for_each(|row| {
            missed.add(row.clone());
        });
        let is_held = |look: &Look| match look {
            Look::Keys(keys) => keys.iter().all(|key| missed.get(key).is_none()),
            _ => rows.is_empty(),
        };
        self.reply(read, &BTreeSet::new(), is_held, out);
        let behind = read.items.len() as u64;
        self.counts.write_backs += behind;
        self.counts.skipped += reads - behind;
        if read.items.is_empty() { Next::End } else { Next::Ask(Ask::Store(rows), self.members()) }
    }

    /// Whether each of some rows is at members that weigh W: those that showed it, and those that acknowledged it.
    fn are_held(&self, holders: &[BTreeSet<NodeId>], acknowledged: &BTreeSet<NodeId>) -> bool {
        holders.iter().all(|holders| self.writes_enough(&(holders | acknowledged)))
    }

    /// Answers those reads of a round that may be; `stored` have acknowledged all of its rows.
    fn reply(
        &mut self,
        read: &mut Read,
        stored: &BTreeSet<NodeId>,
        may_be: impl Fn(&Look) -> bool,
        out: &mut Vec<Output>,
    ) {
        let (now, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut read.items).into_iter().partition(|(_, look)| may_be(look));
        read.items = later;
        self.reads.open -= now.len();
        // Those that are answered later need it as well.
        let newest = match read.items.is_empty() {
            true => Arc::new(std::mem::take(&mut read.gather.newest)),
            false => Arc::new(read.gather.newest.clone()),
        };
        for (token, look) in now {
            let copies = self.copies(read, &newest, &look, stored);
            let reached = read.level;
            let staleness_micros = if reached == Level::Local { u64::MAX } else { 0 };
            let outcome = Gathered::Rows { newest: newest.clone(), moment: read.moment };
            let version = read.gather.last;
            out.push(Output::Reply { token, outcome, version, reached, staleness_micros, copies });
        }
    }

    /// How many members hold all that one read is answered.
    fn copies(&self, read: &Read, newest: &Newest, look: &Look, stored: &BTreeSet<NodeId>) -> u32 {
        let of = |row: &Row| {
            let holders = read.gather.holders(row).filter(|node| !stored.contains(node));
            holders.count() + stored.len()
        };
        let least = match look {
            Look::Keys(keys) => keys.iter().filter_map(|key| newest.get(key)).map(of).min(),
            _ => newest.rows().map(of).min(),
        };
        least.unwrap_or(read.gather.heard.len()) as u32
    }

    /// Why a request is not done: too few members are within reach.
    pub(super) fn too_few(&mut self, what: &str, needed: u32) -> Error {
        self.ask_the_silent_soon();
        let (near, all) = (self.weigh(&self.within_reach()), self.weigh(&self.members()));
        Error::Unavailable(format!(
            "{what} needs members of its shard that weigh {needed} of {all}: those within reach weigh {near}, or did not answer in time; \
             nothing happened, try again when more nodes are up"
        ))
    }
}

fn too_large(bytes: usize) -> Error {
    let what = "what the keys of one read hold at all replicas together".into();
    Error::TooLarge { what, size: bytes as u64, limit: ANSWER_BYTES_MAX as u64 }
}

/// What all of them look for: keys together, or one range.
fn of_all(items: &[(Token, Look)]) -> Look {
    let keys =
        |(_, look): &(Token, Look)| if let Look::Keys(keys) = look { keys.clone() } else { Vec::new() };
    match items {
        [(_, look)] => look.clone(),
        _ => Look::Keys(items.iter().flat_map(keys).collect()),
    }
}
