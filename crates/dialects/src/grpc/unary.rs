//! Calls of one message each way, which is all that most requests are: answered without a stub.
//!
//! What is generated for a service takes any stream either way. It gives each request a task, a buffer of its own to gather in,
//! each answer one to be encoded in, and each body a box. A call whose message is there when it begins, and is answered by one,
//! needs none of that: the message is a slice of what was read off the connection, the store is asked at once, and whoever has
//! the answer puts it into the connection: one buffer of its size.
//!
//! No compression is offered, so none may come.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::server::SendResponse;
use http_body::Body as HttpBody;
use kv::Share;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, HeaderName, HeaderValue, Response, header::CONTENT_TYPE};
use tonic::metadata::MetadataMap;

use super::calls::{Arriving, Asked};
use super::framing::{HEAD_BYTES, Head};

/// Methods that take one message and answer with one.
pub(crate) trait Unary: Send + Sync {
    /// The number of the method at a path, `/package.Service/Method`.
    fn find(&self, path: &str) -> Option<usize>;

    /// Has a call of the method of that number answered, now or later: see [`Call::read`].
    fn answer(&self, method: usize, call: Call);
}

/// A call, before its message is there.
pub(crate) struct Call {
    pub metadata: MetadataMap,
    pub asked: Asked,
    pub respond: Respond,
    body: Arriving,
    /// What is there of the message, with its head.
    came: Bytes,
}

impl Call {
    pub(super) fn new(metadata: MetadataMap, asked: Asked, body: Arriving, respond: Respond) -> Call {
        Call { metadata, asked, respond, body, came: Bytes::new() }
    }

    /// Has `then` go on with the message, of `bytes_max` at most: now if it is there, else on a task that waits for it. What is
    /// no such message, or does not come in time, is answered as such.
    pub fn read(mut self, bytes_max: usize, then: impl FnOnce(Bytes, Call) + Send + 'static) {
        match self.poll_message(&mut Context::from_waker(Waker::noop()), bytes_max) {
            Poll::Ready(message) => self.go_on(message, then),
            Poll::Pending => {
                tokio::spawn(async move {
                    let message = poll_fn(|cx| self.poll_message(cx, bytes_max)).await;
                    self.go_on(message, then);
                });
            }
        }
    }

    fn go_on(self, message: Result<Bytes, Status>, then: impl FnOnce(Bytes, Call)) {
        match message {
            Ok(message) => then(message, self),
            Err(status) => self.respond.answer(Err(status)),
        }
    }

    fn poll_message(&mut self, cx: &mut Context<'_>, bytes_max: usize) -> Poll<Result<Bytes, Status>> {
        while let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            // What is no data are trailers, which say nothing in a request.
            let Ok(more) = frame?.into_data() else { continue };
            self.came = joined(std::mem::take(&mut self.came), more, bytes_max);
            check_head(&self.came, bytes_max)?;
        }
        Poll::Ready(message_of(std::mem::take(&mut self.came), bytes_max))
    }
}

/// The message of a request that has come.
fn message_of(mut whole: Bytes, bytes_max: usize) -> Result<Bytes, Status> {
    let length =
        check_head(&whole, bytes_max)?.ok_or_else(|| Status::internal("Missing request message."))?;
    whole.advance(HEAD_BYTES);
    match whole.len() {
        has if has == length => Ok(whole),
        has if has < length => Err(Status::internal("the request ended within its message")),
        _ => Err(Status::internal("this method takes one message, and the request has more")),
    }
}

/// What has come, with what comes next. Most messages come in one piece, which is not copied. Room is made for as much again as
/// has come, up to what was announced: who announces much and sends little takes little.
fn joined(whole: Bytes, more: Bytes, bytes_max: usize) -> Bytes {
    if whole.is_empty() {
        return more;
    }
    let mut buffer = whole.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    if let Ok(Some(length)) = check_head(&buffer, bytes_max) {
        let left = (HEAD_BYTES + length).saturating_sub(buffer.len());
        buffer.reserve(left.min(buffer.len()).max(more.len()));
    }
    buffer.put(more);
    buffer.freeze()
}

