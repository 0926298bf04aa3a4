//! Random runs from seeds, checked against a model: a list of numbered records.
//!
//! After any crash, what is read back is one run of that list: it begins at or before what was not released, it ends at or
//! behind what was durable, and nothing in it is missing, repeated or invented.

use std::io::ErrorKind;

use wal::{Config, Crash, DiskError, Log, MemoryDisk, Operation, Position, Record};

use crate::harness::{BLOCK, Random, config, open_as, record};

struct Run {
    random: Random,
    config: Config,
    disk: MemoryDisk,
    log: Log,
    /// All records of this history, by number.
    all: Vec<Record>,
    /// Head before some appends: (number of the next record, place).
    heads: Vec<(usize, Position)>,
    /// Records below this number may be gone.
    released: usize,
    /// Tickets and how many records there are with them.
    tickets: Vec<(u64, usize)>,
    /// Records that must be read back.
    durable: usize,
    crashes: usize,
    fatals: usize,
    cuts: usize,
    full: usize,
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut random = Random(seed);
        let blocks = [2, 4, 8, 16][random.below(4) as usize];
        let batch_bytes_max = BLOCK * (1 + random.below(8));
        let config = Config { segment_bytes: blocks * BLOCK, batch_bytes_max, ..config() };
        let mut disk = MemoryDisk::new();
        let log = open_as(&mut disk, config.clone()).unwrap().log;
        let (all, heads, tickets) = (Vec::new(), Vec::new(), Vec::new());
        let (released, durable, crashes, fatals, cuts, full) = (0, 0, 0, 0, 0, 0);
        Run { random, config, disk, log, all, heads, released, tickets, durable, crashes, fatals, cuts, full }
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..30 => self.append(),
            30..60 => self.turn(),
            60..92 => self.complete(),
            92..95 => self.release(),
            95..97 => self.limit(),
            97 => self.fail(),
            _ => self.crash(),
        }
        self.full += usize::from(self.log.is_full());
    }

    fn append(&mut self) {
        self.heads.push((self.all.len(), self.log.head()));
        let mut records = Vec::new();
        for _ in 0..self.random.below(4) {
            let number = (self.all.len() + records.len()) as u32;
            let len = match self.random.below(20) {
                0 => self.random.below(80_000),
                1..5 => self.random.below(9_000),
                _ => self.random.below(200),
            };
            records.push(record(number, vec![number as u8; len as usize]));
        }
        self.all.extend(records.clone());
        let ticket = self.log.append(records);
        self.tickets.push((ticket, self.all.len()));
    }

    fn turn(&mut self) {
        if self.log.turn(&mut self.disk).is_err() {
            self.fatals += 1;
            return self.crash();
        }
        let durable = self.log.durable();
        self.tickets.retain(|&(ticket, records)| {
            if ticket <= durable {
                self.durable = self.durable.max(records);
            }
            ticket > durable
        });
    }

    fn complete(&mut self) {
        if !self.disk.pending().is_empty() {
            let index = self.random.below(self.disk.pending().len() as u64) as usize;
            self.disk.complete(self.disk.pending()[index].0);
        }
    }

    fn release(&mut self) {
        if !self.heads.is_empty() {
            let (number, place) = self.heads[self.random.below(self.heads.len() as u64) as usize];
            // Only what is durable is released: the rest has no other home yet.
            if number <= self.durable {
                self.released = self.released.max(number);
                self.log.release(place);
            }
        }
    }

    fn limit(&mut self) {
        let segments = 1 + self.random.below(8);
        let bytes_max = self.random.chance(40).then_some(segments * self.config.segment_bytes);
        self.disk.limit_bytes(bytes_max);
        self.log.retry();
    }

    fn fail(&mut self) {
        let operations = [Operation::Write, Operation::Sync, Operation::Create, Operation::Remove];
        let operation = operations[self.random.below(4) as usize];
        let full = self.random.chance(70) && operation != Operation::Sync;
        let error = if full { DiskError::Full } else { ErrorKind::Other.into() };
        self.disk.fail_next(operation, error);
    }

    fn crash(&mut self) {
        self.crashes += 1;
        let crash = if self.random.chance(50) { Crash::Power } else { Crash::Process };
        let percent = [0, 10, 50, 90, 100][self.random.below(5) as usize];
        self.disk.crash(crash, &mut || self.random.chance(percent));
        let opened = open_as(&mut self.disk, self.config.clone()).unwrap();
        self.cuts += usize::from(opened.recovered.cut.is_some());
        self.check(&opened.records());
        self.heads = opened.read.iter().map(|(place, record)| (record.stream as usize, *place)).collect();
        self.log = opened.log;
        self.tickets.clear();
    }

    fn check(&mut self, read: &[Record]) {
        let first = read.first().map_or(self.released, |record| record.stream as usize);
        let end = first + read.len();
        assert!(first <= self.released, "record {first} is the first, {} was released", self.released);
        assert!(end >= self.durable, "{end} records are left, {} were durable", self.durable);
        assert!(end <= self.all.len() && read == &self.all[first..end], "what was read was appended");
        // What was given back is durable from now on; the rest never was.
        self.all.truncate(end);
        self.durable = end;
    }

    /// All that was appended becomes durable in the end.
    fn finish(&mut self) {
        self.crash();
        self.disk.limit_bytes(None);
        self.append();
        self.log.retry();
        loop {
            self.log.turn(&mut self.disk).unwrap();
            if !self.disk.complete_next() {
                break;
            }
        }
        assert!(self.log.is_idle() && !self.log.is_full());
        self.turn();
        assert_eq!(self.durable, self.all.len());
        self.crash();
    }
}

#[test]
fn random_run_reads_back_what_was_durable() {
    let (mut crashes, mut fatals, mut cuts, mut full) = (0, 0, 0, 0);
    for seed in 0..400 {
        println!("seed {seed}");
        let mut run = Run::new(seed);
        (0..600).for_each(|_| run.step());
        run.finish();
        crashes += run.crashes;
        fatals += run.fatals;
        cuts += run.cuts;
        full += run.full;
    }
    // The runs reach what they are for.
    println!("{crashes} crashes, {fatals} fatal errors, {cuts} cuts, {full} steps on a full disk");
    assert!(crashes > 1000 && fatals > 100 && cuts > 100 && full > 1000);
}

#[test]
fn random_run_twice_leaves_the_same_bytes() {
    let run = |seed| {
        let mut run = Run::new(seed);
        (0..600).for_each(|_| run.step());
        run.finish();
        (1..1000).filter_map(|segment| run.disk.bytes(segment).map(<[u8]>::to_vec)).collect::<Vec<_>>()
    };
    for seed in 0..20 {
        assert!(run(seed) == run(seed), "seed {seed}");
    }
}
