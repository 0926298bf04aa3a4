//! Clusters of real processes: killed, paused, cut off, damaged, filled up, without power, misused, stopped.
//!
//! Every test starts the built binary in a folder and on ports of its own, and asks it through the Rust client or the
//! command line. They take minutes and want an optimized build, so they are ignored unless asked for:
//!
//! ```text
//! cargo test -p cli --release --test cluster -- --ignored --test-threads=2
//! ```
//!
//! `CAPSTAN_LAB_FULL=1` runs them at full size, `CAPSTAN_LAB_SEED` repeats the choices of a run.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod across;
mod bounds;
mod broadcast;
mod checkpoints;
mod clients;
mod copies;
mod crowd;
mod damage;
mod data_folder;
mod disk;
mod evaluation;
mod faults;
mod forced;
mod grows;
mod joins;
mod judge;
mod keyspaces;
mod kills;
mod load;
mod mounts;
mod moves;
mod network;
mod nodes;
mod pairs;
mod partitions;
mod pauses;
mod places;
mod power;
mod primary;
mod programs;
mod protocols;
mod quorum;
mod random;
mod raw;
mod recasts;
mod refusals;
mod revisions;
mod snapshots;
mod splits;
mod stop;
mod strace;
mod strangers;
mod syncs;
mod trial;
mod two_phase;
mod unordered;
mod watches;
mod workload;
mod wrong_use;
