//! The calls of one connection: each is counted against the connection's account, and brings along who asks.
//!
//! A request's bytes count as they arrive, whole or not, and what goes beyond is refused. An answer whose [`Share`] a service
//! put into its extensions counts until its last byte was written to the socket, or its stream or connection ended.

use std::convert::Infallible;
use std::future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::Service;
use kv::{Error, Share};
use tokio::time::{Sleep, sleep};
use tonic::body::Body;
use tonic::codegen::Service as _;
use tonic::codegen::http::{Request, Response};
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tonic::{Extensions, Status};

use super::unary::{self, Answering, Call, One, Unary, held};

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
}

impl Service<Request<Incoming>> for Calls {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        let tab = Tab::new(self.caller.account.clone());
        let share = tab.charge.request.clone();
        if let Err(error) = admit(&share, REQUEST_BYTES) {
            return Box::pin(future::ready(Ok(unary::answered(Err(to_status(&error))))));
        }
        let (mut head, body) = request.into_parts();
        let body = Arriving { body, share, late: None };
        let asked = Asked { store: self.caller.store.clone(), tab };
        let metadata = MetadataMap::from_headers(std::mem::take(&mut head.headers));
        let call = Call { metadata, asked, body };
        if let Some(unary) = &self.unary
            && let Some(method) = unary.find(head.uri.path())
        {
            return unary.answer(method, call);
        }
        head.headers = call.metadata.into_headers();
        head.extensions.insert(call.asked);
        // Routes are always ready.
        let answered = self.routes.clone().call(Request::from_parts(head, Body::new(call.body)));
        Box::pin(async move {
            let mut response = answered.await?;
            let share = response.extensions_mut().remove::<Share>();
            Ok(response.map(|body| match share {
                Some(share) => Answer::Counted(Leaving { body, share }),
                None => Answer::Whole(body),
            }))
        })
    }
}

/// The body of an answer.
pub(crate) enum Answer {
    /// Of a call that is answered with one message.
    One(One),
    /// Of a service that counts what it answers.
    Counted(Leaving),
    /// Of all others.
    Whole(Body),
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.get_mut() {
            Answer::One(body) => Pin::new(body).poll_frame(cx),
            Answer::Counted(body) => body.poll_frame(cx),
            Answer::Whole(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Answer::One(body) => body.is_end_stream(),
            Answer::Counted(body) => body.body.is_end_stream(),
            Answer::Whole(body) => body.is_end_stream(),
        }
    }
}

/// A request on its way in.
pub(super) struct Arriving {
    body: Incoming,
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
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
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

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer on its way out: its share lives in its bytes.
pub(crate) struct Leaving {
    body: Body,
    share: Share,
}

impl Leaving {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(|bytes| held(bytes, &self.share)))))
    }
}
