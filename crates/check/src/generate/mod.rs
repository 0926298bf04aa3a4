//! Workloads from a seed: what a client asks next.
//!
//! A [`Workload`] says which ops are asked and how often, a [`Keys`] which keys are hot, a [`Generator`] draws one op
//! after the other. The same seed gives the same ops. Give each client a generator of its own ([`Generator::client`]):
//! then what one asks does not depend on how fast the others are.
//!
//! Values are small where they must meet (compares), and unique where they must tell writes apart (puts, appends): unique
//! values make violations plain and checking cheap.
//!
//! Every write whose outcome is unknown doubles what the checker must consider of its key. So a key that has seen many is
//! retired ([`Generator::retire`]): from then on a new key is asked for in its place.

mod rng;

use bytes::Bytes;
use kv::{Condition, Expect, Function, Key, Op, Side, Value};

pub use rng::Rng;

/// Which ops are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Reads, writes and compares of few values.
    Register,
    /// Gets, puts, deletes, appends and pops at both ends, increments, inserts and compares.
    Kv,
    /// Put-alls, get-alls and transactions over groups of keys of one tag (hence one shard), and single puts and gets.
    Batch,
    /// Appends of unique texts, and a get now and then.
    Appends,
    /// Writes whose answers hold the value that they found: puts that tell it, and compares that fail. For clients that come
    /// once each.
    Once,
}

/// Which keys are asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Keys {
    /// How many there are; at least 1.
    pub count: u64,
    /// How uneven: 0 = all alike; 1 = the k-th key is asked for 1/k as often as the first (Zipf); more is steeper.
    pub skew: f64,
}

/// What the keys behind the first are called: they have the last slots of the halves and quarters of all, at whose ends shards are cut.
const AT_CUTS: [&str; 3] = ["edge10922", "edge45975", "edge953"];

/// Draws ops.
#[derive(Clone, Debug)]
pub struct Generator {
    workload: Workload,
    client: u64,
    drawn: u64,
    rng: Rng,
    /// For each key, how often it was retired.
    retired: Vec<u64>,
    /// For each key, the share of the ops that go to it or an earlier one.
    shares: Vec<f64>,
}

/// A key of a workload, with all that belong to it: the members of its group, its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    index: usize,
    retired: u64,
}

/// Register values: so few that compares meet.
const VALUES: u64 = 5;
/// Keys of one tag in a batch workload.
const GROUP: u64 = 4;
/// Each client's stream of random numbers begins so far from the next one's (an odd number without a pattern).
const CLIENT_STRIDE: u64 = 0xa076_1d64_78bd_642f;

impl Workload {
    /// All there are.
    pub const ALL: [Workload; 5] =
        [Workload::Register, Workload::Kv, Workload::Batch, Workload::Appends, Workload::Once];

    /// Its name in commands.
    pub fn name(self) -> &'static str {
        match self {
            Workload::Register => "register",
            Workload::Kv => "kv",
            Workload::Batch => "batch",
            Workload::Appends => "appends",
            Workload::Once => "once",
        }
    }
}

impl Place {
    /// Of a key that a generator drew.
    pub fn of(key: &Key) -> Option<Place> {
        let text = std::str::from_utf8(key).ok()?;
        let tag = text.strip_prefix('{').and_then(|text| text.split('}').next());
        let name = tag.unwrap_or(text.trim_end_matches('#')).strip_prefix('k')?;
        let (index, retired) = name.split_once('.').unwrap_or((name, "0"));
        Some(Place { index: index.parse().ok()?, retired: retired.parse().ok()? })
    }
}

impl std::str::FromStr for Workload {
    type Err = String;

    fn from_str(text: &str) -> Result<Workload, String> {
        Workload::ALL
            .into_iter()
            .find(|workload| workload.name() == text)
            .ok_or_else(|| format!("'{text}' is no workload: use register, kv, batch, appends or once"))
    }
}

