//! A connection to a server that speaks gRPC: made when it is first needed, and again when it broke.

use std::error::Error as _;
use std::time::Duration;

use kv::Error;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::grpc::{endpoint, is_connect_error, root};
use crate::native::from_status;

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection. Once open, the channel makes it again when it broke.
#[derive(Debug)]
pub(super) struct Connection {
    address: String,
    endpoint: Endpoint,
    open: Mutex<Option<Channel>>,
}

/// What a call that got no answer may have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing: it only reads.
    None,
    /// All of it.
    Maybe,
}

impl Connection {
    /// To HOST:PORT, of a name any of its addresses. [`Error::Invalid`] when it is none.
    pub(super) fn new(address: &str) -> Result<Connection, Error> {
        let endpoint = endpoint(address)?.connect_timeout(CONNECT_TIMEOUT);
        Ok(Connection { address: address.into(), endpoint, open: Mutex::default() })
    }

    /// HOST:PORT.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// The open channel, or a new one. The error says why there is none; nothing was asked then.
    pub(super) async fn channel(&self) -> Result<Channel, Error> {
        let connect = async {
            let mut open = self.open.lock().await;
            if let Some(channel) = &*open {
                return Ok(channel.clone());
            }
            let channel = self.endpoint.connect().await?;
            Ok::<_, tonic::transport::Error>(open.insert(channel).clone())
        };
        match timeout(CONNECT_TIMEOUT, connect).await {
            Ok(connected) => connected.map_err(|error| self.unreachable(&root(&error))),
            Err(_) => Err(self.unreachable(&format!("no answer within {CONNECT_TIMEOUT:?}"))),
        }
    }

    /// What a status comes to: the error that the server said, or what the transport's leaves open.
    pub(super) fn failure(&self, status: &Status, effect: Effect) -> Error {
        if let Some(error) = from_status(status) {
            return self.said(error);
        }
        let Some(source) = status.source() else { return self.code(status, effect) };
        let why = root(source);
        if is_connect_error(source) { self.unreachable(&why) } else { self.lost(&why, effect) }
    }

    /// An answer that the wire does not know.
    pub(super) fn nonsense(&self, what: &str, effect: Effect) -> Error {
        self.lost(&format!("it answered {what}, which this wire does not know"), effect)
    }

    /// A server's own error, and who said it.
    fn said(&self, error: Error) -> Error {
        let address = &self.address;
        match error {
            Error::Unavailable(why) => Error::Unavailable(format!("{address}: {why}")),
            Error::InDoubt(why) => Error::InDoubt(format!("{address}: {why}")),
            Error::Conflict(why) => Error::Conflict(format!("{address}: {why}")),
            Error::Invalid(why) => Error::Invalid(format!("{address}: {why}")),
            error => error,
        }
    }

    /// The status of a server that is not Capstan's, or of something on the way.
    fn code(&self, status: &Status, effect: Effect) -> Error {
        let code = status.code();
        let why = match status.message() {
            "" => format!("status {code:?}"),
            text => format!("status {code:?}: {text}"),
        };
        let said = format!("{} answered with {why}", self.address);
        match code {
            Code::Unimplemented => Error::Invalid(format!("{said}; is it a server of the other kind?")),
            Code::FailedPrecondition | Code::AlreadyExists | Code::Aborted => Error::Conflict(said),
            // The last two: a message beyond a limit.
            Code::InvalidArgument
            | Code::NotFound
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::ResourceExhausted
            | Code::OutOfRange => Error::Invalid(said),
            _ => self.lost(&why, effect),
        }
    }

    fn unreachable(&self, why: &str) -> Error {
        Error::Unavailable(format!("cannot connect to {}: {why} (is the server there?)", self.address))
    }

    fn lost(&self, why: &str, effect: Effect) -> Error {
        let lost = format!("no answer from {}: {why}", self.address);
        match effect {
            Effect::None => Error::Unavailable(format!("{lost}; ask again")),
            Effect::Maybe => Error::InDoubt(format!("{lost}; it may have happened: read to see")),
        }
    }
}
