//! The other end of the wire: a pair server or a central server, asked over one connection.

use std::time::Duration;

use kv::{Error, VALUE_BYTES_MAX};

use super::address;
use super::proto::{central, keyvalue};
use super::{IN_USE, STORED};
use crate::classic::connection::{Connection, Effect};

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
        let insert = keyvalue::InsertRequest { key, value };
        let path = "/keyvalue.KeyValueService/Insert";
        let reply: keyvalue::InsertReply =
            self.0.ask(path, &insert, Some(CALL_TIMEOUT), Effect::Maybe).await?;
        match reply.result {
            STORED => Ok(true),
            IN_USE => Ok(false),
            other => Err(self.0.nonsense(&format!("an Insert with {other}"), Effect::Maybe)),
        }
    }

    /// The text of a key; empty = there is none.
    pub async fn consult(&self, key: i32) -> Result<String, Error> {
        let path = "/keyvalue.KeyValueService/Consult";
        let consult = keyvalue::ConsultRequest { key };
        let reply: keyvalue::ConsultReply =
            self.0.ask(path, &consult, Some(CALL_TIMEOUT), Effect::None).await?;
        Ok(reply.value)
    }

    /// Has it register all its keys at the central server at HOST:PORT; returns how many that one took. It takes as long as it
    /// takes.
    pub async fn activate(&self, host: String) -> Result<i32, Error> {
        let path = "/keyvalue.KeyValueService/Activate";
        let activate = keyvalue::ActivateRequest { host };
        let reply: keyvalue::ActivateReply = self.0.ask(path, &activate, None, Effect::Maybe).await?;
        Ok(reply.result)
    }

    /// Ends the server; returns 0.
    pub async fn terminate(&self) -> Result<i32, Error> {
        let path = "/keyvalue.KeyValueService/Terminate";
        let end = keyvalue::TerminateRequest {};
        let reply: keyvalue::TerminateReply =
            self.0.ask(path, &end, Some(END_TIMEOUT), Effect::Maybe).await?;
        Ok(reply.result)
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
        let path = "/central.CentralStorageService/Register";
        let register = central::RegisterRequest { host, keys };
        let reply: central::RegisterReply =
            self.0.ask(path, &register, Some(KEYS_TIMEOUT), Effect::Maybe).await?;
        Ok(reply.result)
    }

    /// HOST:PORT of the pair server that owns a key; empty = nobody does.
    pub async fn map(&self, key: i32) -> Result<String, Error> {
        let path = "/central.CentralStorageService/Map";
        let map = central::MapRequest { key };
        let reply: central::MapReply = self.0.ask(path, &map, Some(CALL_TIMEOUT), Effect::None).await?;
        Ok(reply.host)
    }

    /// Ends the server; returns how many keys its directory has.
    pub async fn terminate(&self) -> Result<i32, Error> {
        let path = "/central.CentralStorageService/Terminate";
        let end = central::TerminateRequest {};
        let reply: central::TerminateReply = self.0.ask(path, &end, Some(END_TIMEOUT), Effect::Maybe).await?;
        Ok(reply.result)
    }
}

fn check_text(text: &str) -> Result<(), Error> {
    if text.len() <= VALUE_BYTES_MAX {
        return Ok(());
    }
    Err(Error::TooLarge { what: "the value".into(), size: text.len() as u64, limit: VALUE_BYTES_MAX as u64 })
}
