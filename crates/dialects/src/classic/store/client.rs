//! The other end of the wire: a node of the store, asked over one connection.

use std::time::Duration;

use kv::Error;
use prost::Message;

use super::LIMIT;
use super::proto::{
    GetRequest, GetResponse, PutRequest, PutResponse, RestoreRequest, RestoreResponse, SlowDownRequest,
    SlowDownResponse,
};
use crate::classic::connection::{Connection, Effect};

/// How long to wait for an answer: a node answers within its limit, and later by as much as it is slow.
const PATIENCE: Duration = LIMIT.saturating_mul(4);

/// A node of the store. A call that fails is not sent again.
///
/// Errors of all calls: [`Error::Unavailable`] = it was not done, [`Error::InDoubt`] = it may have been, others = it was refused.
#[derive(Debug)]
pub struct StoreClient(Connection);

impl StoreClient {
    /// Of the node at HOST:PORT; it is connected to when it is first asked. [`Error::Invalid`] when that is no address.
    pub fn new(address: &str) -> Result<StoreClient, Error> {
        Connection::new(address).map(StoreClient)
    }

    /// Stores a value. False = it was not stored, and never will be.
    pub async fn put(&self, key: String, value: String) -> Result<bool, Error> {
        let put = PutRequest { key, value };
        let reply: PutResponse = self.ask("/distributedstore.KeyValueStore/put", &put, Effect::Maybe).await?;
        Ok(reply.success)
    }

    /// Reads a value; `None` = there is none.
    pub async fn get(&self, key: String) -> Result<Option<String>, Error> {
        let get = GetRequest { key };
        let reply: GetResponse = self.ask("/distributedstore.KeyValueStore/get", &get, Effect::None).await?;
        Ok(reply.found.then_some(reply.value))
    }

    /// Has the node's answers leave late. False = they cannot by so many seconds.
    pub async fn slow_down(&self, seconds: i32) -> Result<bool, Error> {
        let path = "/distributedstore.KeyValueStore/slowDown";
        let reply: SlowDownResponse = self.ask(path, &SlowDownRequest { seconds }, Effect::None).await?;
        Ok(reply.success)
    }

    /// Has the node's answers leave at once.
    pub async fn restore(&self) -> Result<bool, Error> {
        let path = "/distributedstore.KeyValueStore/restore";
        let reply: RestoreResponse = self.ask(path, &RestoreRequest {}, Effect::None).await?;
        Ok(reply.success)
    }

    async fn ask<A: Message + Default>(
        &self,
        path: &'static str,
        message: &impl Message,
        effect: Effect,
    ) -> Result<A, Error> {
        self.0.ask(path, message, Some(PATIENCE), effect).await
    }
}
