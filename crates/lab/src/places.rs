//! Which keys a workload is on at present.
//!
//! A write whose outcome stays unknown may happen at any later time, which makes judging dear: a key with some of those, or
//! with very many requests, makes way for a fresh one.

use std::collections::{BTreeMap, BTreeSet};

use check::generate::Workload;
use kv::{Key, Op};

/// When a key makes way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// After so many requests.
    pub requests: u32,
    /// After so many writes whose outcome stayed unknown: each doubles the orders to search, in the worst case.
    pub doubtful: u32,
}

/// The keys of a history.
#[derive(Debug)]
pub struct Places {
    /// Tells them from those of other histories in the same keyspace.
    salt: u64,
    limits: Limits,
    uses: BTreeMap<Key, Use>,
    names: BTreeSet<Key>,
}

/// The name of a key in its workload, and the number of the key that has it now.
pub type Place = (Key, u32);

/// How a key was used.
#[derive(Debug, Default)]
struct Use {
    number: u32,
    requests: u32,
    doubtful: u32,
}

impl Places {
    /// None is used yet.
    pub fn new(salt: u64, limits: Limits) -> Places {
        Places { salt, limits, uses: BTreeMap::new(), names: BTreeSet::new() }
    }

    /// Gives an op that was drawn the key that has its key's place now.
    pub fn place(&mut self, workload: Workload, op: &mut Op) -> Place {
        let key = key_mut(op);
        let name = Key::from([workload.name().as_bytes(), b":", &key[..]].concat());
        let used = self.uses.entry(name.clone()).or_default();
        if used.requests >= self.limits.requests || used.doubtful >= self.limits.doubtful {
            *used = Use { number: used.number + 1, ..Use::default() };
        }
        used.requests += 1;
        let number = used.number;
        *key = self.key(&name, number);
        self.names.insert(key.clone());
        (name, number)
    }

    /// A write of this place stayed in doubt.
    pub fn doubted(&mut self, (name, number): &Place) {
        if let Some(used) = self.uses.get_mut(name).filter(|used| used.number == *number) {
            used.doubtful += 1;
        }
    }

    /// The keys that are used now.
    pub fn current(&self) -> Vec<Key> {
        self.uses.iter().map(|(name, used)| self.key(name, used.number)).collect()
    }

    /// Every key that was ever named.
    pub fn names(&self) -> &BTreeSet<Key> {
        &self.names
    }

    fn key(&self, name: &Key, number: u32) -> Key {
        Key::from([&name[..], format!(":{number}:{:x}", self.salt).as_bytes()].concat())
    }
}

fn key_mut(op: &mut Op) -> &mut Key {
    match op {
        Op::Get { key, .. } | Op::Put { key, .. } | Op::Delete { key, .. } | Op::Update { key, .. } => key,
        other => panic!("the workloads of single keys ask nothing like {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(places: &mut Places) -> (Key, Place) {
        let mut op = Op::Get { key: "k0".into(), at: None };
        let place = places.place(Workload::Register, &mut op);
        let Op::Get { key, .. } = op else { panic!("it stays a get") };
        (key, place)
    }

    #[test]
    fn key_makes_way_after_its_requests_and_after_its_doubts() {
        let mut places = Places::new(10, Limits { requests: 3, doubtful: 2 });
        let (first, place) = key(&mut places);
        assert_eq!(first, "register:k0:0:a");
        assert_eq!([key(&mut places).0, key(&mut places).0], [first.clone(), first]);
        let (second, next) = key(&mut places);
        assert_eq!(second, "register:k0:1:a");
        // A doubt of a key that has made way says nothing of the one in its place.
        [&place, &place, &next].into_iter().for_each(|place| places.doubted(place));
        assert_eq!(key(&mut places).0, second);
        places.doubted(&next);
        assert_eq!(key(&mut places).0, "register:k0:2:a");
        assert_eq!((places.names().len(), places.current()), (3, vec!["register:k0:2:a".into()]));
    }
}
