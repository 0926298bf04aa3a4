//! The native dialect over real sockets: its client against its serving side, in front of a store that does as it is told.

#![cfg(test)]

mod admin;
mod batch;
mod client;
mod errors;
mod fake;
mod faults;
mod framing;
mod members;
mod one_cluster;
mod request;
mod round_trip;
mod services;
mod stop;
mod watch;
