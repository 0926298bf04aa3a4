//! What the owner of a log relies on.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod crash;
mod damage;
mod files;
mod format;
mod full;
mod harness;
mod histories;
mod model;
mod nowhere;
mod round_trip;
