//! Writes: what is there is looked at, rows are made above it, and stored until their holders weigh W.
//!
//! ```text
//!   looks ────────── R have answered ──▶ rows are made ──▶ stores ─── W have acknowledged ──▶ done
//!     │ too few, or too late                 │ too few are near    │ too few, or too late
//!     ▼                                      ▼                     ▼
//!   failed: nothing was sent               failed                in doubt
//! ```
//!
//! A write that removes nothing makes no row: what it found is stored in its place, if it is not at W yet, as a read does.
//!
//! What becomes of one that is sent again is told by its bond ([`bonds`](super::bonds)).

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use kv::merged::{self, Look, Row};
use kv::{Answer, Error, Level, NodeId, Op, Protocol, RequestId, Stamped, Version};
use mutant::Mutant;

use super::bonds::{Bond, Bonds};
use super::gather::Gather;
use super::message::Step;
use super::rounds::{Ask, Next, Round, Task};
use super::{Quorum, bonds, seal};
use crate::issue::NotNow;
use crate::{ENTRY_BYTES_MAX, ENTRY_OPS_MAX, Gathered, Output, QUEUE_BYTES_MAX, QUEUE_OPS_MAX, Token};

/// So many rounds of writes look at the same time; what comes meanwhile shares the next one.
const LOOKING_MAX: usize = 2;
/// The keys of one round, beyond those of its first write.
const KEYS_MAX: usize = 4096;

/// Writes that wait for their round.
#[derive(Debug, Default)]
pub(super) struct Writes {
    waiting: VecDeque<Item>,
    bytes: usize,
    /// What is known of those that had one.
    pub(super) bonds: Bonds,
}

/// A write.
#[derive(Debug)]
struct Item {
    tokens: Vec<Token>,
    id: Option<RequestId>,
    op: Op,
    bytes: usize,
}

/// The writes of one round.
#[derive(Debug)]
pub(super) struct Write {
    /// The number of its round.
    number: u64,
    items: VecDeque<Item>,
    gather: Gather,
    is_gathered: bool,
    made: Vec<Made>,
    rows: Vec<Row>,
    /// Who holds each row already.
    holders: Vec<BTreeSet<NodeId>>,
    done: bool,
}

/// A write whose rows are made.
#[derive(Debug)]
struct Made {
    tokens: Vec<Token>,
    id: Option<RequestId>,
    answer: Answer,
    version: Version,
    rows: Vec<Row>,
}

impl Write {
    /// Whether it is answered: what follows is for members that have not acknowledged it.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// Whether all is known that its rows are made of.
    pub(super) fn is_gathered(&self) -> bool {
        self.is_gathered
    }

    fn tokens(&self) -> impl Iterator<Item = Token> {
        let items = self.items.iter().flat_map(|item| item.tokens.iter());
        items.chain(self.made.iter().flat_map(|made| made.tokens.iter())).copied()
    }
}

impl Quorum {
    /// Takes writes in.
    pub(super) fn propose(&mut self, ops: Vec<(Token, Bytes)>, out: &mut Vec<Output>) {
        for (token, op) in ops {
            if let Err(error) = self.take_write(token, &op, out) {
                out.push(Output::Refuse { token, error });
            }
        }
    }

    fn take_write(&mut self, token: Token, bytes: &Bytes, out: &mut Vec<Output>) -> Result<(), Error> {
        if self.seal.is_some() {
            return Err(Error::WrongNode { try_next: None });
        }
        let Stamped { id, op } = Stamped::decode(bytes).map_err(|why| Error::Invalid(why.to_string()))?;
        if let Some(why) = merged::refusal(Protocol::Quorum, &op)
            .or_else(|| merged::look(&op).is_none().then_some("this is no write of keys"))
        {
            return Err(Error::Invalid(why.into()));
        }
        if self.writes.waiting.len() >= QUEUE_OPS_MAX || self.writes.bytes + bytes.len() > QUEUE_BYTES_MAX {
            return Err(Error::Unavailable(
                "cannot take the write: too many wait already; nothing happened, try again in a moment"
                    .into(),
            ));
        }
        match id.map(|id| self.writes.bonds.bind(&id, self.clock)).transpose()?.flatten() {
            None => {
                self.writes.bytes += bytes.len();
                self.writes.waiting.push_back(Item { tokens: vec![token], id, op, bytes: bytes.len() });
            }
            Some(Bond::Open) => self.join(token, &id.expect("what is bound has an id")),
            Some(Bond::Made { rows, answer, version, round }) => {
                let made = Made { tokens: vec![token], id, answer, version, rows: rows.clone() };
                self.store_again(made, rows, round, out);
            }
            Some(Bond::Done { answer, version, copies }) => out.push(done(token, answer, version, copies)),
            Some(Bond::Over) => return Err(bonds::too_old()),
        }
        Ok(())
    }

