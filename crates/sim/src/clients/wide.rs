//! Ops over many keys and over time: ranges of all shapes, get-alls and put-alls over shards, delete-ranges, histories, trims;
//! and how a client goes on where an answer stopped.
//!
//! They take the place of some of the workload's ops. Where appended texts are judged as a whole, only keys that stand beside them
//! are removed.

use check::generate::Workload;
use kv::{Answer, Direction, Key, Op, Range, Version};

use super::client::Client;
use crate::world::World;

/// Of single reads in 100, so many become reads of several keys or of a key's history.
const WIDE_PERCENT: u64 = 14;
/// Of writes in 100, so many become a delete-range, a trim or a put-all.
const SWEEP_PERCENT: u64 = 5;

impl World {
    /// What a client asks, some of it over many keys.
    pub(super) fn widened(&mut self, client: usize, op: Op) -> Op {
        let workload = self.workload;
        match op {
            Op::Get { key, at: None } if self.clients[client].random.percent(WIDE_PERCENT) => {
                let before = self.told_version(client, 20);
                self.clients[client].wide_read(key, before)
            }
            op if op.class() != kv::Class::Read && self.clients[client].random.percent(SWEEP_PERCENT) => {
                let below = self.told_version(client, 50);
                match self.clients[client].sweep(workload, op.clone(), below) {
                    // What is lost is to be told to the end.
                    Op::Trim { .. } | Op::TrimRange { .. } if self.forcing.is_some() => op,
                    swept => swept,
                }
            }
            op => op,
        }
    }

    /// In so many of 100 cases a version that a client was told.
    fn told_version(&mut self, client: usize, percent: u64) -> Option<Version> {
        let random = &mut self.clients[client].random;
        let drawn = self.watch.versions.draw(random).map(|(_, version)| version);
        drawn.filter(|_| random.percent(percent))
    }
}

impl Client {
    /// A read at a version that was told with a key.
    pub(super) fn at_version(&mut self, key: Key, version: Version) -> Op {
        let at = Some(version);
        match self.random.below(10) {
            0..5 => Op::Get { key, at },
            5..8 => Op::Range(Range { at, ..self.range(key) }),
            _ => Op::GetAll { keys: vec![key, self.generator.key()], at },
        }
    }

    /// A read that is about more than the newest row of a key.
    fn wide_read(&mut self, key: Key, before: Option<Version>) -> Op {
        match self.random.below(10) {
            0..3 => Op::History { key, limit: self.random.pick(&[0, 1, 2]), before },
            3..5 => Op::GetAll { keys: vec![key.clone(), beside(&key), self.generator.key()], at: None },
            _ => Op::Range(self.range(key)),
        }
    }

    fn range(&mut self, key: Key) -> Range {
        let direction = if self.random.percent(50) { Direction::Forward } else { Direction::Backward };
        let (limit, count_only) = (self.random.pick(&[0, 1, 2, 3, 5]), self.random.percent(25));
        let keys_only = self.random.percent(20);
        let (from, to) = match self.random.below(10) {
            0..5 => (Key::new(), None),
            5..7 => (key, None),
            7..9 => (Key::new(), Some(key)),
            _ => self.bounds(key),
        };
        Range { from, to, direction, limit, page: None, keys_only, count_only, at: None, ledger: false }
    }

    /// Between two keys.
    fn bounds(&mut self, key: Key) -> (Key, Option<Key>) {
        let other = self.generator.key();
        (key.clone().min(other.clone()), Some(key.max(other)))
    }

