//! The judge of Capstan: did the clients see one copy of the data?
//!
//! # How it goes together
//!
//! Concurrent clients leave a [`history::History`]: who asked what, when (as the order of events), and what came of it. A
//! [`history::Recorder`] makes one from requests and replies; [`history::json_lines`] writes and reads it as a file;
//! [`history::jepsen`] reads what Jepsen and its kin write. A [`model::Model`] says what a single copy would answer, one op
//! after the other. [`linear::check`] searches for an order of the ops that the model allows and that keeps real time; when
//! there is none, it shows the smallest part of the history that proves it ([`window::Window`]: as text, as JSON, or drawn
//! by [`html::render`]). [`file::check_file`] does all of this for one file. [`generate`] draws workloads from a seed;
//! [`appends`] judges the simplest workload, unique appends, without any search.
//!
//! # What it promises
//!
//! - `Holds` is told only after an order was found, `Violated` only after every order was ruled out. Whatever ends the
//!   search early, and writes that the model cannot judge, make the verdict `Undecided`. Reads that it cannot judge are left
//!   out and counted.
//! - An op that failed did not happen. An op whose outcome is unknown may have happened at any time after it was called,
//!   or never.
//! - The same history gives the same verdict and the same window: nothing here reads a clock, draws a random number
//!   without a seed, or does I/O beyond the readers and writers it is handed.
//!
//! # Caveats
//!
//! - Checking is NP-complete. Keys are judged apart and dead ends are remembered, which makes usual histories cheap; many
//!   clients that write the same key blindly and read it rarely remain dear. The budget ends that.
//! - An op over several keys that is not atomic as a whole, as over shards, is judged in the parts that are: per shard, and a range
//!   or delete-range per key.
//! - Versions, change counts, receipts and reads at a version are not judged. A value with a deadline may vanish at any
//!   time, but for ops of which the history holds the store's clock that decided it ([`history::Clock`]).

pub mod appends;
pub mod file;
#[doc(hidden)]
pub mod fuzz;
pub mod generate;
pub mod history;
pub mod html;
pub mod linear;
pub mod model;
pub mod window;

pub use file::{Format, Options, Report, Verdict, check_file};
