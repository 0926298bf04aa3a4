//! Calls of one message each way, which is all that most requests are: answered without a stub.
//!
//! What is generated for a service takes any stream either way. It gives each request a buffer of its own to gather in, each
//! answer one to be encoded in, and each body a box. A call whose message comes in one piece, and is answered by one, needs
//! none of that: the message is a slice of what was read off the connection, and the answer is one buffer of its size.
//!
//! No compression is offered, so none may come.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame};
use kv::Share;
use tonic::Status;
use tonic::codegen::http::{HeaderMap, HeaderName, HeaderValue, Response, header::CONTENT_TYPE};
use tonic::metadata::MetadataMap;

use super::calls::{Answer, Arriving, Asked};
use super::framing::{HEAD_BYTES, Head};

/// Methods that take one message and answer with one.
pub(crate) trait Unary: Send + Sync {
    /// The number of the method at a path, `/package.Service/Method`.
    fn find(&self, path: &str) -> Option<usize>;

    /// Answers a call of the method of that number.
    fn answer(&self, method: usize, call: Call) -> Answering;
}

/// An answer on its way, see [`answered`].
pub(crate) type Answering = Pin<Box<dyn Future<Output = Result<Response<Answer>, Infallible>> + Send>>;

/// A call, before its message is there.
pub(crate) struct Call {
    pub metadata: MetadataMap,
    pub asked: Asked,
    pub(super) body: Arriving,
}

impl Call {
    /// The call's message, of `bytes_max` at most. A status is the caller's mistake, or says that it did not come in time.
    pub async fn message(&mut self, bytes_max: usize) -> Result<Bytes, Status> {
        let mut whole = Bytes::new();
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx)).await {
            // What is no data are trailers, which say nothing in a request.
            let Ok(more) = frame?.into_data() else { continue };
            whole = joined(whole, more, bytes_max);
            check_head(&whole, bytes_max)?;
        }
        let length =
            check_head(&whole, bytes_max)?.ok_or_else(|| Status::internal("Missing request message."))?;
        whole.advance(HEAD_BYTES);
        match whole.len() {
            has if has == length => Ok(whole),
            has if has < length => Err(Status::internal("the request ended within its message")),
            _ => Err(Status::internal("this method takes one message, and the request has more")),
        }
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

/// What a call is answered: a message in its frame, and the share that it holds until it has left.
pub(crate) fn answered(result: Result<(Bytes, Share), Status>) -> Response<Answer> {
    let (frame, share) = match result {
        Ok(answer) => answer,
        Err(status) => return status.into_http::<tonic::body::Body>().map(Answer::Whole),
    };
    let mut response = Response::new(Answer::One(One { frame: Some(held(frame, &share)), is_over: false }));
    response.headers_mut().insert(CONTENT_TYPE, GRPC.clone());
    response
}

/// Bytes of an answer that keep its share as long as there is a copy of them.
pub(super) fn held(bytes: Bytes, share: &Share) -> Bytes {
    share.add(bytes.len().saturating_sub(share.amount()));
    share.clone().keep_with(bytes)
}

static GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
static STATUS: HeaderName = HeaderName::from_static("grpc-status");
static OK: HeaderValue = HeaderValue::from_static("0");

/// One message, and then that all went well.
pub(crate) struct One {
    frame: Option<Bytes>,
    is_over: bool,
}

impl HttpBody for One {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(frame) = self.frame.take() {
            return Poll::Ready(Some(Ok(Frame::data(frame))));
        }
        if std::mem::replace(&mut self.is_over, true) {
            return Poll::Ready(None);
        }
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert(STATUS.clone(), OK.clone());
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }
}

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
    fn head_that_announces_what_is_not_taken_is_refused() {
        let code = |head: [u8; HEAD_BYTES]| check_head(&head, 100).map_err(|status| status.code());
        assert_eq!(code([0, 0, 0, 0, 100]), Ok(Some(100)));
        assert_eq!(code([0, 0, 0, 0, 101]), Err(tonic::Code::OutOfRange));
        assert_eq!(code([1, 0, 0, 0, 1]), Err(tonic::Code::Unimplemented));
        assert_eq!(check_head(&[0, 0, 0, 0], 100).unwrap(), None);
    }
}
