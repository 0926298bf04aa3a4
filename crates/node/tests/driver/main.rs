//! The driver, tested from outside: a few of them in one thread.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;
mod expiry;
mod faults;
mod rejoin;
mod snapshots;
mod switch;
mod walk;
