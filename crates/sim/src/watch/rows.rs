//! What is answered is what was there: worked out from the entries of a shard, apart from the table.
//!
//! Of each key all rows are kept that its entries made ([`Timeline`]). An answer tells in its receipt the version of the shard that
//! it saw, so what it must show is known: a key's row at that version, unless its deadline lies at or before that version; nor
//! may it show one whose deadline lies at or before the clock of the node that answers less the staleness that it tells, and it
//! must show one that no node's clock has reached (the promise of `kv::Receipt`). How reads are judged by it stands in `shown`.
//!
//! What a shard keeps of its keys, and how long values last, follows from the entries that said so ([`kv::keyspace::Rules`]).
//!
//! Writes are judged as they are applied: what a delete-range, a trim, a delete or an expire says that it met.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use kv::keyspace::{Keep, Rules};
use kv::{
    Answer, Entry, Error, Function, Key, Op, RequestId, ShardId, Side, Slot, SlotRange, Value, Version,
};
use storage::{History, Options};

use super::timeline::{Forgot, Life, Timeline};

/// The rows of all shards, at all versions.
pub(crate) struct Rows {
    shards: BTreeMap<ShardId, Shard>,
    options: Options,
    /// The parts of shards that are cut: of which shard, and their slots.
    parts: BTreeMap<ShardId, (ShardId, SlotRange)>,
    /// What requests did, where they ran: by client and sequence.
    pub(super) done: BTreeMap<(u64, u64), BTreeMap<ShardId, Ran>>,
}

/// What a request did in a shard: its version, and its answer.
pub(super) type Ran = (Version, Answer);

/// The rows of one.
#[derive(Clone, Default)]
pub(super) struct Shard {
    /// The last entry that was taken in, and the newest version.
    applied: u64,
    last: Version,
    pub keys: BTreeMap<Key, Timeline>,
    /// What it goes by, since which version; before, as the cluster was founded.
    rules: Vec<(Version, Keep)>,
}

impl Default for Rows {
    fn default() -> Rows {
        Rows {
            shards: BTreeMap::new(),
            options: Options::of(History::All),
            parts: BTreeMap::new(),
            done: BTreeMap::new(),
        }
    }
}

impl Rows {
    /// How the tables keep their rows.
    pub fn kept_by(&mut self, options: Options) {
        self.options = options;
    }

    /// A shard is being cut; one of its parts.
    pub fn is_cut(&mut self, from: ShardId, part: ShardId, slots: SlotRange) {
        self.parts.insert(part, (from, slots));
    }

    /// A part of a shard begins, and with it all others: with what the shard had of their slots.
    pub fn begin_part(&mut self, part: ShardId) {
        let Some((from, _)) = self.parts.get(&part).copied() else { return };
        if self.shards.contains_key(&part) {
            return;
        }
        let whole = self.shards.get(&from).cloned().unwrap_or_default();
        for (part, (_, slots)) in self.parts.iter().filter(|(_, (of, _))| *of == from) {
            let mut shard = whole.clone();
            shard.keys.retain(|key, _| (slots.first..=slots.last).contains(&Slot::of(key)));
            self.shards.insert(*part, shard);
        }
    }

    /// How a shard keeps its rows at a version.
    pub(super) fn options(&self, shard: &Shard, at: Version) -> Options {
        self.options.ruled_by(&shard.keep_at(at))
    }

    /// A shard; a part that has not begun is what it is cut from.
    pub(super) fn shard(&self, shard: ShardId) -> Option<&Shard> {
        self.shards.get(&shard).or_else(|| self.shard(self.parts.get(&shard)?.0))
    }

    /// The newest version of a shard.
    pub fn newest(&self, shard: ShardId) -> Version {
        self.shard(shard).map_or(Version::ZERO, Shard::last)
    }