    /// A request that is under way came again: who sent it again is answered too.
    fn join(&mut self, token: Token, id: &RequestId) {
        let is_it = |other: &Option<RequestId>| {
            other.is_some_and(|other| (other.client, other.sequence) == (id.client, id.sequence))
        };
        if let Some(item) = self.writes.waiting.iter_mut().find(|item| is_it(&item.id)) {
            return item.tokens.push(token);
        }
        self.rounds.each_write(|write| {
            let items = write.items.iter_mut().filter(|item| is_it(&item.id)).map(|item| &mut item.tokens);
            let made = write.made.iter_mut().filter(|made| is_it(&made.id)).map(|made| &mut made.tokens);
            items.chain(made).for_each(|tokens| tokens.push(token));
        });
    }

    /// The rows of a request that was made before are stored again.
    fn store_again(&mut self, made: Made, rows: Vec<Row>, number: u64, out: &mut Vec<Output>) {
        if !self.writes_enough(&self.within_reach()) {
            return out
                .extend(made.tokens.into_iter().map(|token| Output::Refuse { token, error: in_doubt() }));
        }
        let (gather, holders) = (Gather::new(Look::Keys(Vec::new())), vec![BTreeSet::new(); rows.len()]);
        let made = vec![made];
        let (items, is_gathered, done) = (VecDeque::new(), true, false);
        let write = Write { number, items, gather, is_gathered, made, rows: Vec::new(), holders, done };
        self.open(Task::Write(Box::new(write)), Ask::Store(rows), self.members(), out);
    }

    /// Nobody waits for a write any more. Whether it had no round yet: then nothing happens of it.
    pub(super) fn forget_write(&mut self, token: Token) -> bool {
        let Some(place) = self.writes.waiting.iter().position(|item| item.tokens == [token]) else {
            return false;
        };
        if let Some(item) = self.writes.waiting.remove(place) {
            self.writes.bytes -= item.bytes;
            self.writes.bonds.refuse(item.id);
        }
        true
    }

    /// All writes that have no round are turned away.
    pub(super) fn turn_writes_away(&mut self, out: &mut Vec<Output>) {
        self.writes.bytes = 0;
        let waiting = std::mem::take(&mut self.writes.waiting);
        out.extend(waiting.into_iter().flat_map(|item| item.tokens).map(seal::elsewhere));
    }

    /// The end of the epoch comes before the end of a round of writes.
    pub(super) fn break_off(&mut self, write: &Write, is_stored: bool, out: &mut Vec<Output>) {
        if !write.done {
            let refuse = |token| {
                if is_stored { Output::Refuse { token, error: in_doubt() } } else { seal::elsewhere(token) }
            };
            out.extend(write.tokens().map(refuse));
        }
    }

    /// Opens rounds for what waits, as many as may be.
    pub(super) fn begin_writes(&mut self, out: &mut Vec<Output>) {
        let is_looking = |round: &Round| matches!((&round.task, &round.ask), (Task::Write(_), Ask::Look(_)));
        while !self.writes.waiting.is_empty() && self.rounds.count_of(is_looking) < LOOKING_MAX {
            let items = self.next_writes();
            let near = self.within_reach();
            let votes = self.config.votes;
            if let Some(needed) = (!self.writes_enough(&near))
                .then_some(votes.write)
                .or_else(|| (!self.reads_enough(&near)).then_some(votes.read))
            {
                self.store_failed(&items);
                self.fail(items.into_iter().map(|item| (item.tokens, item.id)), needed, out);
                continue;
            }
            self.want_ceiling(Version::ZERO);
            let looks = Vec::from_iter(items.iter().filter_map(|item| merged::look(&item.op)));
            let look = match <[Look; 1]>::try_from(looks) {
                Ok([look]) => look,
                Err(looks) => Look::Keys(looks.into_iter().flat_map(keys).collect()),
            };
            let gather = Gather::bare(look);
            let look = gather.look();
            let (is_gathered, done) = Default::default();
            let (made, rows, holders) = Default::default();
            let number = self.rounds.last() + 1;
            let write = Write { number, items, gather, is_gathered, made, rows, holders, done };
            self.open(Task::Write(Box::new(write)), Ask::Look(look), self.members(), out);
        }
    }

