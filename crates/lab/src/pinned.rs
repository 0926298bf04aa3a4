//! A client that stays with its node: on that node's side of a partition, whatever the map says.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use dialects::native::{decode_reply, encode_request, from_status};
use kv::{Error, Reply, Request};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};

/// A node answers within the time it is told; its answer is waited for a little longer.
const GRACE: Duration = Duration::from_millis(200);
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The largest answer, in bytes: twice the largest value.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// A client that asks one node. It neither retries nor gives its requests an id.
#[derive(Clone, Debug)]
pub struct Pinned {
    client: Grpc<Channel>,
}

impl Pinned {
    /// Of the node at this address, HOST:PORT. Connects when first asked, and again when the connection is lost.
    /// [`Error::Invalid`] when it is no address. Must be called on a tokio runtime.
    pub fn new(address: &str) -> Result<Pinned, Error> {
        channel(address).map(Pinned::over)
    }

    /// Over this connection.
    pub fn over(channel: Channel) -> Pinned {
        Pinned { client: Grpc::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX) }
    }

    /// Asks once.
    pub async fn call(&mut self, request: Request) -> Result<Reply, Error> {
        let patience = request.timeout + GRACE;
        let (rpc, message) = encode_request(request)?;
        let path = PathAndQuery::try_from(format!("/capstan.v1.KeyValue/{}", rpc.name()));
        let path = path.expect("the name of a call is a word");
        let ask = async {
            let ready = self.client.ready().await;
            ready.map_err(|error| Error::Unavailable(format!("no connection: {error}")))?;
            let answer = self.client.unary(tonic::Request::new(message), path, AsItIs).await;
            answer.map_err(|status| said(&status))
        };
        let answer = tokio::time::timeout(patience, ask).await;
        let answer = answer.map_err(|_| Error::InDoubt("the node is silent".into()))??;
        decode_reply(rpc, answer.into_inner()).map_err(|error| Error::InDoubt(error.to_string()))
    }
}

/// A connection to the node at this address.
pub fn channel(address: &str) -> Result<Channel, Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"));
    let endpoint = endpoint.map_err(|_| Error::Invalid(format!("'{address}' is not HOST:PORT")))?;
    Ok(endpoint.connect_timeout(CONNECT_TIMEOUT).connect_lazy())
}

/// What a failure means: what the node said; that nothing was sent, when there was no connection; else nobody knows.
pub fn said(status: &tonic::Status) -> Error {
    if let Some(error) = from_status(status) {
        return error;
    }
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return Error::Unavailable(format!("no connection: {status}"));
        }
        cause = error.source();
    }
    Error::InDoubt(format!("the connection failed: {status}"))
}

/// Messages that are bytes already.
#[derive(Clone, Copy, Debug)]
struct AsItIs;

impl Codec for AsItIs {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = AsItIs;
    type Decoder = AsItIs;

    fn encoder(&mut self) -> AsItIs {
        AsItIs
    }

    fn decoder(&mut self) -> AsItIs {
        AsItIs
    }
}

impl Encoder for AsItIs {
    type Item = Bytes;
    type Error = tonic::Status;

    fn encode(&mut self, message: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), tonic::Status> {
        to.put(message);
        Ok(())
    }
}

impl Decoder for AsItIs {
    type Item = Bytes;
    type Error = tonic::Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, tonic::Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