    /// A shard, what it was cut from, what that was cut from.
    pub(super) fn line_of(&self, shard: ShardId) -> impl Iterator<Item = ShardId> + '_ {
        std::iter::successors(Some(shard), |shard| Some(self.parts.get(shard)?.0))
    }

    /// What ops of versions above one made of keys: rows, and deletions that they found something for.
    pub(super) fn revisions_since(
        &self,
        shard: ShardId,
        before: Version,
    ) -> Vec<(Key, Version, Option<Life>)> {
        let Some(shard) = self.shards.get(&shard) else { return Vec::new() };
        let of_key = |(key, timeline): (&Key, &Timeline)| {
            let made = timeline.changes_since(before).iter();
            let made = made.filter(|change| change.version.replica().0 > 0);
            made.map(|change| (key.clone(), change.version, change.row.clone())).collect::<Vec<_>>()
        };
        shard.keys.iter().flat_map(of_key).collect()
    }

    /// The rows that a shard has now, of those without a deadline.
    pub fn present(&self, shard: ShardId) -> BTreeMap<Key, Value> {
        let Some(shard) = self.shards.get(&shard) else { return BTreeMap::new() };
        let live =
            |timeline: &Timeline| timeline.live(shard.last).filter(|life| life.deadline.is_none()).cloned();
        let rows = shard.keys.iter().filter_map(|(key, timeline)| Some((key.clone(), live(timeline)?.value)));
        rows.collect()
    }

    /// Of all shards, the keys between two that ever had a row.
    pub fn keys_between(&self, from: &Key, to: Option<&Key>) -> Vec<Key> {
        let keys = self.shards.values().flat_map(|shard| shard.between(from, to));
        keys.map(|(key, _)| key.clone()).collect()
    }

    /// An entry was applied, perhaps not for the first time: what is wrong with what its ops were answered.
    pub fn applied(
        &mut self,
        id: ShardId,
        index: u64,
        entry: &Bytes,
        results: &[(Result<Answer, Error>, Version)],
    ) -> Vec<String> {
        let (mut wrong, founded) = (Vec::new(), self.options);
        let shard = self.shards.entry(id).or_default();
        if index <= shard.applied {
            return wrong;
        }
        shard.applied = index;
        // An entry without ops has no bytes.
        let ops = Entry::decode(entry).map(|entry| entry.ops).unwrap_or_default();
        for (stamped, (result, version)) in ops.iter().zip(results) {
            // A request that is answered as before has the version of before.
            if let (Ok(answer), true) = (result, *version > shard.last) {
                shard.rule(*version, &stamped.op, &founded);
                let keep = shard.keep_at(*version);
                let (options, ttl_micros) = (founded.ruled_by(&keep), keep.ttl_micros);
                let mut change = ChangeOf { shard: &mut *shard, version: *version, options, ttl_micros };
                if let Err(why) = change.run(&stamped.op, answer) {
                    wrong.push(format!(
                        "what is done is what was asked: {:?} was answered {answer:?} by shard {id} at {version}: {why}",
                        stamped.op
                    ));
                }
                if let Some(RequestId { client, sequence, .. }) = stamped.id {
                    let ran = (*version, answer.clone());
                    self.done.entry((client, sequence)).or_default().insert(id, ran);
                }
            }
            shard.last = shard.last.max(*version);
        }
        wrong
    }
}

impl Shard {
    pub fn last(&self) -> Version {
        self.last
    }

    /// The keys between two that ever had a row, in order.
    pub fn between(
        &self,
        from: &Key,
        to: Option<&Key>,
    ) -> impl DoubleEndedIterator<Item = (&Key, &Timeline)> {
        let is_empty = to.is_some_and(|to| to <= from);
        let to = to.filter(|_| !is_empty).map_or(Bound::Unbounded, |to| Bound::Excluded(to.clone()));
        self.keys.range((Bound::Included(from.clone()), to)).filter(move |_| !is_empty)
    }

    /// What it goes by at a version.
    fn keep_at(&self, version: Version) -> Keep {
        let place = self.rules.partition_point(|(since, _)| *since <= version);
        self.rules[..place].last().map(|(_, keep)| *keep).unwrap_or_default()
    }

