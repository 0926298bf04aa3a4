//! What one connection may hold at this node: requests that came in and are not done, answers that it has not taken.
//!
//! The account comes with each request, as the connection's `ConnectInfo`. [`Metered`] stands in front of the service:
//! it counts a request's bytes as they arrive, whole or not, and refuses what goes beyond; and it sees to it that an answer
//! counts until its last byte was written to the socket, or its stream or connection ended. Between the two the store
//! counts what it reads ([`kv::Charge`]).
//!
//! A connection that takes its answers slowly is served slowly: its requests wait for room, one after the other, before
//! they are asked of the store. What does not find room in its time is refused.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use kv::{Budget, Charge, Error, Share, TIMEOUT_MILLIS_MAX};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::{Instant, Sleep, sleep, timeout_at};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;

use super::status::to_status;

/// What a request holds beside its bytes: its stream, its task, its part in the store.
const REQUEST_BYTES: usize = 8 << 10;
/// The same of an operation of a batch, which has no stream and task of its own.
pub const OPERATION_BYTES: usize = 1 << 10;
/// A request must have arrived as a whole after so long, however slow its connection.
const ARRIVAL: Duration = Duration::from_secs(60);

/// What a connection may hold. Clones are the same account; the default one is without limits.
#[derive(Clone, Debug, Default)]
pub struct Account {
    requests: Budget,
    answers: Budget,
    turn: Arc<Mutex<()>>,
}

impl Account {
    /// Of a connection that may hold so much: bytes of requests, and of answers.
    pub fn new(requests: Budget, answers: Budget) -> Account {
        Account { requests, answers, turn: Arc::default() }
    }

    /// Its answers.
    pub fn answers(&self) -> &Budget {
        &self.answers
    }

    /// A charge for one request.
    fn charge(&self) -> Charge {
        Charge { request: self.requests.share(), answer: self.answers.share() }
    }
}

/// A request's account and what it holds of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Tab {
    account: Account,
    pub(super) charge: Charge,
}

impl Tab {
    /// Waits until there is room for an answer, at the latest until `deadline`. Whoever had to wait holds the turn, so that
    /// those who wait try one at a time.
    pub(super) async fn room(
        &self,
        deadline: Instant,
        was_refused: bool,
    ) -> Result<Option<OwnedMutexGuard<()>>, Error> {
        let answers = &self.account.answers;
        if !was_refused && answers.has_room() {
            return Ok(None);
        }
        let wait = async {
            let turn = self.account.turn.clone().lock_owned().await;
            std::future::poll_fn(|cx| answers.poll_room(cx)).await;
            turn
        };
        timeout_at(deadline, wait).await.map(Some).map_err(|_| no_room_for_answer())
    }

    /// Forgets what an attempt held that came to nothing.
    pub(super) fn begin_again(&mut self) {
        self.charge.answer = self.account.answers.share();
    }
}

fn no_room_for_answer() -> Error {
    Error::Unavailable(
        "too many bytes of answers wait to be taken from this node: take them faster, ask for less at once, or use \
         another connection"
            .into(),
    )
}

fn no_room_for_request() -> Error {
    Error::Unavailable(
        "too many bytes of requests are open on this connection or at this node: send fewer at once, or to other nodes"
            .into(),
    )
}

/// When a request's time is over.
pub(super) fn deadline(timeout: Duration) -> Instant {
    Instant::now() + timeout.min(Duration::from_millis(TIMEOUT_MILLIS_MAX))
}

/// Counts more of a request against its account.
pub(super) fn admit(share: &Share, bytes: usize) -> Result<(), Error> {
    if share.try_add(bytes) { Ok(()) } else { Err(no_room_for_request()) }
}

/// A service whose requests and answers are counted.
#[derive(Clone, Debug)]
pub(super) struct Metered<S>(pub(super) S);

impl<S: NamedService> NamedService for Metered<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Metered<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let account = request.extensions().get::<Account>().cloned().unwrap_or_default();
        let charge = account.charge();
        if let Err(error) = admit(&charge.request, REQUEST_BYTES) {
            return Box::pin(std::future::ready(Ok(to_status(&error).into_http())));
        }
        let share = charge.request.clone();
        request.extensions_mut().insert(Tab { account, charge });
        let arriving = |body| Body::new(Arriving { body, share, late: None });
        let answered = self.0.call(request.map(arriving));
        Box::pin(async move {
            let mut response = answered.await?;
            Ok(match response.extensions_mut().remove::<Share>() {
                Some(share) => response.map(|body| Body::new(Leaving { body, share })),
                None => response,
            })
        })
    }
}

/// A request on its way in.
struct Arriving {
    body: Body,
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
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer on its way out: its share lives in its bytes.
struct Leaving {
    body: Body,
    share: Share,
}

impl HttpBody for Leaving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(frame.map(|frame| {
            frame.map(|frame| {
                frame.map_data(|bytes| {
                    self.share.add(bytes.len().saturating_sub(self.share.amount()));
                    self.share.clone().keep_with(bytes)
                })
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
