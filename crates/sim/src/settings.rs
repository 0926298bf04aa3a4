//! The shape of a run, drawn from its seed: sizes, speeds, how the clients behave. Small where a small number makes
//! something happen that a large one would hide: segments, checkpoints, caches, pieces.

use storage::{History, Options, STEP_MAX};

use crate::random::{Latency, Random};

/// A grace that ends within a run, and is longer than most faults.
const GRACE_SHORT_MICROS: u64 = 8_000_000;

/// The shape of one run.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub shards: u32,
    /// Replicas of a shard, where there are nodes enough.
    pub replicas: u16,
    /// The operator has nodes join, leave and drained.
    pub operates: bool,
    /// The keys of clients have no order, or had none: they ask what can be asked there.
    pub unordered: bool,
    /// They get one, and lose it again.
    pub recasts: bool,
    /// A node that was dead for so long is gone.
    pub grace_micros: u64,
    /// So many kinds of places there are that fail together; 0 = each node is one of its own.
    pub zones: u64,
    pub table: Options,
    /// Jobs run on a thread of their own, as with the engine on disk.
    pub engine_thread: bool,
    pub entry_cache_bytes: usize,
    pub wal: wal::Config,
    /// When the log is worth a checkpoint.
    pub log: node::log::Settings,
    /// A piece of a snapshot.
    pub chunk_bytes: usize,
    pub clients: u64,
    /// A client has at most so many calls under way.
    pub lines: u64,
    pub keys: u64,
    pub skew: f64,
    /// What every value ends with.
    pub padding: String,
    /// Of the writes that can set a deadline so many of 100 do, and of those so many of 100 the same one.
    pub mortal_percent: u64,
    pub together_percent: u64,
    /// How long request ids are valid after their timeout.
    pub validity_micros: u64,
    pub network: Latency,
    pub client_network: Latency,
    pub write: Latency,
    pub sync: Latency,
    pub flush: Latency,
    pub engine: Latency,
    /// From a message in the inbox to the turn.
    pub wake: Latency,
    pub think: Latency,
    /// Those who watch.
    pub watchers: u64,
    pub timeout: Latency,
}

impl Settings {
    /// Where many clients come once each: a shard remembers few, and they go out of date soon.
    pub fn for_many_clients(mut self, random: &mut Random) -> Settings {
        self.table.session_bytes_max = random.pick(&[8 << 10, 20 << 10, 100 << 10]);
        self.validity_micros = random.between(100_000, 1_000_000);
        self.padding = ".".repeat(random.pick(&[1500, 4000]));
        self.timeout = Latency::new(500_000, 2_000_000, 100, 5_000_000);
        self
    }

    pub fn draw(random: &mut Random) -> Settings {
        let segment_bytes = random.pick(&[16 << 10, 64 << 10, 256 << 10]);
        let far = random.percent(15);
        let chunk_least = if far { 5000 } else { 0 };
        let padding = ".".repeat(random.pick(&[0, 0, 600, 2500]));
        Settings {
            shards: random.pick(&[1, 2, 3]),
            replicas: random.pick(&[5, 3, 3]),
            operates: random.percent(50),
            unordered: false,
            recasts: false,
            grace_micros: if random.percent(15) { GRACE_SHORT_MICROS } else { node::GRACE_MICROS },
            zones: random.pick(&[0, 0, 0, 2, 3]),
            table: Options {
                deleted_micros: random.pick(&[u64::MAX, 1_000_000, 5_000_000]),
                step_max: random.pick(&[1, 3, STEP_MAX]),
                ..Options::of(random.pick(&[History::Count(1), History::Count(3), History::All]))
            },
            engine_thread: random.percent(50),
            entry_cache_bytes: random.pick(&[0, 2 << 10, 20 << 10, 1 << 20]),
            wal: wal::Config { log_id: 0, segment_bytes, batch_bytes_max: segment_bytes.min(32 << 10) },
            log: log_settings(segment_bytes * random.between(1, 8)),
            // A snapshot of large rows, or over a far network, must not take all the time that is left for rest.
            chunk_bytes: random.pick(&[100, 1000, 10_000]).max(4 * padding.len()).max(chunk_least),
            clients: random.between(2, 6),
            lines: random.between(1, 3),
            keys: random.pick(&[1, 3, 10, 30]),
            skew: random.pick(&[0.0, 1.0]),
            padding,
            mortal_percent: random.pick(&[0, 15, 40]),
            together_percent: random.pick(&[0, 10, 70]),
            validity_micros: random.pick(&[2_000_000, 60_000_000]),
            network: if far {
                Latency::new(3_000, 20_000, 5, 60_000)
            } else {
                Latency::new(50, 400, 5, 5_000)
            },
            client_network: Latency::new(50, 400, 2, 1_500_000),
            write: Latency::new(10, 60, 2, 2_000),
            sync: Latency::new(80, 800, 5, 20_000),
            flush: Latency::new(1_000, 100_000, 50, 500_000),
            engine: Latency::new(5, 200, 5, 20_000),
            wake: Latency::new(1, 50, 1, 2_000),
            think: if random.percent(20) {
                Latency::new(0, 2_000, 0, 2_000)
            } else {
                Latency::new(5_000, 150_000, 0, 150_000)
            },
            watchers: random.pick(&[0, 2, 4]),
            timeout: Latency::new(2_000_000, 5_000_000, 200, 10_000_000),
        }
    }
}

/// In the proportion of a server's.
fn log_settings(checkpoint_bytes: u64) -> node::log::Settings {
    node::log::Settings { checkpoint_bytes, checkpoint_early_bytes: checkpoint_bytes / 2 }
}
