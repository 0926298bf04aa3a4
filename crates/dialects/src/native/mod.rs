//! The dialect `native`: package `capstan.v1` over gRPC. `proto/capstan/v1/capstan.proto` is its reference.
//!
//! [`service`] is the serving side: it turns messages into [`kv::Request`]s, submits them to any [`kv::KeyValue`], and
//! turns replies into messages and errors into statuses. [`Client`] is the other end, and a [`kv::KeyValue`] itself.
//!
//! A request comes in as bytes, shares them with its op ([`decode_request`]), is validated against every limit, and
//! submitted with one channel of one value to wait on; the reply goes back the same way. Nothing is kept between requests:
//! sessions, retries and leaders are the business of the store and of the client. A request that says which cluster it is for
//! ([`CLUSTER_METADATA`]) is refused by every other.
//!
//! # Caveats
//!
//! The serving side owns no socket and no thread: the caller runs [`server_builder`] with the routes on its own runtime.
//! What a connection may hold is bounded when its `ConnectInfo` is an [`Account`].
//! Keys and values of a request are slices of the buffer it was received in: whoever keeps them for long copies them.
//! An answer that is larger than a message ([`MESSAGE_BYTES_MAX`]) cannot be told: a read is refused as too large, a write
//! is answered as in doubt, because it happened and its answer is lost.

mod account;
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

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

pub use account::Account;
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

use account::Metered;
use proto::cluster_server::ClusterServer;
use proto::key_value_server::KeyValueServer;
/// The request of any rpc that asks one thing.
use proto::operation::Operation as AnyRequest;
/// The response of any rpc that asks one thing, or an error.
use proto::operation_result::Result as AnyResponse;

/// The largest message in either direction: the largest op, and room for its frame.
pub const MESSAGE_BYTES_MAX: usize = kv::OP_BYTES_MAX + (1 << 20);
/// Operations of one batch: more gain nothing, and each is remembered until the last is answered.
pub const BATCH_OPERATIONS_MAX: usize = 1024;

/// Requests that one connection may have open: two sessions' worth. More wait at the client.
const STREAMS_MAX: u32 = 1024;
/// Streams that may have been reset by the client before they were looked at: those of a node that was held up for a
/// second, with deadlines of an eighth of that. Beyond, the client resets without end, and its connection is closed.
const RESETS_MAX: usize = 8 * STREAMS_MAX as usize;
/// What may be on its way on one stream: an eighth of the largest value, so that one stream cannot fill the connection.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// What may be on its way on one connection.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// An idle connection is asked for a sign of life so often: a peer that vanished without a word is noticed.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// And is closed when none came for so long.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// The version clock: microseconds since 1970.
pub type Clock = dyn Fn() -> u64 + Send + Sync;

/// The serving side.
#[derive(Clone, Debug)]
pub struct Service {
    /// All gRPC services: KeyValue, Cluster, grpc.health.v1, reflection. To be added to [`server_builder`].
    pub routes: Routes,
    /// Says whether this node wants requests.
    pub health: Health,
}

/// Says in grpc.health.v1 whether this node wants requests. It does at first.
#[derive(Clone, Debug)]
pub struct Health(HealthReporter);

impl Health {
    /// Wants requests or, when about to stop, wants no more of them. Watchers are told.
    pub async fn set_serving(&self, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in ["", proto::key_value_server::SERVICE_NAME, proto::cluster_server::SERVICE_NAME] {
            self.0.set_service_status(service, status).await;
        }
    }
}

/// The gRPC services in front of a store. `clock` turns a time to live into a deadline when a request is accepted.
pub fn service(
    kv: Arc<dyn kv::KeyValue>,
    cluster: Arc<dyn kv::cluster::Cluster>,
    clock: Arc<Clock>,
) -> Service {
    let (reporter, health) = tonic_health::server::health_reporter();
    let reporter = Health(reporter);
    at_once(reporter.set_serving(true));
    let keys = KeyValueServer::new(key_value::Service { kv, cluster: cluster.clone(), clock: clock.clone() })
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let routes = Routes::new(Metered(keys))
        .add_service(ClusterServer::new(cluster::Service { cluster, clock }))
        .add_service(health)
        .add_service(reflection().build_v1().expect("the descriptors were generated with the code"))
        .add_service(reflection().build_v1alpha().expect("the descriptors were generated with the code"))
        .prepare();
    Service { routes, health: reporter }
}

/// A server with settings that suit: windows for values of megabytes, bounded streams, keep-alive. No timeout of its own:
/// the store answers each request within the request's timeout. The caller sets TCP_NODELAY on the sockets it accepts.
pub fn server_builder() -> Server {
    Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_pending_accept_reset_streams(Some(RESETS_MAX))
        // Counted over a connection's whole life, as when the rest of a request arrives after it was refused: a limit would
        // end every connection some day. What a stream leaves behind is bounded by the connection's account.
        .http2_max_local_error_reset_streams(None)
}

/// Runs a future that has nothing to wait for.
fn at_once(future: impl Future<Output = ()>) {
    let future = pin!(tokio::task::unconstrained(future));
    let poll = future.poll(&mut Context::from_waker(Waker::noop()));
    assert!(poll.is_ready(), "nobody else holds the lock of a reporter that was made just now");
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTOR)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}
