//! Texts under texts on several nodes, each of which a client may have answer late: `distributedstore.KeyValueStore`.
//!
//! The problem: show what a protocol does when a node is slow or away, with a client that knows nothing of it. So there are four calls:
//! two store and read a text, and two make the node at hand slow and well again.
//!
//! ```text
//!   client ── put("k", "v") ────▶ master ──▶ slave 1, slave 2       success = on all of them, or it never happened
//!   client ── get("k") ─────────▶ slave 1                           "v", found
//!   client ── slowDown(2) ──────▶ slave 2                           its votes, and its answers to clients, come 2 s late
//!   client ── restore() ────────▶ slave 2                           at once
//! ```
//!
//! So where one of the nodes is the master. Where none is, any node takes a put, and sees to it that enough others have it:
//!
//! ```text
//!   client ── put("k", "v") ────▶ node 3 ──▶ nodes 1, 2             success = on nodes that weigh enough
//!   client ── get("k") ─────────▶ node 1 ──▶ node 2                 "v", found: of the nodes that a get hears, one has it
//! ```
//!
//! # What it does in the store
//!
//! A node of the store is a listener of an ordinary node, and what it keeps is the listener's keyspace. Which protocol that has, and on
//! how many nodes it is, is the keyspace's: this wire asks any of them in the same way, and any node takes puts and gets, and passes on
//! what another one has to do.
//!
//! | call | does |
//! |---|---|
//! | put | a put |
//! | get | a linearizable get; where that needs more nodes than are up (`quorum`), one that misses nothing acknowledged |
//! | slowDown, restore | a fault of this node ([`kv::fault`]), answered at once; nodes take faults where that is allowed |
//!
//! A key of the wire has a byte before it in the keyspace ([`row`]), so that the empty text can be one.
//!
//! # What holds
//!
//! - A call that finds a node away is asked again for a moment, and fails then: nodes that start together find each other.
//! - Each call is answered within [`LIMIT`] and a little.
//! - `success` = false says that the value was not stored and never will be. Where that is not known (the node that had to do it was lost
//!   on the way, or nobody can take back what was sent to some), the answer is no guess but a status, with the reason IN_DOUBT.
//! - A call is asked again only where it is known to have failed, so a put happens once.
//! - A get that cannot be answered is a status as well: `found` = false says that there is no value.
//!
//! # Caveats
//!
//! A value that another dialect wrote and that is no UTF-8 text is refused.

mod client;
#[doc(hidden)]
pub mod fuzz;
pub(super) mod row;
mod service;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tonic::service::Routes;

use self::proto::key_value_store_server::{self, KeyValueStoreServer as Served};
use crate::grpc::Grpc;
use crate::native::MESSAGE_BYTES_MAX;
use crate::{Dialect, Serving, Stop, Store as Behind, Stream};

pub use client::StoreClient;

/// The messages and the service, as generated.
#[allow(missing_docs, clippy::all)]
pub mod proto {
    tonic::include_proto!("distributedstore");

    /// The description, as reflection serves it.
    pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/store.bin"));
}

/// How long a call may take at most: its client is to have an answer within five seconds, on a busy machine too.
pub const LIMIT: Duration = Duration::from_millis(4_500);

/// The dialect of a node of the store.
pub struct Store(Grpc);

impl Store {
    /// Ready to serve.
    pub fn new() -> Store {
        let service = Served::new(service::Service)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let names = &[key_value_store_server::SERVICE_NAME];
        Store(Grpc::new(Routes::new(service), names, proto::DESCRIPTOR))
    }
}

impl Default for Store {
    fn default() -> Store {
        Store::new()
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Dialect for Store {
    fn name(&self) -> &'static str {
        "classic/store"
    }

    fn serve(&self, stream: Stream, store: Arc<Behind>, stop: Stop) -> Serving {
        self.0.serve(stream, store, stop)
    }
}