    /// A write over many keys, or one that forgets.
    fn sweep(&mut self, workload: Workload, op: Op, below: Option<Version>) -> Op {
        let mut key = Key::new();
        op.for_each_key(&mut |named| key = named.clone());
        let is_group = workload == Workload::Batch;
        match (self.random.below(10), op) {
            (0..3, _) => Op::Trim { key, below },
            (3..5, _) => {
                let (from, to) = if self.random.percent(50) { (Key::new(), None) } else { self.bounds(key) };
                Op::TrimRange { from, to, below }
            }
            (_, op) if workload == Workload::Appends => match op {
                // Beside the appended texts, and not beyond: see `deadlines`.
                Op::Update { .. } => {
                    Op::DeleteRange { from: beside(&key), to: Some([&key[..], b"$"].concat().into()) }
                }
                op => op,
            },
            (5..7, Op::Put { value, deadline: None, previous: false, .. }) if !is_group => {
                Op::PutAll { rows: vec![(key, value.clone()), (self.generator.key(), value)] }
            }
            (5..9, _) if is_group => {
                let from = Key::copy_from_slice(&key[..key.len() - 1]);
                let to = Some([&from[..], b"~"].concat().into());
                Op::DeleteRange { from, to }
            }
            (5..9, _) => {
                let to = Some([&key[..], b"$"].concat().into());
                Op::DeleteRange { from: key, to }
            }
            _ => {
                let (from, to) = self.bounds(key);
                Op::DeleteRange { from, to }
            }
        }
    }
}

/// The key that stands beside another.
pub(super) fn beside(key: &Key) -> Key {
    [&key[..], b"#"].concat().into()
}

/// The op that goes on where an answer stopped.
pub(super) fn next_step(op: &Op, answer: &Answer) -> Option<Op> {
    match (op.clone(), answer) {
        (Op::Range(range), Answer::Page(page)) => {
            page.next.clone().map(|next| Op::Range(Range { page: Some(next), ..range }))
        }
        (Op::History { key, limit, .. }, Answer::History { next: Some(next), .. }) => {
            Some(Op::History { key, limit, before: Some(*next) })
        }
        (Op::DeleteRange { to, .. }, Answer::Deleted { next: Some(next), .. }) => {
            Some(Op::DeleteRange { from: next.clone(), to })
        }
        (op @ Op::Trim { .. }, Answer::Trimmed { next: Some(_), .. }) => Some(op),
        (Op::TrimRange { to, below, .. }, Answer::Trimmed { next: Some(next), .. }) => {
            Some(Op::TrimRange { from: next.clone(), to, below })
        }
        _ => None,
    }
}

/// What an answer shows that must come up. `several`: there are several shards.
pub(super) fn notes(op: &Op, answer: &Answer, several: bool) -> Vec<&'static str> {
    let goes_on = next_step(op, answer).is_some();
    let mut notes = Vec::new();
    match (op, answer) {
        (Op::Range(range), Answer::Page(page)) => {
            let backward = range.direction == Direction::Backward;
            for (is_so, what) in [
                (several && goes_on && !backward, "a page over shards ended before its range"),
                (several && goes_on && backward, "a backward page over shards ended before its range"),
                (
                    several && range.page.is_some() && !page.rows.is_empty(),
                    "a range over shards was continued",
                ),
                (several && range.count_only && page.count > 1, "rows were counted over shards"),
                (
                    several && range.at.is_some() && !page.rows.is_empty(),
                    "a range over shards was read at a version",
                ),
            ] {
                notes.extend(is_so.then_some(what));
            }
        }
        (Op::History { before: Some(_), .. }, Answer::History { revisions, .. }) if !revisions.is_empty() => {
            notes.push("a history was continued");
        }
        (Op::DeleteRange { .. }, Answer::Deleted { count, .. }) => {
            notes.extend(goes_on.then_some("a delete-range stopped at its limit"));
            notes.extend((several && *count > 1).then_some("a delete-range removed several keys"));
        }
        (Op::Trim { .. } | Op::TrimRange { .. }, Answer::Trimmed { count, .. }) => {
            notes.extend(goes_on.then_some("a trim stopped at its limit"));
            notes.extend((*count > 0).then_some("a trim forgot revisions"));
        }
        (Op::PutAll { .. }, Answer::Many(_)) if several => notes.push("a put-all was done"),
        _ => {}
    }
    notes
}
