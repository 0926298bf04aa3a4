//! `capstan.v1.KeyValue.Batch`: many independent requests in one message.

use std::time::Duration;

use kv::{Error, Reply, Request};

use super::key_value::weigh;
use super::reply::{self, Shape};
use super::{AnyRequest, AnyResponse, BATCH_OPERATIONS_MAX, MESSAGE_BYTES_MAX, proto, request, status};
use crate::account::{Tab, admit};
use crate::ask::ask_all;
use crate::{Clock, Store};

/// Where it is asked.
pub(super) const PATH: &str = "/capstan.v1.KeyValue/Batch";
/// What an operation holds beside its bytes: its part in the store. It has no stream and task of its own.
const OPERATION_BYTES: usize = 1 << 10;

/// What a result may weigh beside its own bytes: its tag and length in the batch, and the error that tells it has no room.
const RESULT_FRAME_BYTES: usize = 512;

/// One result per operation, in order. An operation that makes no sense is answered as such; the others are asked.
pub(super) async fn ask(
    store: &Store,
    batch: proto::BatchRequest,
    time: Option<Duration>,
    tab: &Tab,
) -> Result<proto::BatchResponse, Error> {
    if batch.operations.len() > BATCH_OPERATIONS_MAX {
        return Err(Error::TooLarge {
            what: "operations of one batch".into(),
            size: batch.operations.len() as u64,
            limit: BATCH_OPERATIONS_MAX as u64,
        });
    }
    request::check_batch_header(batch.header.as_ref())?;
    admit(&tab.charge.request, batch.operations.len() * OPERATION_BYTES)?;
    let mut requests = Vec::with_capacity(batch.operations.len());
    let asked: Vec<Result<Shape, Error>> = batch
        .operations
        .into_iter()
        .map(|operation| {
            let (shape, mut request) = decode(operation, batch.header.as_ref(), &*store.clock)?;
            request.timeout = time.map_or(request.timeout, |time| time.min(request.timeout));
            requests.push(request);
            Ok(shape)
        })
        .collect();
    let replies = ask_all(&*store.keys, requests, tab).await?;
    Ok(proto::BatchResponse { results: results(asked, replies) })
}

/// The request of one operation, and the kind of its answer.
pub(super) fn decode(
    operation: proto::Operation,
    header: Option<&proto::RequestHeader>,
    clock: &Clock,
) -> Result<(Shape, Request), Error> {
    let mut message: AnyRequest = operation.operation.ok_or_else(|| {
        Error::Invalid(
            "an operation of the batch is empty: set what is to be done, such as get or put".into(),
        )
    })?;
    request::inherit(&mut message, header);
    let shape = Shape::of(&message);
    let request = request::decode(message, clock)?;
    request.op.validate()?;
    Ok((shape, request))
}

fn results(
    asked: Vec<Result<Shape, Error>>,
    replies: Vec<Result<Reply, Error>>,
) -> Vec<proto::OperationResult> {
    let mut replies = replies.into_iter();
    let answer = |asked: Result<Shape, Error>| {
        let shape = asked?;
        let reply = replies.next().expect("each request that was asked has its place")?;
        reply::encode(&shape, reply).map(|response| (shape, response))
    };
    let answers: Vec<_> = asked.into_iter().map(answer).collect();
    // Errors always get their place; answers share the rest.
    let errors = answers.iter().filter_map(|answer| answer.as_ref().err()).map(error_bytes).sum::<usize>();
    let mut room = MESSAGE_BYTES_MAX - errors - answers.len() * RESULT_FRAME_BYTES;
    let result = |answer: Result<(Shape, AnyResponse), Error>| {
        let result = answer.and_then(|(shape, response)| take_room(&mut room, &shape, response));
        let result = result.unwrap_or_else(|error| AnyResponse::Error(status::to_message(&error)));
        proto::OperationResult { result: Some(result) }
    };
    answers.into_iter().map(result).collect()
}

fn error_bytes(error: &Error) -> usize {
    weigh(AnyResponse::Error(status::to_message(error))).1
}

/// The response when it still fits into the message, else an error that tells to ask again.
fn take_room(room: &mut usize, shape: &Shape, response: AnyResponse) -> Result<AnyResponse, Error> {
    let (response, size) = weigh(response);
    if size <= *room {
        *room -= size;
        return Ok(response);
    }
    let full = "the answers of the batch do not fit into one message";
    if shape.is_read() {
        Err(Error::Unavailable(format!("{full}: ask this one alone")))
    } else {
        Err(Error::InDoubt(format!(
            "{full}: this write happened or failed; ask it alone with the same request id"
        )))
    }
}