impl Generator {
    /// The generator of one client. Clients have different numbers.
    pub fn client(workload: Workload, keys: Keys, seed: u64, client: u64) -> Generator {
        assert!(keys.count > 0, "a workload has at least one key");
        let weights = (1..=keys.count).map(|rank| (rank as f64).powf(-keys.skew));
        let mut sum = 0.0;
        let mut shares: Vec<f64> = weights
            .map(|weight| {
                sum += weight;
                sum
            })
            .collect();
        shares.iter_mut().for_each(|share| *share /= sum);
        let rng = Rng::new(seed.wrapping_add(client.wrapping_mul(CLIENT_STRIDE)));
        Generator { workload, client, drawn: 0, rng, retired: vec![0; shares.len()], shares }
    }

    /// The next op.
    pub fn next_op(&mut self) -> Op {
        self.drawn += 1;
        match self.workload {
            Workload::Register => self.register(),
            Workload::Kv => self.kv(),
            Workload::Batch => self.batch(),
            Workload::Appends => self.append_or_get(),
            Workload::Once => self.once(),
        }
    }

    /// Asks for a new key in the place of this one.
    pub fn retire(&mut self, place: &Place) {
        let Place { index, retired } = *place;
        if let Some(times) = self.retired.get_mut(index) {
            *times = retired + 1;
        }
    }

    fn register(&mut self) -> Op {
        let key = self.key();
        match self.rng.below(3) {
            0 => Op::Get { key, at: None },
            1 => put(key, self.small_value()),
            _ => {
                let (expect, value) = (Expect::Value(self.small_value()), self.small_value());
                update(key, Function::CompareAndPut { expect, value, deadline: None })
            }
        }
    }

    fn kv(&mut self) -> Op {
        let key = self.key();
        let side = if self.rng.percent(50) { Side::Left } else { Side::Right };
        match self.rng.below(100) {
            0..40 => Op::Get { key, at: None },
            40..50 => put(key, self.unique_value()),
            50..70 => update(key, Function::Append { side, value: self.unique_value() }),
            70..80 => update(key, Function::Pop { side, count: 1 + self.rng.below(3) as u32 }),
            80..85 => {
                // A key of its own: numbers and texts do not mix.
                let key = [key.as_ref(), b"#"].concat().into();
                update(key, Function::Increment { by: self.rng.below(9) as i64 - 3 })
            }
            85..90 => Op::Delete { key, previous: self.rng.percent(50) },
            90..95 => update(key, Function::Insert { value: self.unique_value(), deadline: None }),
            _ => {
                let expect = if self.rng.percent(50) { Expect::Present } else { Expect::Absent };
                update(key, Function::CompareAndPut { expect, value: self.unique_value(), deadline: None })
            }
        }
    }

    fn batch(&mut self) -> Op {
        let group = self.key();
        let mut keys: Vec<Key> = (0..GROUP).map(|index| member(&group, index)).collect();
        let first = self.rng.below(GROUP) as usize;
        keys.swap(0, first);
        match self.rng.below(100) {
            0..30 => {
                keys.truncate(1 + self.rng.below(GROUP) as usize);
                Op::GetAll { keys, at: None }
            }
            30..55 => {
                keys.truncate(1 + self.rng.below(GROUP) as usize);
                Op::PutAll { rows: keys.into_iter().map(|key| (key, self.unique_value())).collect() }
            }
            55..75 => self.transaction(&keys),
            75..90 => Op::Get { key: keys.swap_remove(0), at: None },
            _ => put(keys.swap_remove(0), self.unique_value()),
        }
    }

    /// Moves a mark from one key to another, or makes it.
    fn transaction(&mut self, keys: &[Key]) -> Op {
        let (from, to) = (keys[0].clone(), keys[1].clone());
        let conditions = vec![Condition { key: from.clone(), expect: Expect::Present }];
        let then = vec![
            Op::Get { key: from.clone(), at: None },
            Op::Delete { key: from.clone(), previous: false },
            put(to, self.unique_value()),
        ];
        let otherwise = vec![put(from, self.unique_value())];
        Op::Transaction { conditions, then, otherwise }
    }

    fn append_or_get(&mut self) -> Op {
        let key = self.key();
        if self.rng.percent(80) {
            update(key, Function::Append { side: Side::Right, value: self.unique_value() })
        } else {
            Op::Get { key, at: None }
        }
    }

