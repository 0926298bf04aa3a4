//! A connection to a server that speaks gRPC: made when it is first needed, and again when it broke.

use std::time::Duration;

use bytes::BytesMut;
use kv::Error;
use prost::Message;
use tokio::time::timeout;
use tonic::{Code, Status};

use crate::grpc::{Address, Channel, Failure, request};
use crate::native::from_status;

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    address: String,
    channel: Channel,
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
        let channel = Channel::new(Address::new(address)?, CONNECT_TIMEOUT);
        Ok(Connection { address: address.into(), channel })
    }

    /// HOST:PORT.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Asks one thing. A `time` is how long its answer is waited for; the server is given that time, too. `effect` is what the
    /// call may have done when no answer comes.
    pub(super) async fn ask<A: Message + Default>(
        &self,
        path: &'static str,
        message: &impl Message,
        time: Option<Duration>,
        effect: Effect,
    ) -> Result<A, Error> {
        let connection = self.channel.connection().await.map_err(|why| self.unreachable(&why))?;
        let answer = connection.unary(path, message, time).await;
        answer.map_err(|failure| self.failure(&failure, effect))
    }

    /// Asks many things in one call; `take` is given each answer as it comes. An answer is waited for so long.
    pub(super) async fn converse<A: Message + Default>(
        &self,
        path: &'static str,
        messages: &[impl Message],
        (time, effect): (Duration, Effect),
        take: &mut dyn FnMut(A),
    ) -> Result<(), Error> {
        let mut asked = BytesMut::new();
        for message in messages {
            asked.extend_from_slice(
                &request(message).map_err(|failure| self.failure(&failure, Effect::None))?,
            );
        }
        let connection = self.channel.connection().await.map_err(|why| self.unreachable(&why))?;
        let late = |_| Err(Failure::Lost(format!("no answer within {time:?}")));
        let begun = timeout(time, connection.conversation(path, asked.freeze())).await.unwrap_or_else(late);
        let mut answers = begun.map_err(|failure| self.failure(&failure, effect))?;
        loop {
            let late = |_| Err(Failure::Lost(format!("no answer within {time:?}")));
            let next = timeout(time, answers.next()).await.unwrap_or_else(late);
            match next.map_err(|failure| self.failure(&failure, effect))? {
                Some(answer) => {
                    let malformed = |_| self.nonsense("what does not decode", effect);
                    take(A::decode(answer).map_err(malformed)?);
                }
                None => return Ok(()),
            }
        }
    }

    /// The error that the server said, or what the transport's leaves open.
    fn failure(&self, failure: &Failure, effect: Effect) -> Error {
        match failure {
            Failure::Unsent(why) => self.unreachable(why),
            Failure::Lost(why) => self.lost(why, effect),
            Failure::Status(status) => match from_status(status) {
                Some(error) => self.said(error),
                None => self.code(status, effect),
            },
        }
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
