//! The wire of etcd's v3 API, its client's side: enough to put the same load on etcd as on Capstan.
//!
//! [`Client`] finds the member that leads and asks it alone, over as many connections as it is given. That is how Capstan's
//! own client asks a shard, and what costs an etcd cluster least: no request is passed on.
//!
//! # Caveats
//!
//! Nothing is sent again: a put that got no answer is in doubt. A client stays with its member when another one leads; that
//! member passes requests on then. No authentication, no encryption, no leases.

mod client;

pub use client::Client;

/// The messages and services, as generated.
#[allow(missing_docs, clippy::all)]
mod proto {
    tonic::include_proto!("etcdserverpb");
}
