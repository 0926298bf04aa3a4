//! The forms that a keyspace is measured in.

use kv::keyspace::{Secondaries, Wish};
use kv::{Level, Protocol};

/// With fewer nodes a put would wait for all secondaries before it waits for two of them.
pub const NODES_MIN: u16 = 4;
/// How many copies a shard has in a replica group: a primary and one more secondary than are waited for at most, unless for all.
const GROUP: u16 = 4;
/// How many groups share the keys.
const GROUPS: u32 = 2;
/// What a read at `bounded` may miss, in milliseconds: the interval of those that nobody waits for, and some beats.
pub const BOUND_MILLIS: u64 = 500;

/// A form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Its name.
    pub name: &'static str,
    /// Its keyspace. Two forms that are read in two ways have one.
    pub keyspace: &'static str,
    /// What the keyspace is.
    pub wish: Wish,
    /// How gets are asked.
    pub level: Level,
}

impl Form {
    /// How many copies a shard has.
    pub fn replicas(&self) -> u16 {
        self.wish.replicas.unwrap_or(1)
    }

    /// How many shards there are.
    pub fn shards(&self) -> u32 {
        self.wish.shards.unwrap_or(1)
    }
}

/// All there are on so many nodes, in the order of the table.
pub fn all(nodes: u16) -> Vec<Form> {
    assert!(nodes >= NODES_MIN, "a group of {GROUP} has a node for each copy");
    let single = |name, shards| {
        let wish = Wish {
            protocol: Some(Protocol::Single),
            replicas: Some(1),
            shards: Some(shards),
            ..Wish::default()
        };
        Form { name, keyspace: name, wish, level: Level::Linearizable }
    };
    let group = |name, keyspace, sync, level| {
        let wish = Wish {
            protocol: Some(Protocol::Primary),
            replicas: Some(GROUP),
            shards: Some(GROUPS),
            sync: Some(sync),
            ..Wish::default()
        };
        Form { name, keyspace, wish, level }
    };
    let (local, bounded, some) = (Level::Local, Level::Bounded(BOUND_MILLIS), Secondaries::Count);
    vec![
        single("one-shard", 1),
        single("2-shards", 2),
        single("4-shards", 4),
        single("8-shards", 8),
        group("sync-0-local", "sync-0", some(0), local),
        group("sync-0-bounded", "sync-0", some(0), bounded),
        group("sync-1-local", "sync-1", some(1), local),
        group("sync-1-bounded", "sync-1", some(1), bounded),
        group("sync-2-local", "sync-2", some(2), local),
        group("sync-2-bounded", "sync-2", some(2), bounded),
        group("strong", "strong", Secondaries::All, Level::Linearizable),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn forms_can_be_created_and_have_names_of_their_own() {
        let forms = all(NODES_MIN);
        let names: BTreeSet<&str> = forms.iter().map(|form| form.name).collect();
        assert_eq!(names.len(), forms.len());
        for form in &forms {
            assert_eq!(kv::keyspace::check_name(form.keyspace), Ok(()));
            assert_eq!(form.wish.validate(), Ok(()), "{form:?}");
        }
        for other in &forms {
            let alike = forms.iter().filter(|form| form.keyspace == other.keyspace);
            assert!(alike.clone().all(|form| form.wish == other.wish), "{other:?}");
        }
    }
}
