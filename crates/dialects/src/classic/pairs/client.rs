//! The other end of the wire: a pair server or a central server, asked over one connection.

use std::time::Duration;

use kv::{Error, VALUE_BYTES_MAX};
use tonic::Request;
use tonic::transport::Channel;

use super::address;
use super::proto::central::central_storage_service_client::CentralStorageServiceClient;
use super::proto::central::{MapRequest, RegisterRequest, TerminateRequest as EndCentral};
use super::proto::keyvalue::key_value_service_client::KeyValueServiceClient;
use super::proto::keyvalue::{ActivateRequest, ConsultRequest, InsertRequest, TerminateRequest as EndPairs};
use super::{IN_USE, STORED};
use crate::classic::connection::{Connection, Effect};
use crate::native::MESSAGE_BYTES_MAX;

/// How long to wait for the answer to a call.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// The same of a call that works through many keys, and may have to ask other servers about each.
const KEYS_TIMEOUT: Duration = Duration::from_secs(60);
/// The same of the last call: a server answers it when all it has is on the disk.
const END_TIMEOUT: Duration = Duration::from_secs(60);

/// A pair server. A call that fails is not sent again.
///
/// Errors of all calls: [`Error::Unavailable`] = it was not done (nobody is there, or the server said so),
/// [`Error::InDoubt`] = it may have been, [`Error::Invalid`] and the others = the server refused it.
#[derive(Debug)]
pub struct PairClient(Connection);

/// A central server. A call that fails is not sent again; errors are as those of [`PairClient`].
#[derive(Debug)]
pub struct CentralClient(Connection);

impl PairClient {
    /// Of the server at HOST:PORT, of a name any of its addresses; it is connected to when it is first asked.
    /// [`Error::Invalid`] when that is no address.
    pub fn new(address: &str) -> Result<PairClient, Error> {
        address::check(address)?;
        Connection::new(address).map(PairClient)
    }

    /// Where it is.
    pub(super) fn address(&self) -> &str {
        self.0.address()
    }

    /// Stores a text of at most [`VALUE_BYTES_MAX`] bytes unless the key is in use. False = it is, and nothing changed.
    pub async fn insert(&self, key: i32, value: String) -> Result<bool, Error> {
        check_text(&value)?;
        let request = within(CALL_TIMEOUT, InsertRequest { key, value });
        let reply = self.rpc().await?.insert(request).await;
        match reply.map_err(|status| self.0.failure(&status, Effect::Maybe))?.into_inner().result {
            STORED => Ok(true),
            IN_USE => Ok(false),
            other => Err(self.0.nonsense(&format!("an Insert with {other}"), Effect::Maybe)),
        }
    }

    /// The text of a key; empty = there is none.
    pub async fn consult(&self, key: i32) -> Result<String, Error> {
        let request = within(CALL_TIMEOUT, ConsultRequest { key });
        let reply = self.rpc().await?.consult(request).await;
        reply.map(|reply| reply.into_inner().value).map_err(|status| self.0.failure(&status, Effect::None))
    }

    /// Has it register all its keys at the central server at HOST:PORT; returns how many that one took. It takes as long as it
    /// takes.
    pub async fn activate(&self, host: String) -> Result<i32, Error> {
        let reply = self.rpc().await?.activate(ActivateRequest { host }).await;
        reply.map(|reply| reply.into_inner().result).map_err(|status| self.0.failure(&status, Effect::Maybe))
    }

    /// Ends the server; returns 0.
    pub async fn terminate(&self) -> Result<i32, Error> {
        let reply = self.rpc().await?.terminate(within(END_TIMEOUT, EndPairs {})).await;
        reply.map(|reply| reply.into_inner().result).map_err(|status| self.0.failure(&status, Effect::Maybe))
    }

    async fn rpc(&self) -> Result<KeyValueServiceClient<Channel>, Error> {
        let client = KeyValueServiceClient::new(self.0.channel().await?);
        Ok(client.max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX))
    }
}

impl CentralClient {
    /// Of the server at HOST:PORT, of a name any of its addresses; it is connected to when it is first asked.
    /// [`Error::Invalid`] when that is no address.
    pub fn new(address: &str) -> Result<CentralClient, Error> {
        address::check(address)?;
        Connection::new(address).map(CentralClient)
    }

    /// Makes the pair server at HOST:PORT the owner of keys; returns how many it took. As many keys as fit into a message.
    pub async fn register(&self, host: String, keys: Vec<i32>) -> Result<i32, Error> {
        let request = within(KEYS_TIMEOUT, RegisterRequest { host, keys });
        let reply = self.rpc().await?.register(request).await;
        reply.map(|reply| reply.into_inner().result).map_err(|status| self.0.failure(&status, Effect::Maybe))
    }

    /// HOST:PORT of the pair server that owns a key; empty = nobody does.
    pub async fn map(&self, key: i32) -> Result<String, Error> {
        let reply = self.rpc().await?.map(within(CALL_TIMEOUT, MapRequest { key })).await;
        reply.map(|reply| reply.into_inner().host).map_err(|status| self.0.failure(&status, Effect::None))
    }

    /// Ends the server; returns how many keys its directory has.
    pub async fn terminate(&self) -> Result<i32, Error> {
        let reply = self.rpc().await?.terminate(within(END_TIMEOUT, EndCentral {})).await;
        reply.map(|reply| reply.into_inner().result).map_err(|status| self.0.failure(&status, Effect::Maybe))
    }

    async fn rpc(&self) -> Result<CentralStorageServiceClient<Channel>, Error> {
        let client = CentralStorageServiceClient::new(self.0.channel().await?);
        Ok(client.max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX))
    }
}

/// A request that is answered in time, or fails: the server is given that time, too.
fn within<T>(time: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(time);
    request
}

fn check_text(text: &str) -> Result<(), Error> {
    if text.len() <= VALUE_BYTES_MAX {
        return Ok(());
    }
    Err(Error::TooLarge { what: "the value".into(), size: text.len() as u64, limit: VALUE_BYTES_MAX as u64 })
}
