//! `capstan.v1.KeyValue` in front of a store.

use std::sync::Arc;
use std::time::Duration;

use kv::cluster::Cluster;
use kv::{Charge, Completions, Error, KeyValue, Reply, Request, Share};
use prost::Message;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::metadata::MetadataMap;
use tonic::{Response, Status};

use super::account::{Tab, deadline};
use super::reply::{self, Shape};
use super::{AnyRequest, AnyResponse, Clock, MESSAGE_BYTES_MAX, batch, cluster_id, proto, request, status};

/// How long before the gRPC deadline the answer should leave.
const ANSWER_TIME: Duration = Duration::from_millis(50);

/// The pause before a read is asked again whose answer found no room, by the one of a connection that has the turn.
const REFUSED_PAUSE: Duration = Duration::from_millis(5);

/// The service.
pub(super) struct Service {
    pub(super) kv: Arc<dyn KeyValue>,
    pub(super) cluster: Arc<dyn Cluster>,
    pub(super) clock: Arc<Clock>,
}

impl Service {
    /// The answer, and the share it holds until it has left.
    async fn ask(
        &self,
        message: AnyRequest,
        metadata: &MetadataMap,
        tab: Tab,
    ) -> Result<(AnyResponse, Share), Error> {
        let shape = Shape::of(&message);
        let mut request = request::decode(message, &*self.clock)?;
        request.op.validate()?;
        tracing::trace!("a message has become a request");
        if let Some(time) = time_left(metadata) {
            request.timeout = request.timeout.min(time);
        }
        let (reply, share) = self.submit_with_room(request, shape.is_read(), tab).await?;
        let response = reply::encode(&shape, reply)?;
        tracing::trace!("a reply has become a message");
        check_fits(&shape, response).map(|response| (response, share))
    }

    /// Asks when there is room for the answer; a read for whose answer there was none after all is asked again.
    async fn submit_with_room(
        &self,
        mut request: Request,
        is_read: bool,
        mut tab: Tab,
    ) -> Result<(Reply, Share), Error> {
        let deadline = deadline(request.timeout);
        let mut was_refused = false;
        loop {
            let turn = tab.room(deadline, was_refused).await?;
            if was_refused {
                // There is room here; where there was none, some has to be made.
                tokio::time::sleep(REFUSED_PAUSE).await;
            }
            if turn.is_some() {
                request.timeout = deadline.saturating_duration_since(Instant::now());
            }
            if !is_read {
                let reply = self.submit(request, false, tab.charge.clone()).await?;
                return Ok((reply, tab.charge.answer));
            }
            let result = self.submit(request.clone(), true, tab.charge.clone()).await;
            was_refused = tab.charge.answer.was_refused();
            if !was_refused || Instant::now() >= deadline {
                return result.map(|reply| (reply, tab.charge.answer));
            }
            tab.begin_again();
        }
    }

    async fn submit(&self, request: Request, is_read: bool, charge: Charge) -> Result<Reply, Error> {
        let (send, receive) = oneshot::channel();
        self.kv.submit(vec![request], Box::new(One { send: Some(send), charge }));
        receive.await.unwrap_or_else(|_| Err(unanswered(is_read)))
    }
}

/// Takes the answer to one request.
struct One {
    send: Option<oneshot::Sender<Result<Reply, Error>>>,
    charge: Charge,
}

impl Completions for One {
    fn complete(&mut self, _: usize, result: Result<Reply, Error>) {
        let send = self.send.take().expect("a store answers each request once");
        let _ = send.send(result); // The caller may have gone away.
    }

    fn charge(&self) -> Charge {
        self.charge.clone()
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

/// A response with the share that it holds until it has left.
fn respond<T>(message: T, share: Share) -> Response<T> {
    let mut response = Response::new(message);
    response.extensions_mut().insert(share);
    response
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
                let (metadata, mut extensions, message) = request.into_parts();
                cluster_id::check(&*self.cluster, &metadata)?;
                let tab = extensions.remove::<Tab>().unwrap_or_default();
                match self.ask(AnyRequest::$rpc(message), &metadata, tab).await {
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
                cluster_id::check(&*self.cluster, &metadata)?;
                let tab = extensions.remove::<Tab>().unwrap_or_default();
                let time = time_left(&metadata);
                let results = batch::ask(&*self.kv, &*self.clock, message, time, &tab).await;
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
