//! The calls of one connection: each is counted against the connection's account, and brings along who asks.
//!
//! A request's bytes count as they arrive, whole or not, and what goes beyond is refused. An answer whose [`Share`] a service
//! put into its extensions counts until its last byte was written to the socket, or its stream or connection ended.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http_body::{Body as HttpBody, Frame};
use kv::{Error, Share};
use tokio::time::{Sleep, sleep};
use tonic::body::Body;
use tonic::codegen::Service as _;
use tonic::codegen::http::Request;
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tonic::{Extensions, Status};

use super::routed;
use super::unary::{Call, Respond, Unary};
use crate::account::{Tab, admit};
use crate::native::to_status;
use crate::{Account, Store};

/// What a request holds beside its bytes: its stream, its task, its part in the store.
const REQUEST_BYTES: usize = 8 << 10;
/// A request must have arrived as a whole after so long, however slow its connection.
const ARRIVAL: Duration = Duration::from_secs(60);

/// A connection, and the store behind it.
pub(super) struct Caller {
    pub store: Arc<Store>,
    pub account: Account,
}

/// What comes with a request: the store that is asked, and what the request holds of its connection's account.
#[derive(Clone)]
pub(crate) struct Asked {
    pub store: Arc<Store>,
    pub tab: Tab,
}

impl Asked {
    /// Out of a request's extensions, once.
    pub fn take(extensions: &mut Extensions) -> Asked {
        extensions.remove().expect("every request comes over a connection, which puts this there")
    }
}

/// What answers the calls of one connection.
pub(super) struct Calls {
    /// Of a dialect that has such.
    unary: Option<Arc<dyn Unary>>,
    /// All others.
    routes: Routes,
    caller: Caller,
}

impl Calls {
    pub fn new(unary: Option<Arc<dyn Unary>>, routes: Routes, caller: Caller) -> Calls {
        Calls { unary, routes, caller }
    }

    /// Has a call answered, now or later.
    pub fn begin(&self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        let tab = Tab::new(self.caller.account.clone());
        let share = tab.charge.request.clone();
        if let Err(error) = admit(&share, REQUEST_BYTES) {
            return Respond::new(respond).answer(Err(to_status(&error)));
        }
        let (mut head, body) = request.into_parts();
        let body = Arriving { body, share, late: None };
        let asked = Asked { store: self.caller.store.clone(), tab };
        if let Some(unary) = &self.unary
            && let Some(method) = unary.find(head.uri.path())
        {
            let metadata = MetadataMap::from_headers(head.headers);
            return unary.answer(method, Call::new(metadata, asked, body, Respond::new(respond)));
        }
        head.extensions.insert(asked);
        // Routes are always ready.
        let answer = self.routes.clone().call(Request::from_parts(head, Body::new(body)));
        tokio::spawn(routed::send(answer, respond));
    }
}

/// A request on its way in.
pub(super) struct Arriving {
    body: RecvStream,
    share: Share,
    /// Most arrive at once and need none.
    late: Option<Pin<Box<Sleep>>>,
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Poll::Ready(frame) = self.poll_body(cx) else {
            let late = self.late.get_or_insert_with(|| Box::pin(sleep(ARRIVAL)));
            ready!(late.as_mut().poll(cx));
            let why = format!("the request did not arrive within {ARRIVAL:?}: send it again");
            return Poll::Ready(Some(Err(to_status(&Error::Unavailable(why)))));
        };
        if let Some(Ok(frame)) = &frame
            && let Some(bytes) = frame.data_ref()
            && let Err(error) = admit(&self.share, bytes.len())
        {
            return Poll::Ready(Some(Err(to_status(&error))));
        }
        Poll::Ready(frame.map(|frame| frame.map_err(|error| Status::from_error(Box::new(error)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

impl Arriving {
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        match ready!(self.body.poll_data(cx)) {
            Some(Ok(bytes)) => {
                // It is counted here from now on, and makes room for more on the wire.
                let released = self.body.flow_control().release_capacity(bytes.len());
                Poll::Ready(Some(released.map(|()| Frame::data(bytes))))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            None => {
                self.body.poll_trailers(cx).map(|trailers| Some(trailers.transpose()?.map(Frame::trailers)))
            }
        }
    }
}
