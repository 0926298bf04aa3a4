//! The classic dialects over real sockets: their clients against their serving sides, in front of a small store.

#![cfg(test)]

mod fake;
mod pairs;
mod store;
