//! How fast entries are applied: puts of 128 bytes, on both engines. Run it with `--release`.
//!
//! `cargo run --release -p storage --example apply [PUTS] [OPS_PER_ENTRY]`. The keys are spread over as many as there are
//! puts; the owner's work is done as well, on a second thread: a flush every 8 MiB, and maintenance after it.

// A benchmark is there to read the clock, and does what owners do on threads.
#![allow(clippy::disallowed_methods)]

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kv::{Entry, Op, ReplicaId, RequestId, ShardId, Stamped, Version};
use storage::{Clock, History, Kind, Options, Table};

const SHARD: ShardId = ShardId(1);
const FLUSH_BYTES: u64 = 8 << 20;

fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let puts: u64 = arguments.next().unwrap_or(200_000);
    let ops_per_entry: u64 = arguments.next().unwrap_or(64);
    println!("{puts} puts of 128 bytes, {ops_per_entry} in an entry");
    for kind in [Kind::Memory, Kind::Disk] {
        for (name, history, clients) in [
            ("plain", 1, 0),
            ("with sessions", 1, 100),
            ("history of 3", 3, 0),
            ("overwriting 1000 keys", 1, 0),
        ] {
            let keys = if name.starts_with("overwriting") { 1000 } else { puts };
            let run = run(kind, history, clients, keys, puts, ops_per_entry);
            println!("{:<7} {name:<22} {run}", kind.name());
        }
    }
}

struct Run {
    puts: u64,
    applying: Duration,
    flushes: u32,
    slowest: Duration,
    gets: Duration,
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let each = |spent: Duration| spent.as_secs_f64() * 1e6 / self.puts as f64;
        let rate = self.puts as f64 / self.applying.as_secs_f64();
        write!(
            f,
            "{rate:>9.0} puts/s  {:.2} us a put (slowest entry {:?}), ",
            each(self.applying),
            self.slowest
        )?;
        write!(f, "{:.2} us a get, {} flushes", each(self.gets), self.flushes)
    }
}

fn run(kind: Kind, history: u32, clients: u64, keys: u64, puts: u64, ops_per_entry: u64) -> Run {
    let folder = tempfile::tempdir().expect("a folder for the run");
    let engine = storage::open(kind, folder.path()).expect("a new folder opens");
    let mut table = Table::open(engine, Options::of(History::Count(history)));
    table.load(SHARD, 1).expect("an empty shard loads");
    let (mut applying, mut flushes, mut slowest) = Default::default();
    let mut flushing: Option<JoinHandle<()>> = None;
    for index in 1..=puts / ops_per_entry {
        let entry = entry(index, clients, keys, ops_per_entry);
        let begun = Instant::now();
        let done = table.apply(SHARD, index, 1, &entry).expect("the engine works");
        let spent = begun.elapsed();
        assert!(done.iter().all(|done| done.result.is_ok()));
        applying += spent;
        slowest = spent.max(slowest);
        if table.bytes_unflushed() > FLUSH_BYTES && flushing.as_ref().is_none_or(JoinHandle::is_finished) {
            flushes += 1;
            flushing = Some(flush(&mut table));
        }
    }
    flushing.into_iter().for_each(|flushing| flushing.join().expect("the flush works"));
    let begun = Instant::now();
    for number in 0..puts {
        let op = Op::Get { key: key(number, keys), at: None };
        table.read(SHARD, &op, Clock::Shard).expect("the engine works");
    }
    Run { puts, applying, flushes, slowest, gets: begun.elapsed() }
}

fn flush(table: &mut Table) -> JoinHandle<()> {
    let (flush, free, step) = (table.flush(), table.let_go(), table.maintain());
    std::thread::spawn(move || {
        flush.run().expect("the flush works");
        for step in free.into_iter().chain(step) {
            step().expect("maintenance works");
        }
    })
}

/// As it comes from the log: decoded, all its ops sharing a buffer.
fn entry(index: u64, clients: u64, keys: u64, ops_per_entry: u64) -> Entry {
    let ops: Vec<Bytes> = (0..ops_per_entry)
        .map(|op| {
            let number = index * ops_per_entry + op;
            let id = (clients > 0).then(|| request(number, clients));
            let (key, value) = (key(number, keys), Bytes::from(vec![number as u8; 128]));
            Stamped { id, op: Op::Put { key, value, deadline: None, previous: false } }.encode()
        })
        .collect();
    Entry::decode(&Entry::encode(Version::new(index * 1000, ReplicaId(1)), &ops))
        .expect("it was encoded just now")
}

fn request(number: u64, clients: u64) -> RequestId {
    let sequence = number / clients + 1;
    RequestId { client: number % clients + 1, sequence, valid_until: Version::MAX, answered_below: sequence }
}

fn key(number: u64, keys: u64) -> Bytes {
    // Spread, so that neighbours in time are none in order.
    format!("key-{:016x}", (number % keys).wrapping_mul(0x9e37_79b9_7f4a_7c15)).into()
}
