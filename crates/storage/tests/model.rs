//! The table against a model that keeps everything in plain maps: random entries from a seed, on both engines, with
//! flushes, crashes and replay, snapshots and installs in between. Every answer must be the model's, and all copies of
//! the shard must have equal digests, and expire what they must ([`Table::audit`]).

// What cannot go on fails the test.
#![allow(clippy::unwrap_used)]

mod model {
    pub mod reference;
    pub mod workload;
}

use std::path::Path;

use kv::{Answer, Entry, Error, Op, ShardId, Version};
use model::reference::Reference;
use model::workload::Workload;
use storage::{Clock, Flush, History, Kind, Options, Read, Table};

const SHARD: ShardId = ShardId(3);
const STEPS: usize = 300;

/// `SEEDS=n` runs each test with so many seeds.
fn seeds(first: u64) -> std::ops::Range<u64> {
    let count = std::env::var("SEEDS").map_or(4, |count| count.parse().expect("SEEDS is a number"));
    first..first + count
}

#[test]
fn random_entries_history_of_one_answer_as_the_model() {
    for seed in seeds(0) {
        run(seed, History::Count(1));
    }
}

#[test]
fn random_entries_history_of_three_answer_as_the_model() {
    for seed in seeds(1000) {
        run(seed, History::Count(3));
    }
}

#[test]
fn random_entries_all_history_answer_as_the_model() {
    for seed in seeds(2000) {
        run(seed, History::All);
    }
}

#[test]
fn random_entries_with_deleted_keys_forgotten_expire_what_they_must() {
    for (history, first) in [(History::Count(1), 3000), (History::Count(3), 4000), (History::All, 5000)] {
        seeds(first).for_each(|seed| run_forgetting(seed, history));
    }
}

/// What is left of deleted keys goes after a while. The model does not know that, so no answers are compared: two copies, of
/// which one is loaded again now and then.
fn run_forgetting(seed: u64, history: History) {
    println!("seed {seed}, {history:?}, deleted keys are forgotten");
    let mut workload = Workload::new(seed);
    let options = Options { deleted_micros: 3_000_000, ..Options::of(history) };
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut copies = folders.each_ref().map(|folder| {
        let mut table = Table::open(storage::open(Kind::Memory, folder.path()).unwrap(), options);
        table.load(SHARD, 1).unwrap();
        table
    });
    for index in 1..=2 * STEPS as u64 {
        let entry = workload.entry();
        copies.iter_mut().for_each(|copy| drop(copy.apply(SHARD, index, 1, &entry).unwrap()));
        if workload.below(10) == 0 {
            copies[1].load(SHARD, 1).unwrap();
        }
        copies.iter().for_each(|copy| copy.audit(SHARD).unwrap());
        let digests = copies.each_ref().map(|copy| copy.digest(SHARD).unwrap());
        assert_eq!(digests[0], digests[1], "the digests differ after entry {index}");
    }
}

fn run(seed: u64, history: History) {
    println!("seed {seed}, {history:?}");
    let mut workload = Workload::new(seed);
    let mut reference = Reference::new(history);
    let mut copies = [Copy::new(Kind::Memory, history), Copy::new(Kind::Disk, history)];
    for _ in 0..STEPS {
        match workload.below(20) {
            0 => copies[workload.below(2) as usize].crash(),
            1 => copies[workload.below(2) as usize].flush(workload.below(3) == 0),
            2 => copies[workload.below(2) as usize]
                .install_into_next_generation(1 + workload.below(300) as usize),
            3..8 => read(&copies, &mut reference, &workload.read()),
            _ => apply(&mut copies, &mut reference, workload.entry()),
        }
        let digests = [copies[0].digest(), copies[1].digest()];
        assert_eq!(digests[0], digests[1], "the digests differ");
        copies.iter().for_each(|copy| copy.table.audit(SHARD).unwrap());
    }
    exchange(&mut copies);
}

fn apply(copies: &mut [Copy; 2], reference: &mut Reference, entry: Entry) {
    let expected = reference.apply(&entry);
    for copy in copies {
        let done = copy.apply(&entry);
        for (number, (done, expected)) in done.iter().zip(&expected).enumerate() {
            assert_eq!(done, expected, "{:?}: {:?}", copy.kind, entry.ops[number]);
        }
    }
}

fn read(copies: &[Copy; 2], reference: &mut Reference, op: &Op) {
    for copy in copies {
        let Read::Done { result, last, .. } = copy.table.read(SHARD, op, Clock::Shard).unwrap() else {
            panic!("without a clock nothing needs to advance")
        };
        assert_eq!(last, reference.last());
        match (op, &result) {
            (Op::Get { key, at: Some(at) }, Err(Error::Trimmed { asked, oldest })) => {
                assert!(asked == at && oldest > at);
                assert!(reference.may_be_trimmed(key, *at), "{op:?} is trimmed, and should be kept");
            }
            (Op::Range(range), Err(Error::Trimmed { .. })) => {
                assert!(reference.history != History::All || reference.trimmed, "{range:?} is trimmed");
            }
            _ => assert_eq!(result, reference.read(op), "{:?}: {op:?}", copy.kind),
        }
        if let Op::Get { key, at: Some(at) } = op {
            check_floor(copy, key, *at, &result);
        }
    }
}