    /// An op of this version may have it go by something else.
    fn rule(&mut self, version: Version, op: &Op, founded: &Options) {
        let Op::Advance { rules: Some(Rules { keep, .. }), .. } = op else { return };
        let before = self.keep_at(self.last);
        if before == *keep {
            return;
        }
        let options = founded.ruled_by(&before);
        if options != founded.ruled_by(keep) {
            self.keys.values_mut().for_each(|timeline| timeline.ruled_anew(version, &options));
        }
        self.rules.push((version, *keep));
    }

    /// No version is known to be wholly kept below this.
    pub fn floor(&self, options: &Options) -> Version {
        let of_key = |timeline: &Timeline| timeline.forgotten_deletion(self.last, options);
        self.keys.values().map(of_key).max().unwrap_or_default()
    }
}

/// An op of a version that changes a shard.
struct ChangeOf<'a> {
    shard: &'a mut Shard,
    version: Version,
    options: Options,
    /// How long a value lasts that is stored without a deadline.
    ttl_micros: Option<u64>,
}

impl ChangeOf<'_> {
    fn run(&mut self, op: &Op, answer: &Answer) -> Result<(), String> {
        match (op, answer) {
            (Op::Put { key, value, deadline, .. }, _) => self.store(key, value.clone(), *deadline),
            (Op::PutAll { rows }, _) => {
                rows.iter().for_each(|(key, value)| self.store(key, value.clone(), None));
            }
            (Op::Delete { key, .. }, Answer::Deleted { count, .. }) => {
                let was_there = u64::from(self.live(key).is_some());
                self.bury(key);
                return agree(*count, was_there, was_there);
            }
            (Op::DeleteRange { from, to }, Answer::Deleted { count, next, .. }) => {
                return self.delete_range(from, to.as_ref(), *count, next.as_ref());
            }
            (Op::Expire { key, deadline }, Answer::Expire(found)) => {
                let life = self.live(key).cloned();
                let was_there = u64::from(life.is_some());
                if let Some(life) = life.filter(|life| life.deadline != *deadline) {
                    self.set(key, life.value, *deadline);
                }
                return agree(u64::from(*found), was_there, was_there);
            }
            (Op::Trim { key, below }, Answer::Trimmed { count, next }) => {
                return self.trim(key, *below, *count, next.as_ref());
            }
            (Op::TrimRange { from, to, below }, Answer::Trimmed { count, next }) => {
                return self.trim_range((from, to.as_ref()), *below, *count, next.as_ref());
            }
            (Op::Update { key, function }, answer) => self.update(key, function, answer),
            (Op::Transaction { then, otherwise, .. }, Answer::Transaction { succeeded, answers }) => {
                let ops = if *succeeded { then } else { otherwise };
                return ops.iter().zip(answers).try_for_each(|(op, answer)| self.run(op, answer));
            }
            _ => {}
        }
        Ok(())
    }

    fn update(&mut self, key: &Key, function: &Function, answer: &Answer) {
        let found = self.live(key).cloned();
        let kept = found.as_ref().map_or_else(|| self.deadline(None), |life| life.deadline);
        let text = found.map(|life| life.value).unwrap_or_default();
        match (function, answer) {
            (Function::Append { side: Side::Left, value }, _) => {
                self.set(key, [&value[..], &text].concat().into(), kept)
            }
            (Function::Append { side: Side::Right, value }, _) => {
                self.set(key, [&text[..], value].concat().into(), kept)
            }
            (Function::Increment { .. }, Answer::Number(sum)) => self.set(key, sum.to_string().into(), kept),
            (Function::Pop { side, .. }, Answer::Popped(Some(popped))) if !popped.is_empty() => {
                let taken = popped.len().min(text.len());
                let left = match side {
                    Side::Left => text.slice(taken..),
                    Side::Right => text.slice(..text.len() - taken),
                };
                self.set(key, left, kept);
            }
            (
                Function::Insert { value, deadline } | Function::CompareAndPut { value, deadline, .. },
                Answer::Condition { met: true, .. },
            ) => self.store(key, value.clone(), *deadline),
            _ => {}
        }
    }

    fn delete_range(
        &mut self,
        from: &Key,
        to: Option<&Key>,
        count: u64,
        next: Option<&Key>,
    ) -> Result<(), String> {
        let live = |(key, timeline): (&Key, &Timeline)| timeline.live(self.version).map(|_| key.clone());
        let keys: Vec<Key> = self.shard.between(from, next.or(to)).filter_map(live).collect();
        keys.iter().for_each(|key| self.bury(key));
        let there = keys.len() as u64;
        match next {
            Some(next) if next <= from || to.is_some_and(|to| next >= to) => {
                Err(format!("it goes on at {next:?}"))
            }
            Some(_) if count < self.options.step_max as u64 => Err("it stops before its limit".into()),
            _ => agree(count, there, there),
        }
    }

    fn trim(
        &mut self,
        key: &Key,
        below: Option<Version>,
        count: u64,
        next: Option<&Key>,
    ) -> Result<(), String> {
        let (version, options) = (self.version, self.options);
        let Some(timeline) = self.shard.keys.get_mut(key) else { return agree(count, 0, 0) };
        let surplus = timeline.surplus(version, below, &options);
        let forgot = next.map_or(Forgot::All, |_| Forgot::Some(count as usize));
        timeline.trimmed(version, surplus, forgot, &options);
        match next {
            Some(next) if next != key => Err(format!("it goes on at {next:?}")),
            Some(_) if count < options.step_max as u64 => Err("it stops before its limit".into()),
            Some(_) if surplus.most as u64 <= count => Err("it goes on, and there is no more".into()),
            Some(_) => Ok(()),
            None => agree(count, surplus.least as u64, surplus.most as u64),
        }
    }

    /// All keys before the one where it goes on are done, and that one in part.
    fn trim_range(
        &mut self,
        (from, to): (&Key, Option<&Key>),
        below: Option<Version>,
        count: u64,
        next: Option<&Key>,
    ) -> Result<(), String> {
        let (version, options) = (self.version, self.options);
        let (mut least, mut most, mut taken) = (0, 0, 0);
        let done: Vec<Key> = self.shard.between(from, next.or(to)).map(|(key, _)| key.clone()).collect();
        for key in done {
            let timeline = self.shard.keys.get_mut(&key).expect("it was just found");
            taken += u64::from(timeline.may_be_wanted(version));
            let surplus = timeline.surplus(version, below, &options);
            timeline.trimmed(version, surplus, Forgot::All, &options);
            (least, most) = (least + surplus.least as u64, most + surplus.most as u64);
        }
        let Some(next) = next else { return agree(count, least, most) };
        if let Some(timeline) = self.shard.keys.get_mut(next) {
            let surplus = timeline.surplus(version, below, &options);
            let known = (least == most).then(|| count.saturating_sub(least) as usize);
            timeline.trimmed(version, surplus, known.map_or(Forgot::Part, Forgot::Some), &options);
            most += surplus.most as u64;
        }
        if count.max(taken) < options.step_max as u64 {
            return Err("it stops before its limit".into());
        }
        agree(count, least, most)
    }

    fn live(&self, key: &Key) -> Option<&Life> {
        self.shard.keys.get(key)?.live(self.version)
    }

    /// A value without a deadline lasts as long as the keyspace says.
    fn deadline(&self, said: Option<u64>) -> Option<u64> {
        said.or_else(|| Some(self.version.micros() + self.ttl_micros?))
    }

    fn store(&mut self, key: &Key, value: Value, deadline: Option<u64>) {
        self.set(key, value, self.deadline(deadline));
    }

    fn set(&mut self, key: &Key, value: Value, deadline: Option<u64>) {
        let timeline = self.shard.keys.entry(key.clone()).or_default();
        timeline.set(self.version, Some(Life { value, deadline }), &self.options);
    }

    fn bury(&mut self, key: &Key) {
        if let Some(timeline) = self.shard.keys.get_mut(key) {
            timeline.set(self.version, None, &self.options);
        }
    }
}

/// Whether a count is one that may be told.
fn agree(told: u64, least: u64, most: u64) -> Result<(), String> {
    match (least..=most).contains(&told) {
        true => Ok(()),
        false => Err(format!("it tells {told}, and there were {least} to {most}")),
    }
}
