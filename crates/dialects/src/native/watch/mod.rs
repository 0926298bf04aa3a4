//! `capstan.v1.Watch` in front of a store, and what goes over it.
//!
//! The call is a body that goes on: the store is asked for the next batch when the one before has left, and that waits for the
//! client's windows. So a client that takes nothing holds one batch here, and one message of the connection.

pub(super) mod message;

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use kv::Error;
use kv::watch::{Batch, Watcher};
use tokio::sync::oneshot;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::{cluster_id, proto, status};
use crate::grpc::{Asked, respond};

/// The service.
pub(super) struct Service;

#[tonic::async_trait]
impl proto::watch_server::Watch for Service {
    type WatchStream = Batches;

    async fn watch(&self, request: Request<proto::WatchRequest>) -> Result<Response<Batches>, Status> {
        let (metadata, mut extensions, message) = request.into_parts();
        let Asked { store, tab } = Asked::take(&mut extensions);
        cluster_id::check(&*store.cluster, &metadata)?;
        let watching = message::decode_request(message).map_err(|error| status::to_status(&error))?;
        watching.validate().map_err(|error| status::to_status(&error))?;
        let watcher = store.watch.watch(watching);
        let batches = Batches { watcher, waits: None, pieces: VecDeque::new(), is_over: false };
        Ok(respond(batches, tab.charge.answer))
    }
}

/// The batches of a watch, as messages.
pub(super) struct Batches {
    watcher: Box<dyn Watcher>,
    /// The next batch, when it was asked for.
    waits: Option<oneshot::Receiver<Result<Batch, Error>>>,
    /// What is left of the last one.
    pieces: VecDeque<proto::WatchResponse>,
    is_over: bool,
}

impl Stream for Batches {
    type Item = Result<proto::WatchResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                return Poll::Ready(Some(Ok(piece)));
            }
            if self.is_over {
                return Poll::Ready(None);
            }
            let Some(waits) = &mut self.waits else {
                let (send, receive) = oneshot::channel();
                // The caller may have gone away.
                self.watcher.next(Box::new(move |next| drop(send.send(next))));
                self.waits = Some(receive);
                continue;
            };
            let next = ready!(Pin::new(waits).poll(cx));
            self.waits = None;
            match next.unwrap_or_else(|_| Err(stopped())) {
                Ok(batch) => self.pieces = message::encode_batch(&batch).into(),
                Err(error) => {
                    self.is_over = true;
                    return Poll::Ready(Some(Err(status::to_status(&error))));
                }
            }
        }
    }
}

/// What a watch comes to that the node dropped.
fn stopped() -> Error {
    Error::Unavailable("the node stopped: go on at another node from where the watch was".into())
}
