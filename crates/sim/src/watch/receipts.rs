//! Receipts keep what they say (the words of `kv::Receipt`): the level that was reached is no weaker than the one that was asked
//! for, and how stale an answer is lies within its bound; a linearizable answer has the version of every write that was
//! acknowledged before it was asked; a stale one lacks no more than it tells; a write's version is later than all of
//! those, and no other write's; a shard's epoch never falls. (Copies are judged apart: `copies`.)

use std::collections::BTreeMap;
use std::ops::Bound;

use kv::{Class, Epoch, Level, Protocol, ShardId, Version};
use node::route::{Plan, ShardMap};

use super::Told;
use super::rows::Rows;

/// Clocks of nodes may run so much slower or faster than true time, in percent: a staleness is measured by one of them.
const DRIFT_PERCENT: u64 = 10;

/// What was acknowledged.
#[derive(Default)]
pub(crate) struct Receipts {
    /// By shard: when clients learned of writes, and the highest version they had learned of by then.
    acknowledged: BTreeMap<ShardId, BTreeMap<u64, Version>>,
    versions: BTreeMap<(ShardId, Version), String>,
    /// When an epoch was first told of, by shard.
    epochs: BTreeMap<(ShardId, Epoch), u64>,
}

impl Receipts {
    /// A client got an answer: what is wrong with its receipt.
    pub fn told(&mut self, map: &ShardMap, told: &Told<'_>) -> Option<String> {
        let receipt = &told.reply.receipt;
        let above = (
            Bound::Excluded((receipt.shard, receipt.epoch)),
            Bound::Included((receipt.shard, Epoch(u64::MAX))),
        );
        if let Some(((_, epoch), _)) = self.epochs.range(above).find(|(_, at)| **at < told.asked_at) {
            let (shard, now) = (receipt.shard, receipt.epoch);
            return Some(format!(
                "epochs rise: shard {shard} was in epoch {epoch:?}, and later it is in {now:?}"
            ));
        }
        self.epochs.entry((receipt.shard, receipt.epoch)).or_insert(told.now);
        if let Some(why) = level(told) {
            return Some(format!(
                "receipts keep what they say: {:?} was answered with {receipt:?}: {why}",
                told.op
            ));
        }
        let parts = Plan::new(map, told.op.clone()).map_or(0, |plan| plan.parts.len());
        let is_read = told.op.class() == Class::Read;
        // Without an order a version says nothing of the rest of its shard.
        if parts != 1 || told.op.at().is_some() || receipt.protocol.is_merged() {
            return None;
        }
        let since = since(told);
        let floor = self.floor(receipt.shard, since);
        // A participant answers by what it knows of the keys that were asked for.
        let by_key = is_read && receipt.protocol == Protocol::TwoPhase;
        if receipt.version < floor && !by_key || !is_read && receipt.version == floor {
            return Some(format!(
                "receipts keep what they say: {:?} was answered at version {} with {receipt:?}, and {floor} was \
                 acknowledged before {since}",
                told.op, receipt.version
            ));
        }
        if is_read { None } else { self.write(told) }
    }

    /// What is wrong with what a read of several shards was answered.
    pub fn told_over_shards(&self, map: &ShardMap, told: &Told<'_>, rows: &Rows) -> Option<String> {
        if told.op.class() != Class::Read
            || Plan::new(map, told.op.clone()).map_or(0, |plan| plan.parts.len()) < 2
        {
            return None;
        }
        // Each shard answered at some time since the question.
        let since = told.asked_at.saturating_sub(staleness(told));
        let floor = |shard| self.floor(shard, since);
        rows.read_over_shards(map, told.op, &told.reply.answer, floor, told.clock)
    }

    fn write(&mut self, told: &Told<'_>) -> Option<String> {
        let (shard, version) = (told.reply.receipt.shard, told.reply.receipt.version);
        let all = self.acknowledged.entry(shard).or_default();
        let before = all.range(..=told.now).next_back().map_or(Version::ZERO, |(_, version)| *version);
        all.insert(told.now, before.max(version));
        let other = self.versions.insert((shard, version), format!("{:?}", told.op))?;
        Some(format!(
            "versions are unique: {:?} and {other} both have version {version} of shard {shard}",
            told.op
        ))
    }

    /// The highest version that was acknowledged before a time.
    fn floor(&self, shard: ShardId, before: u64) -> Version {
        let all = self.acknowledged.get(&shard);
        all.and_then(|all| all.range(..before).next_back()).map_or(Version::ZERO, |(_, version)| *version)
    }
}

/// What was acknowledged before this time is in the answer.
fn since(told: &Told<'_>) -> u64 {
    match told.reply.receipt.reached {
        Level::Linearizable => told.asked_at,
        _ => told.left.saturating_sub(staleness(told)),
    }
}

/// In true microseconds, at most.
fn staleness(told: &Told<'_>) -> u64 {
    told.reply.receipt.staleness_micros.saturating_mul(100 + DRIFT_PERCENT) / 100
}

/// What is wrong with the level that was reached.
fn level(told: &Told<'_>) -> Option<String> {
    let receipt = &told.reply.receipt;
    let is_read = told.op.class() == Class::Read;
    // Where copies answer for themselves there is one level, and a write is one copy's at first.
    let is_local = receipt.protocol == Protocol::Broadcast;
    let asked = match is_read {
        true if is_local => Level::Local,
        true => told.level,
        false => Level::Linearizable,
    };
    if receipt.asked != asked {
        return Some(format!("{asked} was asked for"));
    }
    let bound_micros = |level: Level| match level {
        Level::Linearizable => 0,
        Level::Bounded(millis) => millis.saturating_mul(1000),
        Level::Local => u64::MAX,
    };
    // A bound of nothing is as good as linearizable, and better is never worse.
    if bound_micros(receipt.reached) > bound_micros(asked) && !is_local {
        return Some(format!("that is weaker than {asked}"));
    }
    let is_beyond = receipt.staleness_micros > bound_micros(receipt.reached);
    is_beyond.then(|| format!("it is staler than {}", receipt.reached))
}
