//! Who waits for a change, by what it waits for: so a change is looked at once, however many wait for it.

use std::collections::BTreeMap;

use kv::watch::{Change, Filter};
use kv::{Key, ShardId};

/// Who waits at the ends of feeds, under the names that the driver gave them.
#[derive(Default)]
pub(crate) struct Waits {
    shards: BTreeMap<ShardId, Waiting>,
}

/// Those of one shard.
#[derive(Default)]
struct Waiting {
    keys: BTreeMap<Key, Vec<u64>>,
    prefixes: BTreeMap<Key, Vec<u64>>,
}

impl Waiting {
    fn of(&mut self, filter: &Filter) -> (&mut BTreeMap<Key, Vec<u64>>, Key) {
        match filter {
            Filter::Key(key) => (&mut self.keys, key.clone()),
            Filter::Prefix(prefix) => (&mut self.prefixes, prefix.clone()),
        }
    }

    fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.prefixes.is_empty()
    }

    fn all(self) -> impl Iterator<Item = u64> {
        self.keys.into_values().chain(self.prefixes.into_values()).flatten()
    }
}

impl Waits {
    /// Somebody waits.
    pub fn add(&mut self, shard: ShardId, filter: &Filter, name: u64) {
        let (all, key) = self.shards.entry(shard).or_default().of(filter);
        all.entry(key).or_default().push(name);
    }

    /// Somebody waits no more.
    pub fn remove(&mut self, shard: ShardId, filter: &Filter, name: u64) {
        let Some(waiting) = self.shards.get_mut(&shard) else { return };
        let (all, key) = waiting.of(filter);
        if let Some(names) = all.get_mut(&key) {
            names.retain(|other| *other != name);
            if names.is_empty() {
                all.remove(&key);
            }
        }
        if waiting.is_empty() {
            self.shards.remove(&shard);
        }
    }

    /// Whether anybody waits for a shard.
    pub fn has(&self, shard: ShardId) -> bool {
        self.shards.contains_key(&shard)
    }

    /// Takes out who waits for one of these changes: by what it waits for.
    pub fn take<'a>(
        &mut self,
        shard: ShardId,
        changes: impl Iterator<Item = &'a Change>,
    ) -> Vec<(Filter, Vec<u64>)> {
        let Some(waiting) = self.shards.get_mut(&shard) else { return Vec::new() };
        let mut taken = Vec::new();
        for change in changes {
            if let Some(names) = waiting.keys.remove(&change.key) {
                taken.push((Filter::Key(change.key.clone()), names));
            }
            let hit = |prefix: &Key, _: &mut Vec<u64>| change.key.starts_with(prefix);
            let hits = waiting.prefixes.extract_if(.., hit);
            taken.extend(hits.map(|(prefix, names)| (Filter::Prefix(prefix), names)));
        }
        if waiting.is_empty() {
            self.shards.remove(&shard);
        }
        taken
    }

    /// Takes out who waits for a shard.
    pub fn take_all(&mut self, shard: ShardId) -> Vec<u64> {
        self.shards.remove(&shard).map_or_else(Vec::new, |waiting| waiting.all().collect())
    }
}
