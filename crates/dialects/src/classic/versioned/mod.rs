//! Texts under texts, of which earlier values are kept and read: `project.KeyValueStore`, and the same as `KeyValueStore`.
//!
//! The problem: what did a key hold at some time? So each value has a version, the microsecond at which it was written, and a read may ask
//! for the newest value up to a version. A key is removed with all that it ever held, and its earlier values can be removed alone.
//!
//! ```text
//!   client ── Put("k", "a") ────────────▶ server       old_val "", old_ver 0, ver 1700000000000001
//!   client ── Put("k", "b") ────────────▶ server       old_val "a", old_ver 1700000000000001, ver 1700000000000009
//!   client ── Get("k", 1700000000000005) ▶ server      "a", ver 1700000000000001
//!   client ── Trim("k") ────────────────▶ server       "b", ver 1700000000000009; a Get at 1700000000000005 finds nothing now
//!   client ── Del("k") ─────────────────▶ server       "b", ver 1700000000000009; any Get finds nothing now
//! ```
//!
//! # What it does in the store
//!
//! A server of the store is a listener of an ordinary node, and what it keeps is the listener's keyspace, with the history that this has.
//!
//! | call | does |
//! |---|---|
//! | Put, PutAll | a put that tells the row before |
//! | Get, GetAll | a get, at the end of the microsecond that is asked for |
//! | GetRange | a range of the keys that are there now, and a get of each where a version is asked for |
//! | Del, DelRange, DelAll | of each key a delete that tells the row before, then a trim |
//! | Trim | a trim, then a get |
//!
//! A version of the wire is that of the store without the bits that say who issued it ([`row`](super::store) has the keys). One up to which the store
//! has not come asks for the newest value; of one whose revision is trimmed nothing is known, so the value is missing.
//!
//! # What holds
//!
//! - Of what is missing the key is answered, with an empty value and version 0.
//! - GetAll, PutAll and DelAll do one thing after the other and answer each as it is done, in the order asked. One that fails ends the call
//!   with its status; what was answered before is done.
//! - Any text is a key, the empty one too. Ranges hold both of their ends, and one that ends before it begins is empty.
//! - A call that fails did nothing, unless its reason is IN_DOUBT.
//!
//! # Caveats
//!
//! Where several servers take writes at once (protocol `broadcast`), two of them may write one key in one microsecond: their versions look
//! the same over this wire, and a read at it finds the later one in the store's order. A removed value that another dialect wrote and that is no
//! UTF-8 text is answered with its broken bytes replaced; a read of one is refused.

mod client;
#[doc(hidden)]
pub mod fuzz;
mod keys;
mod plain;
mod service;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tonic::service::Routes;

use self::plain::Plain;
use self::proto::key_value_store_server::{self, KeyValueStoreServer as Served};
use crate::grpc::Grpc;
use crate::native::MESSAGE_BYTES_MAX;
use crate::{Dialect, Serving, Stop, Store, Stream};

pub use client::VersionedClient;

/// The messages and the service, as generated.
#[allow(missing_docs, clippy::all)]
pub mod proto {
    tonic::include_proto!("project");

    /// The description, as reflection serves it: of both names.
    pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/versioned-plain.bin"));
}

/// How long a call of one message may take at most, and a call of many to begin.
pub const LIMIT: Duration = Duration::from_millis(4_500);

/// The dialect of a server of the store.
pub struct Versioned(Grpc);

impl Versioned {
    /// Ready to serve.
    pub fn new() -> Versioned {
        let service = Served::new(service::Service)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let names = &[key_value_store_server::SERVICE_NAME, plain::NAME];
        let routes = Routes::new(service.clone()).add_service(Plain::new(service));
        Versioned(Grpc::new(routes, names, proto::DESCRIPTOR))
    }
}

impl Default for Versioned {
    fn default() -> Versioned {
        Versioned::new()
    }
}

impl fmt::Debug for Versioned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Dialect for Versioned {
    fn name(&self) -> &'static str {
        "classic/versioned"
    }

    fn serve(&self, stream: Stream, store: Arc<Store>, stop: Stop) -> Serving {
        self.0.serve(stream, store, stop)
    }
}
