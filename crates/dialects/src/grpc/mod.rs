//! What the dialects over gRPC share: a connection of HTTP/2, what surrounds the services on it, and the connection of their
//! clients ([`channel`]).
//!
//! A dialect brings its services as tonic's [`Routes`], made once. [`Grpc`] adds health (grpc.health.v1) and reflection, and
//! serves connections with them. Who asks comes with each request ([`Asked`]): so a service is stateless, and one set of
//! routes serves all connections of all listeners.
//!
//! ```text
//! stream ─▶ Greeted ──▶ h2 ──▶ Calls ─┬────▶ Unary ──▶ a dialect's methods of one message each way
//!           begins in                 └────▶ Routes ─▶ its services, as generated: Asked::take(), ask(), a message
//!           time, or ends       counts a request while it arrives, and an answer until it has left
//! ```
//!
//! # Caveats
//!
//! No timeout of its own: the store answers each request within the request's timeout, which is never longer than the
//! `grpc-timeout` that came with it ([`time_left`]). A request that arrives slowly is given up after a minute. A call of one
//! message that its client has given up goes on to its end, and counts until then.

mod calls;
mod channel;
mod connection;
mod framing;
mod greeting;
mod health;
mod life;
mod routed;
mod timeout;
mod unary;

use std::sync::Arc;

use kv::Share;
use tonic::Response;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;

use crate::{Serving, Stop, Store, Stream};
use calls::{Caller, Calls};
use greeting::Greeted;
use health::Health;

pub(crate) use calls::Asked;
pub(crate) use channel::{Address, Channel, Connection, Failure, Messages, request};
pub(crate) use framing::frame;
pub(crate) use timeout::time_left;
pub(crate) use unary::{Call, Unary};

/// Requests that one connection may have open: two sessions' worth. More wait at the client.
const STREAMS_MAX: u32 = 1024;
/// Streams that may have been reset by the client before they were looked at: those of a node that was held up for a
/// second, with deadlines of an eighth of that. Beyond, the client resets without end, and its connection is closed.
const RESETS_MAX: usize = 8 * STREAMS_MAX as usize;
/// What may be on its way on one stream: an eighth of the largest value, so that one stream cannot fill the connection.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// What may be on its way on one connection.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// Services, ready for connections.
#[derive(Clone)]
pub(crate) struct Grpc {
    unary: Option<Arc<dyn Unary>>,
    routes: Routes,
}

impl Grpc {
    /// Of a dialect's services: their routes, their names, and the bytes of the FileDescriptorSet that describes them.
    pub fn new(services: Routes, names: &'static [&'static str], descriptors: &'static [u8]) -> Grpc {
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(descriptors)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let sound = "the descriptors were generated with the code";
        let routes = services
            .add_service(HealthServer::new(Health { names }))
            .add_service(reflection().build_v1().expect(sound))
            .add_service(reflection().build_v1alpha().expect(sound))
            .prepare();
        Grpc { unary: None, routes }
    }

    /// With these methods before all others.
    pub fn with(self, unary: impl Unary + 'static) -> Grpc {
        Grpc { unary: Some(Arc::new(unary)), ..self }
    }

    /// Serves one connection, see [`crate::Dialect::serve`].
    pub fn serve(&self, stream: Stream, store: Arc<Store>, stop: Stop) -> Serving {
        let Stream { bytes, account } = stream;
        let bytes = Greeted::new(bytes, stop.clone());
        let calls = Calls::new(self.unary.clone(), self.routes.clone(), Caller { store, account });
        Box::pin(async move {
            if let Err(why) = connection::serve(bytes, calls, stop).await {
                tracing::debug!(%why, "a connection of a client failed");
            }
        })
    }
}

/// A response with the share that it holds until it has left.
pub(crate) fn respond<T>(message: T, share: Share) -> Response<T> {
    let mut response = Response::new(message);
    response.extensions_mut().insert(share);
    response
}
