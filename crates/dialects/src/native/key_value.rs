//! `capstan.v1.KeyValue` in front of a store.

use kv::{Error, Share};
use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::{Response, Status};

use super::reply::{self, Shape};
use super::{AnyRequest, AnyResponse, MESSAGE_BYTES_MAX, batch, cluster_id, proto, request, status};
use crate::grpc::{Asked, respond, time_left};

/// The service.
pub(super) struct Service;

/// The answer, and the share it holds until it has left.
async fn ask(
    message: AnyRequest,
    metadata: &MetadataMap,
    asked: Asked,
) -> Result<(AnyResponse, Share), Error> {
    let Asked { store, tab } = asked;
    let shape = Shape::of(&message);
    let mut request = request::decode(message, &*store.clock)?;
    request.op.validate()?;
    tracing::trace!("a message has become a request");
    if let Some(time) = time_left(metadata) {
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

macro_rules! serve {
    ($($method:ident $rpc:ident $request:ident $response:ident),+ $(,)?) => {
        #[tonic::async_trait]
        impl proto::key_value_server::KeyValue for Service {
            $(async fn $method(
                &self,
                request: tonic::Request<proto::$request>,
            ) -> Result<Response<proto::$response>, Status> {
                let (metadata, mut extensions, message) = request.into_parts();
                let asked = Asked::take(&mut extensions);
                cluster_id::check(&*asked.store.cluster, &metadata)?;
                match ask(AnyRequest::$rpc(message), &metadata, asked).await {
                    Ok((AnyResponse::$rpc(response), share)) => Ok(respond(response, share)),
                    Ok(_) => unreachable!("a reply is encoded in the shape of its request"),
                    Err(error) => Err(status::to_status(&error)),
                }
            })+

            async fn batch(
                &self,
                request: tonic::Request<proto::BatchRequest>,
            ) -> Result<Response<proto::BatchResponse>, Status> {
                let (metadata, mut extensions, message) = request.into_parts();
                let Asked { store, tab } = Asked::take(&mut extensions);
                cluster_id::check(&*store.cluster, &metadata)?;
                let results = batch::ask(&store, message, time_left(&metadata), &tab).await;
                results.map(|results| respond(results, tab.charge.answer)).map_err(|error| status::to_status(&error))
            }
        }
    };
}

serve! {
    get Get GetRequest GetResponse,
    put Put PutRequest PutResponse,
    insert Insert InsertRequest InsertResponse,
    compare_and_put CompareAndPut CompareAndPutRequest CompareAndPutResponse,
    append Append AppendRequest AppendResponse,
    pop Pop PopRequest PopResponse,
    increment Increment IncrementRequest IncrementResponse,
    delete Delete DeleteRequest DeleteResponse,
    range Range RangeRequest RangeResponse,
    delete_range DeleteRange DeleteRangeRequest DeleteRangeResponse,
    get_all GetAll GetAllRequest GetAllResponse,
    put_all PutAll PutAllRequest PutAllResponse,
    transaction Transaction TransactionRequest TransactionResponse,
    history History HistoryRequest HistoryResponse,
    trim Trim TrimRequest TrimResponse,
    expire Expire ExpireRequest ExpireResponse,
    trim_range TrimRange TrimRangeRequest TrimRangeResponse,
}
