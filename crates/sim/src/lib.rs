//! Whole clusters in one thread, from a seed.
//!
//! A run has N nodes of the production kind: [`node::Driver`] over real replication, the real log over a disk in memory,
//! the real table over an engine that keeps what was flushed. Around them are clients, a network, machines with clocks,
//! and a nemesis that breaks all of it. One number decides everything that happens: the same seed gives the same run, to
//! the byte, in every process.
//!
//! ```text
//!   clients ──▶ gate ──▶ inbox ─▶ driver ─▶ log::Owner ─▶ wal::Log ─▶ MemoryDisk    loses, tears, flips, fails, is full
//!      ▲                   ▲        │ ├───▶ worker ─▶ Executor ─▶ engine model      keeps what was flushed
//!      └── answers ────────┼────────┘ └───▶ network ─▶ the other nodes              cuts, holds, loses, doubles, delays
//!                          └── completions, frames, ticks of a clock that drifts
//! ```
//!
//! A run has two parts. In the first, clients work while faults happen. In the second the faults are over, and the
//! cluster must come to rest within a bound: every node up and whole, one leader a shard, all copies equal, every key
//! readable, and nothing kept that has run out. At every moment the invariants of `watch` must hold; at the end the clients' history must be linearizable.
//! [`Stats::sometimes`] counts what should happen in some runs ([`SOMETIMES`] lists it), so that a simulator that has stopped
//! to exercise a case is noticed.
//!
//! # Guarantees
//!
//! - Deterministic: no clock, no thread, no randomness but the seed's, no map without an order.
//! - A panic of what is simulated is a violation like any other.
//!
//! # Caveats
//!
//! The loop around the driver and the transport are modelled on the server's, not shared with it: a defect there is found by
//! the lab. The engines of `storage` that touch a disk are not simulated.

mod clients;
mod events;
mod faults;
mod finish;
mod machine;
mod net;
mod outcome;
mod random;
mod settings;
mod sometimes;
mod trace;
mod watch;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use kv::Protocol;

pub use check::generate::Workload;
pub use faults::{Fault, Faults};
pub use outcome::{Outcome, Stats};
pub use sometimes::SOMETIMES;

use random::Random;
use trace::Trace;
use world::World;

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Decides everything that happens.
    pub seed: u64,
    /// How many nodes; `single` always has one.
    pub nodes: u16,
    /// How the replicas agree.
    pub protocol: Protocol,
    /// What may go wrong.
    pub faults: Faults,
    /// Requests of clients until the faults end.
    pub steps: u64,
    /// What the clients ask.
    pub workload: Workload,
    /// Whether to keep what happened, line by line.
    pub trace: bool,
}

impl Options {
    /// The default mix: which workload, how many nodes and which protocol, the seed decides as well. Mostly three nodes under
    /// raft; every kind of fault may be.
    pub fn new(seed: u64) -> Options {
        let mut random = Random::new(seed.rotate_left(32));
        let workloads = [
            Workload::Kv,
            Workload::Kv,
            Workload::Register,
            Workload::Batch,
            Workload::Appends,
            Workload::Once,
        ];
        let nodes = random.pick(&[3, 3, 3, 3, 3, 3, 3, 2, 4, 5]);
        let (protocol, nodes) =
            if random.percent(4) { (Protocol::Single, 1) } else { (Protocol::Raft, nodes) };
        Options {
            seed,
            nodes,
            protocol,
            faults: Faults::all(),
            steps: 1000,
            workload: random.pick(&workloads),
            trace: false,
        }
    }
}

/// Runs one seed.
pub fn run(options: &Options) -> Outcome {
    let trace = Trace::new(options.trace);
    let ended = catch_unwind(AssertUnwindSafe(|| run_to_the_end(options, trace.clone())));
    let mut outcome = ended.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason was given");
        Outcome { violations: vec![format!("panic: {text}")], ..Outcome::default() }
    });
    outcome.trace = trace.take();
    outcome
}

fn run_to_the_end(options: &Options, trace: Trace) -> Outcome {
    let mut world = World::new(options, trace);
    world.begin();
    let parts: [fn(&mut World); 5] =
        [World::run_steps, World::rest, World::write_each, World::read_all, World::judge];
    for part in parts {
        if world.violations.is_empty() {
            part(&mut world);
        }
    }
    world.stats.micros = world.events.now();
    world.stats.events = world.events.happened();
    let World { violations, stats, window, recorder, .. } = world;
    Outcome { violations, stats, history: recorder.into_history(), window, trace: Vec::new() }
}
