//! Whole clusters in one thread, from a seed.
//!
//! A run has N nodes of the production kind: one to three [`node::Driver`]s each over real replication, the real log over a
//! disk in memory, the real tables over an engine that keeps what was flushed. Around them are clients, a network, machines with clocks,
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
//! A run has two parts. In the first, clients do all that users do while faults happen: besides the ops of their workload they
//! ask ranges in pages, histories, get-alls and put-alls over shards, delete-ranges and trims in steps, at every level and at
//! versions. In half of the runs an operator has nodes join, leave and drained meanwhile (module `operator`); a machine that is lost is
//! replaced in all. In some the keys are laid out by zones, and clients ask a node for what it has itself (module `zoned`). Who decides
//! where shards go is the directory that runs, on the nodes. In the second
//! part the faults are over, and the cluster must come to rest within a bound: every node up and whole, all shards where they
//! should be, with one leader each, all copies equal, every key readable, no write in doubt that is sent again, and nothing kept
//! that has run out. At every moment the invariants of `watch` must hold, and every answer must show what was there; at the end
//! the clients' history must be linearizable.
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
mod convergence;
mod events;
mod faults;
mod finish;
mod machine;
mod net;
mod operator;
mod options;
mod outcome;
mod random;
mod settings;
mod sometimes;
mod trace;
mod unordered;
mod watch;
mod watchers;
mod world;
mod zoned;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use check::generate::Workload;
pub use faults::{Fault, Faults};
pub use options::Options;
pub use outcome::{Outcome, Stats};
pub use sometimes::SOMETIMES;

use trace::Trace;
use world::World;

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
    let parts: [fn(&mut World); 8] = [
        World::run_steps,
        World::rest,
        World::write_again,
        World::write_each,
        World::read_all,
        World::scan_all,
        World::end_watches,
        World::judge,
    ];
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