    /// A defect, for tests of the tests: what has failed is stored here all the same.
    fn store_failed(&mut self, items: &VecDeque<Item>) {
        if !mutant::is(Mutant::FailedWriteStored) {
            return;
        }
        self.want_ceiling(Version::ZERO);
        for item in items {
            if let Ok(version) = self.issue.next(self.clock, Version::ZERO) {
                let rows = merged::make(&item.op, version, &Default::default());
                self.store_own(Step { round: 0, step: 0 }, rows);
            }
        }
    }

    /// The writes of the next round.
    fn next_writes(&mut self) -> VecDeque<Item> {
        let (mut items, mut bytes, mut count) = (VecDeque::new(), 0, 0);
        while let Some(item) = self.writes.waiting.pop_front() {
            let keys = if is_wide(&item.op) {
                KEYS_MAX
            } else {
                merged::look(&item.op).map_or(0, |look| keys(look).len())
            };
            let is_full = items.len() >= ENTRY_OPS_MAX
                || bytes + item.bytes > ENTRY_BYTES_MAX
                || count + keys > KEYS_MAX;
            if is_full && !items.is_empty() {
                self.writes.waiting.push_front(item);
                break;
            }
            (bytes, count) = (bytes + item.bytes, count + keys);
            self.writes.bytes -= item.bytes;
            items.push_back(item);
        }
        items
    }

    /// Where a round of writes stands.
    pub(super) fn write_goes_on(&mut self, round: &mut Round, is_over: bool, out: &mut Vec<Output>) -> Next {
        let answered = round.answered();
        let near = &answered | &(&round.of & &self.within_reach());
        let is_look = matches!(round.ask, Ask::Look(_));
        let Task::Write(write) = &mut round.task else { unreachable!("it is a write") };
        if is_look {
            if !write.is_gathered && !self.reads_enough(&answered) {
                if !is_over && self.reads_enough(&near) {
                    return Next::Wait;
                }
                return self.give_up(write, self.config.votes.read, out);
            }
            if !write.is_gathered && !write.gather.take(std::mem::take(&mut round.got)) {
                return Next::Ask(Ask::Look(write.gather.look()), self.members());
            }
            write.is_gathered = true;
            return self.make(write, is_over, out);
        }
        let is_held = |nodes: &BTreeSet<NodeId>| {
            write.holders.iter().all(|holders| self.writes_enough(&(holders | nodes)))
        };
        if !write.done && is_held(&answered) {
            self.written(write, &answered, out);
        } else if !write.done && (is_over || !is_held(&near)) {
            write.done = true;
            let tokens = write.made.iter_mut().flat_map(|made| std::mem::take(&mut made.tokens));
            out.extend(tokens.map(|token| Output::Refuse { token, error: in_doubt() }));
        }
        let waits = near.iter().any(|node| !answered.contains(node));
        if waits && !is_over { Next::Wait } else { Next::End }
    }

    /// Makes the rows of a round whose looks were answered.
    fn make(&mut self, write: &mut Write, is_over: bool, out: &mut Vec<Output>) -> Next {
        self.want_ceiling(write.gather.last);
        while let Some(item) = write.items.pop_front() {
            let version = match self.issue.next(self.clock, write.gather.last) {
                Ok(version) => version,
                Err(NotNow::Unsynced) if !is_over => {
                    write.items.push_front(item);
                    return Next::Wait;
                }
                Err(why) => {
                    let error = not_issued(why);
                    self.writes.bonds.refuse(item.id);
                    out.extend(
                        item.tokens.into_iter().map(|token| Output::Refuse { token, error: error.clone() }),
                    );
                    continue;
                }
            };
            match is_wide(&item.op) {
                true => write.gather.expire(version),
                false => item.op.for_each_key(&mut |key| write.gather.expire_key(key, version)),
            }
            let answer =
                merged::answer(&item.op, version, &write.gather.newest).expect("a write of keys is answered");
            let mut rows = merged::make(&item.op, version, &write.gather.newest);
            let gone = match rows.is_empty() || is_wide(&item.op) {
                true => self.found_gone(&write.gather, &item.op, version),
                false => Vec::new(),
            };
            write.holders.extend(rows.iter().map(|_| BTreeSet::new()));
            write.rows.extend(rows.iter().cloned());
            rows.iter().for_each(|row| write.gather.made(row.clone()));
            for (row, holders) in gone {
                rows.push(row.clone());
                write.rows.push(row);
                write.holders.push(holders);
            }
            write.made.push(Made { tokens: item.tokens, id: item.id, answer, version, rows });
        }
        if !self.writes_enough(&self.within_reach()) {
            return self.give_up(write, self.config.votes.write, out);
        }
        for Made { id, rows, answer, version, .. } in &write.made {
            let (rows, answer, version, round) = (rows.clone(), answer.clone(), *version, write.number);
            let copies = write.gather.heard.len() as u32;
            let bond = match rows.is_empty() {
                true => Bond::Done { answer, version, copies },
                false => Bond::Made { rows, answer, version, round },
            };
            self.writes.bonds.is_now(id.as_ref(), bond);
        }
        if write.rows.is_empty() {
            let heard = write.gather.heard.clone();
            self.written(write, &heard, out);
            return Next::End;
        }
        Next::Ask(Ask::Store(std::mem::take(&mut write.rows)), self.members())
    }

