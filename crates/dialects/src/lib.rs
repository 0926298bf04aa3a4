//! The wire protocols that Capstan speaks: bytes to [`kv::Op`], [`kv::Reply`] to bytes, and the client of each.
//!
//! A dialect knows the words of the `kv` crate and nothing of the database behind them: its serving side is given a
//! [`Store`], its client is a [`kv::KeyValue`] where its wire can say all that one is asked.

mod account;
mod ask;
pub mod classic;
mod dialect;
pub mod etcd;
mod grpc;
mod named;
pub mod native;
mod outsider;

pub use account::Account;
pub use dialect::{Clock, Dialect, Duplex, End, Serving, Stop, Stopper, Store, Stream};
pub use named::named;
pub use outsider::Outsider;
