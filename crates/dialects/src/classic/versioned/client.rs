//! The other end of the wire: a server of the store, asked over one connection.

use std::time::Duration;

use kv::Error;
use prost::Message;

use super::LIMIT;
use super::proto::{KeyRange, KeyRequest, KeyValueRequest, KeyValueVersionReply, PutReply};
use crate::classic::connection::{Connection, Effect};

/// How long to wait for an answer: a server answers within its limit.
const PATIENCE: Duration = LIMIT.saturating_mul(4);

/// A server of the store. A call that fails is not sent again.
///
/// Errors of all calls: [`Error::Unavailable`] = it was not done, [`Error::InDoubt`] = it may have been, others = it was refused. Of a call of many
/// answers, what was answered before was done.
#[derive(Debug)]
pub struct VersionedClient(Connection);

/// What is given each answer of a call of many, as it comes.
pub type Take<'a, A> = &'a mut dyn FnMut(A);

impl VersionedClient {
    /// Of the server at HOST:PORT; it is connected to when it is first asked. [`Error::Invalid`] when that is no address.
    pub fn new(address: &str) -> Result<VersionedClient, Error> {
        Connection::new(address).map(VersionedClient)
    }

    /// Reads a value.
    pub async fn get(&self, asked: KeyRequest) -> Result<KeyValueVersionReply, Error> {
        self.ask("/project.KeyValueStore/Get", &asked, Effect::None).await
    }

    /// Reads the keys between two.
    pub async fn get_range(
        &self,
        asked: KeyRange,
        take: Take<'_, KeyValueVersionReply>,
    ) -> Result<(), Error> {
        self.converse("/project.KeyValueStore/GetRange", &[asked], Effect::None, take).await
    }

    /// Reads values, in this order.
    pub async fn get_all(
        &self,
        asked: Vec<KeyRequest>,
        take: Take<'_, KeyValueVersionReply>,
    ) -> Result<(), Error> {
        self.converse("/project.KeyValueStore/GetAll", &asked, Effect::None, take).await
    }

    /// Stores a value.
    pub async fn put(&self, asked: KeyValueRequest) -> Result<PutReply, Error> {
        self.ask("/project.KeyValueStore/Put", &asked, Effect::Maybe).await
    }

    /// Stores values, in this order.
    pub async fn put_all(&self, asked: Vec<KeyValueRequest>, take: Take<'_, PutReply>) -> Result<(), Error> {
        self.converse("/project.KeyValueStore/PutAll", &asked, Effect::Maybe, take).await
    }

    /// Removes a key with all its versions.
    pub async fn del(&self, asked: KeyRequest) -> Result<KeyValueVersionReply, Error> {
        self.ask("/project.KeyValueStore/Del", &asked, Effect::Maybe).await
    }

    /// Removes the keys between two.
    pub async fn del_range(
        &self,
        asked: KeyRange,
        take: Take<'_, KeyValueVersionReply>,
    ) -> Result<(), Error> {
        self.converse("/project.KeyValueStore/DelRange", &[asked], Effect::Maybe, take).await
    }

    /// Removes keys, in this order.
    pub async fn del_all(
        &self,
        asked: Vec<KeyRequest>,
        take: Take<'_, KeyValueVersionReply>,
    ) -> Result<(), Error> {
        self.converse("/project.KeyValueStore/DelAll", &asked, Effect::Maybe, take).await
    }

    /// Removes all versions of a key but the newest.
    pub async fn trim(&self, asked: KeyRequest) -> Result<KeyValueVersionReply, Error> {
        self.ask("/project.KeyValueStore/Trim", &asked, Effect::Maybe).await
    }

    async fn ask<A: Message + Default>(
        &self,
        path: &'static str,
        message: &impl Message,
        effect: Effect,
    ) -> Result<A, Error> {
        self.0.ask(path, message, Some(PATIENCE), effect).await
    }

    async fn converse<A: Message + Default>(
        &self,
        path: &'static str,
        messages: &[impl Message],
        effect: Effect,
        take: Take<'_, A>,
    ) -> Result<(), Error> {
        self.0.converse(path, messages, (PATIENCE, effect), take).await
    }
}
