//! Requests between [`kv::Request`] and the messages of `capstan.v1`.

mod decode;
mod encode;

use bytes::Bytes;
use kv::{Error, Request};
use prost::{DecodeError, Message};

use super::{AnyRequest, AnyResponse, proto};
use crate::grpc::{self, Failure};

pub(super) use decode::{check_batch_header, decode, inherit, keyspace};
pub(super) use encode::{encode, id, level, millis};

/// The request that the message `bytes` asks of an rpc, accepted at `now` (microseconds since 1970 on the version clock).
/// Its op is not validated yet. Never panics, whatever the bytes.
pub fn decode_request(rpc: Rpc, bytes: Bytes, now: u64) -> Result<Request, Error> {
    let message = read(rpc, bytes)
        .map_err(|error| Error::Invalid(format!("the message is no {}Request: {error}", rpc.name())))?;
    decode(message, &move || now)
}

/// The rpc and the message that ask for `request`. [`Error::Invalid`] for [`kv::Op::Advance`], which is the store's own.
pub fn encode_request(request: Request) -> Result<(Rpc, Bytes), Error> {
    let message = encode(request, None)?;
    Ok((Rpc::of(&message), write(&message)))
}

macro_rules! rpcs {
    ($($rpc:ident $request:ident $response:ident),+ $(,)?) => {
        /// The rpcs of `capstan.v1.KeyValue` that ask one thing: all but Batch.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)] // Each is told in capstan.proto.
        pub enum Rpc {
            $($rpc,)+
        }

        impl Rpc {
            /// All of them.
            pub const ALL: &[Rpc] = &[$(Rpc::$rpc,)+];

            /// Its name: `Get`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Rpc::$rpc => stringify!($rpc),)+
                }
            }

            /// Where it is asked.
            pub(super) fn path(self) -> &'static str {
                match self {
                    $(Rpc::$rpc => concat!("/capstan.v1.KeyValue/", stringify!($rpc)),)+
                }
            }

            /// The one that takes a message.
            pub(super) fn of(message: &AnyRequest) -> Rpc {
                match message {
                    $(AnyRequest::$rpc(_) => Rpc::$rpc,)+
                }
            }
        }

        /// The message of an rpc from its bytes.
        pub(super) fn read(rpc: Rpc, bytes: Bytes) -> Result<AnyRequest, DecodeError> {
            match rpc {
                $(Rpc::$rpc => proto::$request::decode(bytes).map(AnyRequest::$rpc),)+
            }
        }

        /// The response of an rpc from its bytes.
        pub(super) fn read_response(rpc: Rpc, bytes: Bytes) -> Result<AnyResponse, DecodeError> {
            match rpc {
                $(Rpc::$rpc => proto::$response::decode(bytes).map(AnyResponse::$rpc),)+
            }
        }

        /// A response in its frame.
        pub(super) fn frame_response(response: &AnyResponse) -> Bytes {
            match response {
                $(AnyResponse::$rpc(response) => grpc::frame(response),)+
                AnyResponse::Error(_) => unreachable!("only a batch has errors among its answers"),
            }
        }

        /// The header of a message.
        pub(super) fn header_mut(message: &mut AnyRequest) -> &mut Option<proto::RequestHeader> {
            match message {
                $(AnyRequest::$rpc(message) => &mut message.header,)+
            }
        }

        /// The bytes of a message.
        fn write(message: &AnyRequest) -> Bytes {
            match message {
                $(AnyRequest::$rpc(message) => message.encode_to_vec().into(),)+
            }
        }

        /// A message as it goes out to a server.
        pub(super) fn frame(message: &AnyRequest) -> Result<Bytes, Failure> {
            match message {
                $(AnyRequest::$rpc(message) => grpc::request(message),)+
            }
        }

        /// How many bytes a message has.
        pub(super) fn size(message: &AnyRequest) -> usize {
            match message {
                $(AnyRequest::$rpc(message) => message.encoded_len(),)+
            }
        }
    };
}

rpcs! {
    Get GetRequest GetResponse,
    Put PutRequest PutResponse,
    Insert InsertRequest InsertResponse,
    CompareAndPut CompareAndPutRequest CompareAndPutResponse,
    Append AppendRequest AppendResponse,
    Pop PopRequest PopResponse,
    Increment IncrementRequest IncrementResponse,
    Delete DeleteRequest DeleteResponse,
    Range RangeRequest RangeResponse,
    DeleteRange DeleteRangeRequest DeleteRangeResponse,
    GetAll GetAllRequest GetAllResponse,
    PutAll PutAllRequest PutAllResponse,
    Transaction TransactionRequest TransactionResponse,
    History HistoryRequest HistoryResponse,
    Trim TrimRequest TrimResponse,
    Expire ExpireRequest ExpireResponse,
    TrimRange TrimRangeRequest TrimRangeResponse,
}