/// The length of the message that a frame's head announces, once it is there.
fn check_head(frame: &[u8], bytes_max: usize) -> Result<Option<usize>, Status> {
    let Some(Head { is_compressed, length }) = Head::of(frame) else { return Ok(None) };
    if is_compressed {
        return Err(Status::unimplemented(
            "the message is compressed, which was not offered: send it as it is",
        ));
    }
    if length > bytes_max {
        return Err(Status::out_of_range(format!(
            "the message has {length} bytes, and at most {bytes_max} are taken: send less at once"
        )));
    }
    Ok(Some(length))
}

/// Where a call's answer goes.
pub(crate) struct Respond(SendResponse<Bytes>);

impl Respond {
    pub(super) fn new(respond: SendResponse<Bytes>) -> Respond {
        Respond(respond)
    }

    /// Answers: with a message in its frame, and the share that it holds until it has left.
    pub fn answer(mut self, result: Result<(Bytes, Share), Status>) {
        // An error says that the client has gone away.
        let _ = match result {
            Ok((frame, share)) => self.send(held(frame, &share)),
            Err(status) => self.refuse(status),
        };
    }

    fn send(&mut self, frame: Bytes) -> Result<(), h2::Error> {
        let mut response = Response::new(());
        response.headers_mut().insert(CONTENT_TYPE, GRPC.clone());
        let mut stream = self.0.send_response(response, false)?;
        // All of it waits for its turn in the connection, which sends what the client has room for.
        stream.send_data(frame, false)?;
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert(STATUS.clone(), OK.clone());
        stream.send_trailers(trailers)
    }

    fn refuse(&mut self, status: Status) -> Result<(), h2::Error> {
        let (head, _) = status.into_http::<Body>().into_parts();
        self.0.send_response(Response::from_parts(head, ()), true).map(drop)
    }
}

/// Bytes of an answer that keep its share as long as there is a copy of them.
pub(super) fn held(bytes: Bytes, share: &Share) -> Bytes {
    share.add(bytes.len().saturating_sub(share.amount()));
    share.clone().keep_with(bytes)
}

static GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
static STATUS: HeaderName = HeaderName::from_static("grpc-status");
static OK: HeaderValue = HeaderValue::from_static("0");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::frame;

    #[test]
    fn message_in_any_pieces_is_the_same() {
        let framed = frame(&"a message".to_owned());
        for cut in 0..=framed.len() {
            let mut whole = Bytes::new();
            for piece in [framed.slice(..cut), framed.slice(cut..)] {
                whole = joined(whole, piece, 100);
                assert!(check_head(&whole, 100).is_ok());
            }
            assert_eq!(whole, framed, "cut at {cut}");
        }
        assert_eq!(check_head(&framed, 100).unwrap(), Some(framed.len() - HEAD_BYTES));
    }

    #[test]
    fn message_that_is_announced_and_not_there_takes_little_room() {
        let head = Bytes::from_static(&[0, 0, 0x80, 0, 0]);
        let whole = joined(head, Bytes::from(vec![7; 100]), 1 << 24);
        let whole = joined(whole, Bytes::from(vec![7; 100]), 1 << 24);
        let buffer = whole.try_into_mut().expect("nobody else has it");
        assert!(buffer.len() == HEAD_BYTES + 200 && buffer.capacity() <= 1024, "{}", buffer.capacity());
    }

    #[test]
    fn head_that_announces_what_is_not_taken_is_refused() {
        let code = |head: [u8; HEAD_BYTES]| check_head(&head, 100).map_err(|status| status.code());
        assert_eq!(code([0, 0, 0, 0, 100]), Ok(Some(100)));
        assert_eq!(code([0, 0, 0, 0, 101]), Err(tonic::Code::OutOfRange));
        assert_eq!(code([1, 0, 0, 0, 1]), Err(tonic::Code::Unimplemented));
        assert_eq!(check_head(&[0, 0, 0, 0], 100).unwrap(), None);
    }
}
