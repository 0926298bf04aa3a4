//! The forms that a keyspace is measured in.

use kv::keyspace::{Secondaries, Weights, Wish};
use kv::{Level, Protocol};

/// Nodes of a store, each of which has a copy.
pub const STORE_NODES: u16 = 3;
/// What they weigh where none of them orders, and what reads and writes need.
pub const STORE_WEIGHTS: [u32; STORE_NODES as usize] = [1, 2, 1];
const STORE_READ: u32 = 2;
const STORE_WRITE: u32 = 3;
/// With fewer nodes a put would wait for all secondaries before it waits for two of them.
pub const NODES_MIN: u16 = 4;
/// How many copies a shard has in a replica group: a primary and one more secondary than are waited for at most, unless for all.
const GROUP: u16 = 4;
/// How many groups share the keys.
const GROUPS: u32 = 2;
/// What a read at `bounded` may miss, in milliseconds: the interval of those that nobody waits for, and some beats.
pub const BOUND_MILLIS: u64 = 500;

/// A form.
#[derive(Clone, Debug, PartialEq, Eq)]
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

    /// How its copies agree.
    pub fn protocol(&self) -> Protocol {
        self.wish.protocol.unwrap_or(Protocol::Raft)
    }

    /// Whether a put goes to one node, which orders it, or to any.
    pub fn has_leader(&self) -> bool {
        !self.protocol().is_merged()
    }
}

/// Both of a store: one node is its master, or none is.
pub fn store() -> Vec<Form> {
    let form = |name, wish| Form { name, keyspace: name, wish, level: Level::Linearizable };
    let of = |protocol| Wish {
        protocol: Some(protocol),
        replicas: Some(STORE_NODES),
        shards: Some(1),
        ..Wish::default()
    };
    let weights = Weights::new(&STORE_WEIGHTS).expect("there is a weight for each of three nodes");
    let weighed = Wish {
        weights: Some(weights),
        read: Some(STORE_READ),
        write: Some(STORE_WRITE),
        ..of(Protocol::Quorum)
    };
    vec![form("centralized", of(Protocol::TwoPhase)), form("decentralized", weighed)]
}

/// Shards of one copy and groups, on so many nodes, in the order of the table.
pub fn shards(nodes: u16) -> Vec<Form> {
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
        let forms = [shards(NODES_MIN), store()].concat();
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