/// What could be read at a version can be read at any later one.
fn check_floor(copy: &Copy, key: &kv::Key, at: Version, result: &Result<Answer, Error>) {
    let Err(Error::Trimmed { oldest, .. }) = result else { return };
    if *oldest <= copy.table.applied(SHARD).last {
        let op = Op::Get { key: key.clone(), at: Some(*oldest) };
        let read = copy.table.read(SHARD, &op, Clock::Shard).unwrap();
        assert!(
            matches!(read, Read::Done { result: Ok(_), .. }),
            "{oldest} is told to be readable, {at} was not: {read:?}"
        );
    }
}

/// Each copy's snapshot makes an equal copy on the other engine.
fn exchange(copies: &mut [Copy; 2]) {
    for (from, kind) in copies.iter_mut().zip([Kind::Disk, Kind::Memory]) {
        let folder = tempfile::tempdir().unwrap();
        let mut table = open(kind, folder.path(), from.history);
        install(&mut from.table, &mut table, 9, 500);
        table.load(SHARD, 9).unwrap();
        assert_eq!(table.digest(SHARD).unwrap(), from.digest());
        assert_eq!(table.applied(SHARD), from.table.applied(SHARD));
    }
}

fn install(from: &mut Table, into: &mut Table, generation: u32, bytes_max: usize) {
    let mut snapshot = from.snapshot(SHARD);
    into.install_begin(SHARD, generation).unwrap();
    let mut told = None;
    while let Some(chunk) = snapshot.next_chunk(bytes_max).unwrap() {
        assert_eq!(told, None, "the last chunk came before");
        told = into.install_chunk(SHARD, generation, &chunk).unwrap();
    }
    assert_eq!(told, Some(snapshot.applied));
}

fn open(kind: Kind, folder: &Path, history: History) -> Table {
    Table::open(storage::open(kind, folder).unwrap(), Options::of(history))
}

/// One copy of the shard, the log it would be replayed from, and a flush that may be under way.
struct Copy {
    kind: Kind,
    history: History,
    folder: tempfile::TempDir,
    table: Table,
    generation: u32,
    /// The generation that a crash falls back to: the flushed one.
    flushed_generation: u32,
    log: Vec<Entry>,
    begun: Option<Box<dyn Flush>>,
}

impl Copy {
    fn new(kind: Kind, history: History) -> Copy {
        let folder = tempfile::tempdir().unwrap();
        let mut table = open(kind, folder.path(), history);
        table.load(SHARD, 1).unwrap();
        let (generation, flushed_generation, log, begun) = (1, 1, Vec::new(), None);
        Copy { kind, history, folder, table, generation, flushed_generation, log, begun }
    }

    fn digest(&self) -> u64 {
        self.table.digest(SHARD).unwrap()
    }

    fn apply(&mut self, entry: &Entry) -> Vec<storage::Done> {
        self.log.push(entry.clone());
        let done = self.table.apply(SHARD, self.log.len() as u64, 1, entry).unwrap();
        let again = self.table.apply(SHARD, self.log.len() as u64, 1, entry).unwrap();
        assert!(again.is_empty(), "an entry that is applied is skipped");
        done
    }

    /// A flush is either run at once, or begun now and run by a later one: what is written meanwhile is not part of it.
    fn flush(&mut self, later: bool) {
        if let Some(begun) = self.begun.take() {
            begun.run().unwrap();
        }
        let flush = self.table.flush();
        if later && self.generation == self.flushed_generation {
            self.begun = Some(flush);
        } else {
            flush.run().unwrap();
            self.flushed_generation = self.generation;
        }
        while let Some(step) = self.table.let_go().or_else(|| self.table.maintain()) {
            step().unwrap();
        }
    }

    /// What was not flushed is lost, and comes back from the log.
    fn crash(&mut self) {
        let before = self.digest();
        self.begun = None;
        let empty = tempfile::tempdir().unwrap();
        self.table = open(Kind::Memory, empty.path(), self.history);
        self.table = open(self.kind, self.folder.path(), self.history);
        self.generation = self.flushed_generation;
        let applied = self.table.load(SHARD, self.generation).unwrap();
        for (index, entry) in self.log.iter().enumerate().skip(applied.index as usize) {
            self.table.apply(SHARD, index as u64 + 1, 1, entry).unwrap();
        }
        assert_eq!(self.digest(), before, "{:?}: the replayed state differs", self.kind);
    }

    fn install_into_next_generation(&mut self, bytes_max: usize) {
        let before = self.digest();
        let mut snapshot = self.table.snapshot(SHARD);
        let old = self.generation;
        self.generation += 1;
        self.table.install_begin(SHARD, self.generation).unwrap();
        while let Some(chunk) = snapshot.next_chunk(bytes_max).unwrap() {
            self.table.install_chunk(SHARD, self.generation, &chunk).unwrap();
        }
        self.table.load(SHARD, self.generation).unwrap();
        assert_eq!(self.digest(), before, "{:?}: the installed copy differs", self.kind);
        // As an owner does it: flushed before the switch is told.
        self.flush(false);
        while self.table.forget(SHARD, old).unwrap() {}
    }
}
