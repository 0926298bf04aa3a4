//! Tests of `broadcast`: golden scripts, and members on a weak network that crash when they like.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod cluster;
mod golden;
mod random;
#[path = "../scripted/mod.rs"]
mod scripted;
#[path = "../quorum/table.rs"]
mod table;