    /// What a delete found gone already, or a put whose deadline has passed, has to be where later readers look.
    fn found_gone(&self, gather: &Gather, op: &Op, version: Version) -> Vec<(Row, BTreeSet<NodeId>)> {
        let rows: Vec<&Row> = match op {
            Op::Delete { key, .. } | Op::Put { key, .. } => gather.newest.get(key).into_iter().collect(),
            Op::DeleteRange { .. } => gather.newest.rows().collect(),
            _ => return Vec::new(),
        };
        let gone = rows.into_iter().filter(|row| !row.is_live_at(version));
        let held = gone.map(|row| (row.clone(), gather.holders(row).collect()));
        held.filter(|(_, holders)| !self.writes_enough(holders)).collect()
    }

    /// The rows of a round are at members that weigh W.
    fn written(&mut self, write: &mut Write, holders: &BTreeSet<NodeId>, out: &mut Vec<Output>) {
        write.done = true;
        let copies = holders.len() as u32;
        for Made { tokens, id, answer, version, .. } in &mut write.made {
            let tokens = std::mem::take(tokens).into_iter();
            out.extend(tokens.map(|token| done(token, answer.clone(), *version, copies)));
            let (answer, version) = (answer.clone(), *version);
            self.writes.bonds.is_now(id.as_ref(), Bond::Done { answer, version, copies });
        }
    }

    /// A round of writes ends before anything of it was sent.
    fn give_up(&mut self, write: &mut Write, needed: u32, out: &mut Vec<Output>) -> Next {
        let items = std::mem::take(&mut write.items).into_iter().map(|item| (item.tokens, item.id));
        let made = std::mem::take(&mut write.made).into_iter().map(|made| (made.tokens, made.id));
        self.fail(items.chain(made), needed, out);
        Next::End
    }

    fn fail(
        &mut self,
        writes: impl Iterator<Item = (Vec<Token>, Option<RequestId>)>,
        needed: u32,
        out: &mut Vec<Output>,
    ) {
        let error = self.too_few("a write", needed);
        for (tokens, id) in writes {
            self.writes.bonds.refuse(id);
            out.extend(tokens.into_iter().map(|token| Output::Refuse { token, error: error.clone() }));
        }
    }

    /// Has the log say up to where versions are issued, if that is needed.
    fn want_ceiling(&mut self, seen: Version) {
        if let Some(ceiling) = self.issue.raise(self.clock, seen) {
            self.ceiling = Some(ceiling);
        }
    }
}

fn keys(look: Look) -> Vec<kv::Key> {
    if let Look::Keys(keys) = look { keys } else { Vec::new() }
}

/// Whether it is a write of a range, which has a round of its own.
fn is_wide(op: &Op) -> bool {
    matches!(op, Op::DeleteRange { .. })
}

fn done(token: Token, answer: Answer, version: Version, copies: u32) -> Output {
    let (outcome, reached) = (Gathered::Written(answer), Level::Linearizable);
    Output::Reply { token, outcome, version, reached, staleness_micros: 0, copies }
}

fn in_doubt() -> Error {
    Error::InDoubt(
        "members of the shard that weigh enough did not acknowledge the write in time: it may have happened, or may yet; read to see what \
         is there before you write again"
            .into(),
    )
}

fn not_issued(why: NotNow) -> Error {
    Error::Unavailable(match why {
        NotNow::Unsynced => {
            "the log of this node is too slow: nothing happened, try again in a moment".into()
        }
        NotNow::Ahead(micros) => format!(
            "versions of this shard are {} s ahead of this node's clock: set the clocks of the nodes right; nothing happened",
            micros / 1_000_000
        ),
    })
}
