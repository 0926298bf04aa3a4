//! The driver, tested from outside: a few of them in one thread.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod appends;
mod checkpoints;
mod cluster;
mod cores;
mod directory;
mod expiry;
mod faults;
mod handover;
mod hosting;
mod kept;
mod maps;
mod names;
mod quorum;
mod recast;
mod snapshots;
mod split;
mod switch;
mod walk;
