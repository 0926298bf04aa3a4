//! One message on its way to a server, and the one that it answers.

use bytes::{Buf, Bytes, BytesMut};
use h2::RecvStream;
use prost::Message;
use tonic::codegen::http::{HeaderMap, Response, StatusCode};
use tonic::{Code, Status};

use super::Failure;
use crate::grpc::framing::{HEAD_BYTES, Head, frame};
use crate::native::MESSAGE_BYTES_MAX;

const STATUS: &str = "grpc-status";

/// A message as it goes out to a server.
pub(crate) fn request(message: &impl Message) -> Result<Bytes, Failure> {
    let frame = frame(message);
    match frame.len() - HEAD_BYTES {
        length if length > MESSAGE_BYTES_MAX => {
            Err(Failure::too_large("the request", length, MESSAGE_BYTES_MAX))
        }
        _ => Ok(frame),
    }
}

/// The messages of an answer that has some.
pub(super) fn body(response: Response<RecvStream>) -> Result<RecvStream, Failure> {
    let (head, body) = response.into_parts();
    // An answer without a message says all in its head.
    if head.headers.contains_key(STATUS) {
        check(&head.headers)?;
        return Err(Failure::malformed("it is ok and has no message"));
    }
    if head.status != StatusCode::OK {
        return Err(Failure::Status(of_http(head.status)));
    }
    Ok(body)
}

/// The message of an answer. `lost` says what an error of the stream comes to.
pub(super) async fn read(
    response: Response<RecvStream>,
    lost: impl Fn(h2::Error) -> Failure,
) -> Result<Bytes, Failure> {
    let mut body = body(response)?;
    let message = match gather(&mut body, &lost).await? {
        Some(message) => message,
        None => {
            trailers(&mut body, &lost).await?;
            return Err(Failure::malformed("it is ok and has no message"));
        }
    };
    while let Some(more) = body.data().await {
        if !more.map_err(&lost)?.is_empty() {
            return Err(Failure::malformed("it goes on after its message"));
        }
    }
    trailers(&mut body, &lost).await?;
    Ok(message)
}

/// The first message of a body; `None` = it has none.
async fn gather(
    body: &mut RecvStream,
    lost: impl Fn(h2::Error) -> Failure,
) -> Result<Option<Bytes>, Failure> {
    let Some(first) = body.data().await else { return Ok(None) };
    let mut first = first.map_err(&lost)?;
    // Most come in one piece and are taken as they are. What they held of the windows is free when the stream is.
    if length(&first)?.is_some_and(|length| first.len() == HEAD_BYTES + length) {
        first.advance(HEAD_BYTES);
        return Ok(Some(first));
    }
    let mut whole = BytesMut::new();
    let mut piece = first;
    loop {
        let freed = body.flow_control().release_capacity(piece.len());
        freed.map_err(&lost)?;
        whole.extend_from_slice(&piece);
        if let Some(length) = length(&whole)? {
            let bytes = HEAD_BYTES + length;
            if whole.len() > bytes {
                return Err(Failure::malformed("it goes on after its message"));
            }
            if whole.len() == bytes {
                return Ok(Some(whole.split_off(HEAD_BYTES).freeze()));
            }
            whole.reserve(bytes - whole.len());
        }
        piece = match body.data().await {
            Some(piece) => piece.map_err(&lost)?,
            None => {
                trailers(body, &lost).await?;
                return Err(Failure::malformed("its message is cut off"));
            }
        };
    }
}

/// The length of the message that begins here, as soon as that is there.
pub(super) fn length(bytes: &[u8]) -> Result<Option<usize>, Failure> {
    let Some(Head { is_compressed, length }) = Head::of(bytes) else { return Ok(None) };
    if is_compressed {
        return Err(Failure::malformed("it is compressed, which was not asked for"));
    }
    if length > MESSAGE_BYTES_MAX {
        return Err(Failure::too_large("the answer", length, MESSAGE_BYTES_MAX));
    }
    Ok(Some(length))
}

pub(super) async fn trailers(
    body: &mut RecvStream,
    lost: impl Fn(h2::Error) -> Failure,
) -> Result<(), Failure> {
    match body.trailers().await.map_err(lost)? {
        Some(trailers) => check(&trailers),
        None => Err(Failure::Status(Status::new(Code::Unknown, "the answer ends without a status"))),
    }
}

/// Whether it ended well.
fn check(headers: &HeaderMap) -> Result<(), Failure> {
    if headers.get(STATUS).is_some_and(|status| status == "0") {
        return Ok(());
    }
    let status =
        Status::from_header_map(headers).unwrap_or_else(|| Status::unknown("the answer has no status"));
    match status.code() {
        Code::Ok => Ok(()),
        _ => Err(Failure::Status(status)),
    }
}

/// What an answer comes to that is not of gRPC (see gRPC's http-grpc-status-mapping.md).
fn of_http(status: StatusCode) -> Status {
    let code = match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    };
    Status::new(code, format!("the answer is none of gRPC: HTTP status {status}"))
}
