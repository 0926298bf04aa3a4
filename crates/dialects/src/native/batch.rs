//! `capstan.v1.KeyValue.Batch`: many independent requests in one message.

use std::time::Duration;

use kv::{Charge, Completions, Error, KeyValue, Reply, Request};
use tokio::sync::oneshot;

use super::key_value::weigh;
use super::reply::{self, Shape};
use super::{AnyRequest, AnyResponse, BATCH_OPERATIONS_MAX, MESSAGE_BYTES_MAX, proto, request, status};
use crate::account::{Tab, admit, deadline};
use crate::ask::unanswered;
use crate::{Clock, Store};

/// What an operation holds beside its bytes: its part in the store. It has no stream and task of its own.
const OPERATION_BYTES: usize = 1 << 10;

/// What a result may weigh beside its own bytes: its tag and length in the batch, and the error that tells it has no room.
const RESULT_FRAME_BYTES: usize = 512;

/// The answers in the order of the requests; `None` where the store dropped a request.
type Replies = Vec<Option<Result<Reply, Error>>>;

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
    let longest = requests.iter().map(|request| request.timeout).max().unwrap_or_default();
    let _turn = tab.room(deadline(longest), false).await?;
    let replies = submit(&*store.keys, requests, tab.charge.clone()).await;
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

async fn submit(kv: &dyn KeyValue, requests: Vec<Request>, charge: Charge) -> Replies {
    if requests.is_empty() {
        return Vec::new();
    }
    let (send, receive) = oneshot::channel();
    let results = requests.iter().map(|_| None).collect::<Vec<_>>();
    let collect = Collect { left: results.len(), results, send: Some(send), charge };
    kv.submit(requests, Box::new(collect));
    receive.await.expect("the results are sent at the latest when they are dropped")
}

/// Gathers the answers of a batch; sends them when all are there, or when the store drops it.
struct Collect {
    results: Replies,
    left: usize,
    send: Option<oneshot::Sender<Replies>>,
    charge: Charge,
}

impl Collect {
    fn finish(&mut self) {
        if let Some(send) = self.send.take() {
            let _ = send.send(std::mem::take(&mut self.results)); // The caller may have gone away.
        }
    }
}

impl Completions for Collect {
    fn complete(&mut self, index: usize, result: Result<Reply, Error>) {
        let before = self.results[index].replace(result);
        assert!(before.is_none(), "a store answers each request once");
        self.left -= 1;
        if self.left == 0 {
            self.finish();
        }
    }

    fn charge(&self) -> Charge {
        self.charge.clone()
    }
}

impl Drop for Collect {
    fn drop(&mut self) {
        self.finish();
    }
}

fn results(asked: Vec<Result<Shape, Error>>, replies: Replies) -> Vec<proto::OperationResult> {
    let mut replies = replies.into_iter();
    let answer = |asked: Result<Shape, Error>| {
        let shape = asked?;
        let reply = replies.next().expect("each request that was submitted has its place");
        let reply = reply.unwrap_or_else(|| Err(unanswered(shape.is_read())))?;
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
