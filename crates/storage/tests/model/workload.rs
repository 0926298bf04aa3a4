//! Random entries and reads from a seed, on few keys, so that they meet.

use bytes::Bytes;
use kv::{
    Condition, Direction, Entry, Expect, Function, Key, Op, Range, ReplicaId, RequestId, Side, Stamped,
    Value, Version,
};

/// Times are counted in so many microseconds: an eighth of what the table sweeps by.
const UNIT: u64 = 1 << 17;

pub struct Workload {
    state: u64,
    /// In units.
    now: u64,
    /// Next sequence of each client.
    sequences: [u64; 3],
    sent: Vec<Stamped>,
}

impl Workload {
    pub fn new(seed: u64) -> Workload {
        Workload { state: seed.wrapping_mul(2) + 1, now: 100, sequences: [1; 3], sent: Vec::new() }
    }

    /// A number from 0 to below `bound` (splitmix64).
    pub fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    pub fn entry(&mut self) -> Entry {
        self.now += self.below(8);
        let units = self.now - self.below(4);
        let proposed = Version::new(units * UNIT, ReplicaId(1 + self.below(3) as u16));
        let ops = (0..self.below(5)).map(|_| self.stamped()).collect();
        Entry { proposed, ops }
    }

    pub fn read(&mut self) -> Op {
        let at = (self.below(2) == 0).then(|| self.version());
        match self.below(4) {
            0 => Op::Range(self.range(at)),
            1 => {
                let before = (self.below(2) == 0).then(|| self.version());
                Op::History { key: self.key(), limit: self.below(4) as u32, before }
            }
            2 => Op::GetAll { keys: vec![self.key(), self.key()], at: None },
            _ => Op::Get { key: self.key(), at },
        }
    }

    /// About now, or long ago.
    fn version(&mut self) -> Version {
        let ago = if self.below(2) == 0 { self.below(10) } else { self.below(300) };
        Version::new(self.now.saturating_sub(ago) * UNIT, ReplicaId(self.below(4) as u16))
    }

    fn stamped(&mut self) -> Stamped {
        if self.below(8) == 0 && !self.sent.is_empty() {
            // A request comes again.
            let back = self.below(12.min(self.sent.len() as u64)) as usize;
            return self.sent[self.sent.len() - 1 - back].clone();
        }
        let id = (self.below(3) == 0).then(|| self.id());
        let stamped = Stamped { id, op: self.op() };
        if id.is_some() {
            self.sent.push(stamped.clone());
        }
        stamped
    }

    fn id(&mut self) -> RequestId {
        let client = self.below(3);
        let next = &mut self.sequences[client as usize];
        let sequence = *next;
        *next += 1;
        let answered_below = sequence.saturating_sub(self.below(5)).max(1);
        let valid_until = Version::new((self.now + self.below(30)) * UNIT, ReplicaId(0));
        RequestId { client: client + 1, sequence, valid_until, answered_below }
    }

    fn op(&mut self) -> Op {
        match self.below(30) {
            0 => Op::PutAll { rows: (0..self.below(4)).map(|_| (self.key(), self.value())).collect() },
            1 => Op::DeleteRange { from: self.key(), to: Some(self.key()) },
            2 => Op::Trim { key: self.key(), below: None },
            3 => Op::Trim { key: self.key(), below: Some(self.version()) },
            4 => Op::Advance { to: self.version(), rules: None },
            5..10 => self.transaction(),
            10 => Op::Range(self.range(None)),
            11 => {
                let (to, below) = ((self.below(3) > 0).then(|| self.key()), self.version());
                let below = (self.below(3) > 0).then_some(below);
                Op::TrimRange { from: self.key(), to, below }
            }
            _ => self.single(),
        }
    }

    fn transaction(&mut self) -> Op {
        let conditions =
            (0..self.below(3)).map(|_| Condition { key: self.key(), expect: self.expect() }).collect();
        let mut branch = || (0..self.below(5)).map(|_| self.single()).collect();
        let (then, otherwise) = (branch(), branch());
        Op::Transaction { conditions, then, otherwise }
    }

    /// An op on one key, fit for a transaction.
    fn single(&mut self) -> Op {
        let key = self.key();
        match self.below(12) {
            0..3 => {
                Op::Put { key, value: self.value(), deadline: self.deadline(), previous: self.below(2) == 0 }
            }
            3..5 => Op::Delete { key, previous: self.below(2) == 0 },
            5 => Op::Expire { key, deadline: self.deadline() },
            6 => Op::Get { key, at: None },
            7 => Op::History { key, limit: self.below(3) as u32, before: None },
            _ => Op::Update { key, function: self.function() },
        }
    }

    fn function(&mut self) -> Function {
        let side = if self.below(2) == 0 { Side::Left } else { Side::Right };
        match self.below(5) {
            0 => Function::Append { side, value: self.value() },
            1 => Function::Pop { side, count: 1 + self.below(3) as u32 },
            2 => Function::Increment { by: self.below(9) as i64 - 4 },
            3 => Function::Insert { value: self.value(), deadline: self.deadline() },
            _ => {
                let (expect, value) = (self.expect(), self.value());
                Function::CompareAndPut { expect, value, deadline: self.deadline() }
            }
        }
    }

    fn range(&mut self, at: Option<Version>) -> Range {
        Range {
            from: self.key(),
            to: (self.below(3) > 0).then(|| self.key()),
            direction: if self.below(2) == 0 { Direction::Forward } else { Direction::Backward },
            limit: self.below(4) as u32,
            page: (self.below(3) == 0).then(|| self.key()),
            keys_only: self.below(4) == 0,
            count_only: self.below(4) == 0,
            at,
            ledger: false,
        }
    }

    fn expect(&mut self) -> Expect {
        match self.below(4) {
            0 => Expect::Absent,
            1 => Expect::Present,
            2 => Expect::Value(self.value()),
            _ => Expect::Version(self.version()),
        }
    }

    fn key(&mut self) -> Key {
        const KEYS: [&[u8]; 8] = [b"a", b"a\0", b"a\0\xff", b"b", b"c", b"\0", b"\xff\xff", b"d"];
        Bytes::from_static(KEYS[self.below(8) as usize])
    }

    fn value(&mut self) -> Value {
        const VALUES: [&[u8]; 7] = [b"", b"1", b"22", b"x", b"\xc3\xa9", b"\xff", b"-7"];
        Bytes::from_static(VALUES[self.below(7) as usize])
    }

    fn deadline(&mut self) -> Option<u64> {
        (self.below(3) == 0).then(|| (self.now + self.below(25)) * UNIT)
    }
}
