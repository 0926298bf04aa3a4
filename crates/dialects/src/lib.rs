//! The wire protocols that Capstan speaks: bytes to [`kv::Op`], [`kv::Reply`] to bytes, and the client of each.
//!
//! A dialect knows the words of the `kv` crate and nothing of the database behind them: its serving side is given a
//! [`kv::KeyValue`], its client is one.

pub mod native;