    fn once(&mut self) -> Op {
        let (key, value) = (self.key(), self.unique_value());
        match self.rng.below(100) {
            0..45 => Op::Put { key, value, deadline: None, previous: true },
            45..60 => update(key, Function::Insert { value, deadline: None }),
            60..80 => {
                let expect = Expect::Value(self.small_value());
                update(key, Function::CompareAndPut { expect, value, deadline: None })
            }
            80..85 => Op::Delete { key, previous: true },
            _ => Op::Get { key, at: None },
        }
    }

    /// A key as an op would name it: a group's name, where ops are over groups.
    pub fn key(&mut self) -> Key {
        let at = self.rng.unit();
        let index = self.shares.partition_point(|share| *share <= at).min(self.shares.len() - 1);
        match (self.retired[index], index.checked_sub(1).and_then(|place| AT_CUTS.get(place))) {
            (0, Some(name)) => Bytes::from_static(name.as_bytes()),
            (0, None) => format!("k{index}").into(),
            (retired, _) => format!("k{index}.{retired}").into(),
        }
    }

    fn small_value(&mut self) -> Value {
        self.rng.below(VALUES).to_string().into()
    }

    /// A text that no other op of any client writes. It has a beginning and an end of its own, so that none is within
    /// another or across the seam of two.
    fn unique_value(&mut self) -> Value {
        self.drawn += 1;
        format!("c{}.{};", self.client, self.drawn).into()
    }
}

/// A key of a group: the group's name is its tag.
fn member(group: &Key, index: u64) -> Key {
    let mut key = Vec::from(&b"{"[..]);
    key.extend_from_slice(group);
    key.extend_from_slice(format!("}}{index}").as_bytes());
    Bytes::from(key)
}

fn put(key: Key, value: Value) -> Op {
    Op::Put { key, value, deadline: None, previous: false }
}

fn update(key: Key, function: Function) -> Op {
    Op::Update { key, function }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const KEYS: Keys = Keys { count: 20, skew: 1.0 };

    fn ops(workload: Workload, seed: u64, client: u64) -> Vec<Op> {
        let mut generator = Generator::client(workload, KEYS, seed, client);
        (0..500).map(|_| generator.next_op()).collect()
    }

    #[test]
    fn keys_at_cuts_have_the_last_slots_of_halves_and_quarters() {
        assert_eq!(AT_CUTS.map(|name| kv::Slot::of(name.as_bytes())), [8191, 4095, 12287].map(kv::Slot));
    }

    #[test]
    fn ops_of_a_seed_are_the_same_and_valid() {
        for workload in Workload::ALL {
            assert_eq!(ops(workload, 1, 2), ops(workload, 1, 2));
            assert_ne!(ops(workload, 1, 2), ops(workload, 1, 3));
            assert_ne!(ops(workload, 1, 2), ops(workload, 2, 2));
            assert!(ops(workload, 1, 2).iter().all(|op| op.validate().is_ok()), "{workload:?}");
            assert_eq!(workload.name().parse(), Ok(workload));
        }
    }

    #[test]
    fn appends_are_unique_over_all_clients() {
        let mut seen = HashSet::new();
        for client in 0..20 {
            for op in ops(Workload::Appends, 1, client) {
                if let Op::Update { function: Function::Append { value, .. }, .. } = op {
                    assert!(seen.insert(value.clone()), "{value:?}");
                }
            }
        }
        assert!(seen.len() > 5_000);
    }

    #[test]
    fn key_retired_is_not_drawn_again_nor_are_its_group_and_numbers() {
        for workload in Workload::ALL {
            let mut generator = Generator::client(workload, Keys { count: 1, skew: 0.0 }, 1, 1);
            for retired in 0..3 {
                let place = Place { index: 0, retired };
                for _ in 0..100 {
                    generator.next_op().for_each_key(&mut |key| assert_eq!(Place::of(key), Some(place)));
                }
                generator.retire(&place);
            }
        }
        assert_eq!(Place::of(&"other".into()), None);
    }

    #[test]
    fn skew_makes_the_first_key_hot() {
        let hot = |skew| {
            let mut generator = Generator::client(Workload::Register, Keys { count: 100, skew }, 1, 1);
            (0..2_000).filter(|_| generator.key() == "k0").count()
        };
        assert!(hot(0.0) < 50, "{}", hot(0.0));
        assert!(hot(1.0) > 250, "{}", hot(1.0));
    }
}
