//! Watches are given every change, once, in the order of its shard, with what it made of its key; and nothing else.
//!
//! What changes is taken from the first replica that applies an entry, and compared with the rows that its ops made ([`Rows`]),
//! which are worked out apart from the table; every other replica must change the same. A batch that a watch is given must bring
//! just what lies between where its slots were and where it says that they are.

use std::collections::{BTreeMap, BTreeSet};

use kv::watch::{Change, Filter, Reach, What};
use kv::{Key, ShardId, Slot, SlotRange, Version};

use super::rows::Rows;

/// All changes of all shards.
#[derive(Default)]
pub(crate) struct Changes {
    shards: BTreeMap<ShardId, Shard>,
    /// The parts of shards that are cut: of which, and their slots.
    parts: BTreeMap<ShardId, (ShardId, SlotRange)>,
    /// Shards of keyspaces that nobody watches.
    unwatched: BTreeSet<ShardId>,
}

#[derive(Clone, Default)]
struct Shard {
    /// Up to which version it is known.
    last: Version,
    changes: Vec<Change>,
    /// Behind the changes of each entry, by its index.
    ends: Vec<(u64, usize)>,
    /// What became of each key last.
    newest: BTreeMap<Key, What>,
}

impl Changes {
    /// A shard is being cut: a part of it.
    pub fn is_cut(&mut self, from: ShardId, part: ShardId, slots: SlotRange) {
        self.parts.insert(part, (from, slots));
    }

    /// Nobody watches the keyspace of this shard.
    pub fn leave_out(&mut self, shard: ShardId) {
        self.unwatched.insert(shard);
    }

    /// A shard as it begins: a part with what became of its keys before.
    fn begun(&self, id: ShardId) -> Shard {
        let Some((from, slots)) = self.parts.get(&id) else { return Shard::default() };
        // What it is a part of may have changed nothing since that was a part itself.
        let whole = self.shards.get(from).cloned().unwrap_or_else(|| self.begun(*from));
        let mut newest = whole.newest;
        newest.retain(|key, _| slots.contains(Slot::of(key)));
        Shard { last: self.last(*from), newest, ..Shard::default() }
    }

    /// An entry was applied, perhaps not for the first time: what is wrong with what it changed. The rows know of it.
    pub fn applied(
        &mut self,
        id: ShardId,
        index: u64,
        changes: &[Change],
        last: Version,
        rows: &Rows,
    ) -> Vec<String> {
        if !self.shards.contains_key(&id) {
            self.shards.insert(id, self.begun(id));
        }
        let shard = self.shards.get_mut(&id).expect("it was just begun");
        if shard.ends.last().is_some_and(|(newest, _)| index <= *newest) {
            let same = shard.of_entry(index) == changes;
            return Vec::from_iter((!same).then(|| {
                format!("all replicas change the same: entry {index} of shard {id} changes {changes:?}, and not before")
            }));
        }
        let before = std::mem::replace(&mut shard.last, last);
        let mut wrong = Vec::new();
        for change in changes {
            wrong.extend(shard.take(change, before));
        }
        shard.ends.push((index, shard.changes.len()));
        wrong.extend(rows.revisions_since(id, before).into_iter().filter_map(|(key, version, row)| {
            let what = match row {
                Some(life) => What::Put { value: life.value, deadline: life.deadline },
                None => What::Deleted,
            };
            let change = Change { key, version, what };
            (!changes.contains(&change))
                .then(|| format!("a change is told: {change:?} is not, of {changes:?}"))
        }));
        wrong.into_iter().map(|why| format!("entry {index} of shard {id}: {why}")).collect()
    }

    /// A watch was given a batch of these slots, which had been given up to `before`: what is wrong with it.
    pub fn given(
        &self,
        shard: ShardId,
        filter: &Filter,
        before: Version,
        reach: Reach,
        changes: &[Change],
    ) -> Option<String> {
        let Reach { slots, through } = reach;
        let known = self.last(shard);
        if through > known.max(before) {
            return Some(format!("shard {shard} is told up to {through}, and is at {known}"));
        }
        let is_wanted = |change: &&Change| filter.has(&change.key) && slots.contains(Slot::of(&change.key));
        let watched = self.shards.iter().filter(|(id, _)| !self.unwatched.contains(id));
        let all = watched.flat_map(|(_, shard)| shard.between(before, through));
        let mut expected: Vec<&Change> = all.filter(is_wanted).collect();
        // Shards that follow each other have versions that do.
        expected.sort_by_key(|change| change.version);
        let is_so = expected.iter().copied().eq(changes);
        (!is_so).then(|| {
            format!(
                "shard {shard} changed {} between {before} and {through}, and told {}",
                text(expected),
                text(changes)
            )
        })
    }

