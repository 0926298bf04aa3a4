//! `capstan.v1.KeyValue` in front of a store.

use std::sync::Arc;
use std::time::Duration;

use kv::cluster::Cluster;
use kv::{Error, KeyValue, Reply, Request};
use prost::Message;
use tokio::sync::oneshot;
use tonic::metadata::MetadataMap;
use tonic::{Response, Status};

use super::reply::{self, Shape};
use super::{AnyRequest, AnyResponse, Clock, MESSAGE_BYTES_MAX, batch, cluster_id, proto, request, status};

/// How long before the gRPC deadline the answer should leave.
const ANSWER_TIME: Duration = Duration::from_millis(50);

/// The service.
pub(super) struct Service {
    pub(super) kv: Arc<dyn KeyValue>,
    pub(super) cluster: Arc<dyn Cluster>,
    pub(super) clock: Arc<Clock>,
}

impl Service {
    async fn ask(&self, message: AnyRequest, metadata: &MetadataMap) -> Result<AnyResponse, Error> {
        let shape = Shape::of(&message);
        let mut request = request::decode(message, &*self.clock)?;
        request.op.validate()?;
        if let Some(time) = time_left(metadata) {
            request.timeout = request.timeout.min(time);
        }
        let reply = self.submit(request, shape.is_read()).await?;
        let response = reply::encode(&shape, reply)?;
        check_fits(&shape, response)
    }

    async fn submit(&self, request: Request, is_read: bool) -> Result<Reply, Error> {
        let (send, receive) = oneshot::channel();
        let mut send = Some(send);
        let completions = move |_, result| {
            let send = send.take().expect("a store answers each request once");
            let _ = send.send(result); // The caller may have gone away.
        };
        self.kv.submit(vec![request], Box::new(completions));
        receive.await.unwrap_or_else(|_| Err(unanswered(is_read)))
    }
}

/// What a request comes to that the store dropped without an answer: it is stopping.
pub(super) fn unanswered(is_read: bool) -> Error {
    if is_read {
        Error::Unavailable("the node stopped before it answered: ask another one".into())
    } else {
        Error::InDoubt(
            "the node stopped before it answered: the write may have happened; read, or ask another node with the same request id"
                .into(),
        )
    }
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

/// The time that the gRPC deadline leaves to the store: a little less than all, so that the store's own word on what
/// became of the request is there before the transport cuts it off.
fn time_left(metadata: &MetadataMap) -> Option<Duration> {
    grpc_timeout(metadata).map(|time| time - (time / 10).min(ANSWER_TIME))
}

/// The gRPC deadline of a request, as time left: digits and a unit (see "Timeout" in gRPC's PROTOCOL-HTTP2.md).
fn grpc_timeout(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count: u32 = digits.parse().ok()?;
    let unit = match unit {
        "H" => Duration::from_secs(3600),
        "M" => Duration::from_secs(60),
        "S" => Duration::from_secs(1),
        "m" => Duration::from_millis(1),
        "u" => Duration::from_micros(1),
        "n" => Duration::from_nanos(1),
        _ => return None,
    };
    Some(unit * count)
}

macro_rules! serve {
    ($($method:ident $rpc:ident $request:ident $response:ident),+ $(,)?) => {
        #[tonic::async_trait]
        impl proto::key_value_server::KeyValue for Service {
            $(async fn $method(
                &self,
                request: tonic::Request<proto::$request>,
            ) -> Result<Response<proto::$response>, Status> {
                let (metadata, _, message) = request.into_parts();
                cluster_id::check(&*self.cluster, &metadata)?;
                match self.ask(AnyRequest::$rpc(message), &metadata).await {
                    Ok(AnyResponse::$rpc(response)) => Ok(Response::new(response)),
                    Ok(_) => unreachable!("a reply is encoded in the shape of its request"),
                    Err(error) => Err(status::to_status(&error)),
                }
            })+

            async fn batch(
                &self,
                request: tonic::Request<proto::BatchRequest>,
            ) -> Result<Response<proto::BatchResponse>, Status> {
                let (metadata, _, message) = request.into_parts();
                cluster_id::check(&*self.cluster, &metadata)?;
                let time = time_left(&metadata);
                let results = batch::ask(&*self.kv, &*self.clock, message, time).await;
                results.map(Response::new).map_err(|error| status::to_status(&error))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn timeout(text: &str) -> Option<Duration> {
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-timeout", text.parse().unwrap());
        grpc_timeout(&metadata)
    }

    #[test]
    fn grpc_timeout_of_every_unit_is_read() {
        assert_eq!(timeout("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(timeout("3M"), Some(Duration::from_secs(180)));
        assert_eq!(timeout("4S"), Some(Duration::from_secs(4)));
        assert_eq!(timeout("99999999m"), Some(Duration::from_millis(99_999_999)));
        assert_eq!(timeout("5u"), Some(Duration::from_micros(5)));
        assert_eq!(timeout("6n"), Some(Duration::from_nanos(6)));
    }

    #[test]
    fn grpc_timeout_garbled_or_absent_is_none() {
        assert_eq!(grpc_timeout(&MetadataMap::new()), None);
        for text in ["S", "1", "1x", "-1S", "1.5S"] {
            assert_eq!(timeout(text), None, "{text}");
        }
    }
}
