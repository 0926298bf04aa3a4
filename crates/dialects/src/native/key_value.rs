//! `capstan.v1.KeyValue` in front of a store.

use bytes::Bytes;
use kv::{Error, Share};
use prost::Message;
use tonic::Status;

use super::reply::{self, Shape};
use super::request::{self, Rpc};
use super::{AnyRequest, AnyResponse, MESSAGE_BYTES_MAX, batch, cluster_id, proto, status};
use crate::grpc::{Answering, Asked, Call, Unary, answered, frame, time_left};

/// The service.
pub(super) struct Service;

impl Unary for Service {
    /// An rpc's place among all, and Batch behind them.
    fn find(&self, path: &str) -> Option<usize> {
        let one = Rpc::ALL.iter().position(|rpc| rpc.path() == path);
        one.or((path == batch::PATH).then_some(Rpc::ALL.len()))
    }

    fn answer(&self, method: usize, call: Call) -> Answering {
        match Rpc::ALL.get(method) {
            Some(rpc) => Box::pin(async move { Ok(answered(one(*rpc, call).await)) }),
            None => Box::pin(async move { Ok(answered(many(call).await)) }),
        }
    }
}

async fn one(rpc: Rpc, mut call: Call) -> Result<(Bytes, Share), Status> {
    cluster_id::check(&*call.asked.store.cluster, &call.metadata)?;
    let message = request::read(rpc, call.message(MESSAGE_BYTES_MAX).await?).map_err(garbled)?;
    let (response, share) = ask(message, call).await.map_err(|error| status::to_status(&error))?;
    Ok((request::frame_response(&response), share))
}

async fn many(mut call: Call) -> Result<(Bytes, Share), Status> {
    cluster_id::check(&*call.asked.store.cluster, &call.metadata)?;
    let message = proto::BatchRequest::decode(call.message(MESSAGE_BYTES_MAX).await?).map_err(garbled)?;
    let Asked { store, tab } = call.asked;
    let results = batch::ask(&store, message, time_left(&call.metadata), &tab).await;
    let results = results.map_err(|error| status::to_status(&error))?;
    Ok((frame(&results), tab.charge.answer))
}

/// A message that is none of its kind.
fn garbled(error: prost::DecodeError) -> Status {
    Status::internal(error.to_string())
}

/// The answer, and the share it holds until it has left.
async fn ask(message: AnyRequest, call: Call) -> Result<(AnyResponse, Share), Error> {
    let Call { metadata, asked: Asked { store, tab }, .. } = call;
    let shape = Shape::of(&message);
    let mut request = request::decode(message, &*store.clock)?;
    request.op.validate()?;
    tracing::trace!("a message has become a request");
    if let Some(time) = time_left(&metadata) {
        request.timeout = request.timeout.min(time);
    }
    let (reply, share) = crate::ask::ask(&*store.keys, request, tab).await?;
    let response = reply::encode(&shape, reply)?;
    tracing::trace!("a reply has become a message");
    check_fits(&shape, response).map(|response| (response, share))
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