    /// Up to which version a shard is known.
    pub fn last(&self, shard: ShardId) -> Version {
        match (self.shards.get(&shard), self.parts.get(&shard)) {
            (Some(shard), _) => shard.last,
            (None, Some((from, _))) => self.last(*from),
            (None, None) => Version::ZERO,
        }
    }
}

impl Shard {
    fn of_entry(&self, index: u64) -> &[Change] {
        let place = self.ends.partition_point(|(other, _)| *other < index);
        let begin = place.checked_sub(1).map_or(0, |before| self.ends[before].1);
        match self.ends.get(place) {
            Some((other, end)) if *other == index => &self.changes[begin..*end],
            _ => &[],
        }
    }

    /// Takes a change; what is wrong with it.
    fn take(&mut self, change: &Change, before: Version) -> Option<String> {
        let newest = self.changes.last().map_or(Version::ZERO, |newest| newest.version);
        let in_order = change.version >= newest && change.version > before && change.version <= self.last;
        let was = self.newest.insert(change.key.clone(), change.what.clone());
        self.changes.push(change.clone());
        if !in_order {
            return Some(format!("versions of changes rise: {change:?} comes after {newest}"));
        }
        let is_due = |deadline: u64| deadline <= change.version.micros();
        match (&change.what, was) {
            (What::Expired, Some(What::Put { deadline: Some(deadline), .. })) if is_due(deadline) => None,
            (What::Expired, was) => Some(format!("what expires was due: {change:?}, and was {was:?}")),
            _ => None,
        }
    }

    fn between(&self, after: Version, through: Version) -> &[Change] {
        let place = |version| self.changes.partition_point(|change: &Change| change.version <= version);
        &self.changes[place(after).min(place(through))..place(through)]
    }
}

/// Changes without their values.
fn text<'a>(changes: impl IntoIterator<Item = &'a Change>) -> String {
    let one = |change: &Change| format!("{} {} {:?}", change.version, change.what, change.key);
    format!("[{}]", changes.into_iter().map(one).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: ShardId = ShardId(1);

    fn version(number: i64) -> Version {
        Version::from_i64(number << 20).unwrap()
    }

    fn change(key: &'static str, number: i64, what: What) -> Change {
        Change { key: key.into(), version: version(number), what }
    }

    fn put(deadline: Option<u64>) -> What {
        What::Put { value: "v".into(), deadline }
    }

    fn changes() -> (Changes, Vec<Change>) {
        let all =
            vec![change("a", 1, put(None)), change("b", 2, put(Some(3))), change("b", 4, What::Expired)];
        let (mut changes, rows) = (Changes::default(), Rows::default());
        assert!(changes.applied(SHARD, 7, &all[..2], version(2), &rows).is_empty());
        assert!(changes.applied(SHARD, 8, &all[2..], version(4), &rows).is_empty());
        (changes, all)
    }

    #[test]
    fn batch_must_be_just_what_changed_in_between() {
        let (changes, all) = changes();
        let given = |before, through, given: &[Change]| {
            let reach = Reach { slots: SlotRange::nth(0, 1), through: version(through) };
            changes.given(SHARD, &Filter::Prefix(Key::new()), version(before), reach, given)
        };
        assert_eq!(given(0, 4, &all), None);
        assert_eq!(given(1, 2, &all[1..2]), None);
        for (before, through, wrong) in
            [(0, 4, &all[1..]), (1, 4, &all[..]), (0, 2, &all[..1]), (0, 1, &[]), (0, 5, &all[..])]
        {
            assert!(given(before, through, wrong).is_some(), "{before} {through} {wrong:?}");
        }
        let swapped = [all[1].clone(), all[0].clone()];
        assert!(given(0, 2, &swapped).is_some());
    }

    #[test]
    fn replica_that_changes_something_else_is_noticed() {
        let (mut changes, all) = changes();
        let rows = Rows::default();
        assert!(changes.applied(SHARD, 7, &all[..2], version(2), &rows).is_empty());
        assert_eq!(changes.applied(SHARD, 7, &all[..1], version(2), &rows).len(), 1);
        // What was not due does not expire, and versions rise.
        let early = change("a", 5, What::Expired);
        assert_eq!(changes.applied(SHARD, 9, &[early], version(5), &rows).len(), 1);
        assert_eq!(changes.applied(SHARD, 10, &[change("a", 5, put(None))], version(6), &rows).len(), 1);
    }
}
