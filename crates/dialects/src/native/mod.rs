//! The dialect `native`: package `capstan.v1` over gRPC. `proto/capstan/v1/capstan.proto` is its reference.
//!
//! [`Native`] is the serving side: it turns messages into [`kv::Request`]s, submits them to any [`kv::KeyValue`], and
//! turns replies into messages and errors into statuses. [`Client`] is the other end, and a [`kv::KeyValue`] itself.
//!
//! A request comes in as bytes, shares them with its op ([`decode_request`]), is validated against every limit, and
//! submitted with one channel of one value to wait on; the reply goes back the same way. Nothing is kept between requests:
//! sessions, retries and leaders are the business of the store and of the client. A request that says which cluster it is for
//! ([`CLUSTER_METADATA`]) is refused by every other.
//!
//! # Caveats
//!
//! Keys and values of a request are slices of the buffer it was received in: whoever keeps them for long copies them.
//! An answer that is larger than a message ([`MESSAGE_BYTES_MAX`]) cannot be told: a read is refused as too large, a write
//! is answered as in doubt, because it happened and its answer is lost.

mod batch;
pub mod client;
mod cluster;
mod cluster_id;
#[doc(hidden)]
pub mod fuzz;
mod key_value;
mod reply;
mod request;
mod status;
mod watch;

use std::fmt;
use std::sync::Arc;

use tonic::service::Routes;

pub use client::{Client, Options};
pub use cluster_id::CLUSTER_METADATA;
pub use reply::{Malformed, decode_reply};
pub use request::{Rpc, decode_request, encode_request};
pub use status::{DOMAIN, TEXT_BYTES_MAX, from_status, to_status};

/// The messages and services of `capstan.v1`, as generated.
#[allow(missing_docs, clippy::all)]
pub mod proto {
    tonic::include_proto!("capstan.v1");

    /// The description of `capstan.v1`, as reflection serves it.
    pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/capstan.bin"));
}

use proto::cluster_server::{self, ClusterServer};
use proto::faults_server::{self, FaultsServer};
use proto::key_value_server;
use proto::keyspaces_server::{self, KeyspacesServer};
/// The request of any rpc that asks one thing.
use proto::operation::Operation as AnyRequest;
/// The response of any rpc that asks one thing, or an error.
use proto::operation_result::Result as AnyResponse;
use proto::watch_server::{self, WatchServer};

use crate::grpc::Grpc;
use crate::{Dialect, Serving, Stop, Store, Stream};

/// The largest message in either direction: the largest op, and room for its frame.
pub const MESSAGE_BYTES_MAX: usize = kv::OP_BYTES_MAX + (1 << 20);
/// Operations of one batch: more gain nothing, and each is remembered until the last is answered.
pub const BATCH_OPERATIONS_MAX: usize = 1024;

/// The dialect.
pub struct Native(Grpc);

impl Native {
    /// Ready to serve.
    pub fn new() -> Native {
        let services = Routes::new(ClusterServer::new(cluster::Service))
            .add_service(KeyspacesServer::new(cluster::keyspaces::Service))
            .add_service(FaultsServer::new(cluster::faults::Service))
            .add_service(WatchServer::new(watch::Service));
        let names = &[
            key_value_server::SERVICE_NAME,
            cluster_server::SERVICE_NAME,
            keyspaces_server::SERVICE_NAME,
            faults_server::SERVICE_NAME,
            watch_server::SERVICE_NAME,
        ];
        Native(Grpc::new(services, names, proto::DESCRIPTOR).with(key_value::Service))
    }
}

impl Default for Native {
    fn default() -> Native {
        Native::new()
    }
}

impl fmt::Debug for Native {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Dialect for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    fn serve(&self, stream: Stream, store: Arc<Store>, stop: Stop) -> Serving {
        self.0.serve(stream, store, stop)
    }
}
