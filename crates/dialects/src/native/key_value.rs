//! `capstan.v1.KeyValue` in front of a store.

use bytes::Bytes;
use kv::{Error, Reply, Request};
use prost::Message;
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::reply::{self, Shape};
use super::request::{self, Rpc};
use super::{AnyResponse, MESSAGE_BYTES_MAX, batch, cluster_id, proto, status};
use crate::Clock;
use crate::ask::ask_then;
use crate::grpc::{Asked, Call, Unary, frame, time_left};

/// The service.
pub(super) struct Service;

impl Unary for Service {
    /// An rpc's place among all, and Batch behind them.
    fn find(&self, path: &str) -> Option<usize> {
        let one = Rpc::ALL.iter().position(|rpc| rpc.path() == path);
        one.or((path == batch::PATH).then_some(Rpc::ALL.len()))
    }

    fn answer(&self, method: usize, call: Call) {
        if let Err(status) = cluster_id::check(&*call.asked.store.cluster, &call.metadata) {
            return call.respond.answer(Err(status));
        }
        match Rpc::ALL.get(method) {
            Some(&rpc) => call.read(MESSAGE_BYTES_MAX, move |message, call| one(rpc, message, call)),
            None => call.read(MESSAGE_BYTES_MAX, |message, call| drop(tokio::spawn(many(message, call)))),
        }
    }
}

/// Asks, and has the answer sent when it is there.
fn one(rpc: Rpc, message: Bytes, call: Call) {
    let Call { metadata, asked: Asked { store, tab }, respond, .. } = call;
    let (shape, request) = match read(rpc, message, &metadata, &*store.clock) {
        Ok(asked) => asked,
        Err(status) => return respond.answer(Err(status)),
    };
    ask_then(store.keys.clone(), request, tab, move |result| {
        let answer = result.and_then(|(reply, share)| Ok((response(&shape, reply)?, share)));
        respond.answer(match answer {
            Ok((response, share)) => Ok((request::frame_response(&response), share)),
            Err(error) => Err(status::to_status(&error)),
        });
    });
}

/// The request that a message is, and the kind of its answer.
fn read(rpc: Rpc, message: Bytes, metadata: &MetadataMap, clock: &Clock) -> Result<(Shape, Request), Status> {
    let message = request::read(rpc, message).map_err(garbled)?;
    let shape = Shape::of(&message);
    let mut request = request::decode(message, clock).map_err(|error| status::to_status(&error))?;
    request.op.validate().map_err(|error| status::to_status(&error))?;
    tracing::trace!("a message has become a request");
    if let Some(time) = time_left(metadata) {
        request.timeout = request.timeout.min(time);
    }
    Ok((shape, request))
}

fn response(shape: &Shape, reply: Reply) -> Result<AnyResponse, Error> {
    let response = reply::encode(shape, reply)?;
    tracing::trace!("a reply has become a message");
    check_fits(shape, response)
}

/// Asks a batch, and sends its answers.
async fn many(message: Bytes, call: Call) {
    let Call { metadata, asked: Asked { store, tab }, respond, .. } = call;
    let message = match proto::BatchRequest::decode(message) {
        Ok(message) => message,
        Err(error) => return respond.answer(Err(garbled(error))),
    };
    let results = batch::ask(&store, message, time_left(&metadata), &tab).await;
    respond.answer(match results {
        Ok(results) => Ok((frame(&results), tab.charge.answer)),
        Err(error) => Err(status::to_status(&error)),
    });
}

/// A message that is none of its kind.
fn garbled(error: prost::DecodeError) -> Status {
    Status::internal(error.to_string())
}

/// A response and its size in bytes.
pub(super) fn weigh(response: AnyResponse) -> (AnyResponse, usize) {
    let result = proto::OperationResult { result: Some(response) };
    let size = result.encoded_len();
    (result.result.expect("it was put there above"), size)
}

/// An answer that is larger than a message, as an error.
fn check_fits(shape: &Shape, response: AnyResponse) -> Result<AnyResponse, Error> {
    if !shape.is_unbounded() {
        return Ok(response);
    }
    let (response, size) = weigh(response);
    if size <= MESSAGE_BYTES_MAX {
        Ok(response)
    } else if shape.is_read() {
        Err(Error::TooLarge { what: "the answer".into(), size: size as u64, limit: MESSAGE_BYTES_MAX as u64 })
    } else {
        Err(Error::InDoubt(format!(
            "the answer of {size} bytes does not fit into a message of {MESSAGE_BYTES_MAX}: the write happened or its \
             conditions failed; read the keys to see which"
        )))
    }
}
