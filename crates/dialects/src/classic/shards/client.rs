//! The other ends: a server and a shard master, each asked over one connection.

use std::time::Duration;

use kv::Error;

use super::LIMIT;
use super::between::{
    BeginRequest, BeginResponse, EnterRequest, EnterResponse, HeldRequest, HeldResponse, KnowsRequest,
    KnowsResponse,
};
use super::proto::{
    JoinReplicaResponse, KeyValue, QueryRequest, QueryResponse, Role, ServerRequest, TransferRequest,
};
use crate::classic::connection::{Connection, Effect};

/// How long to wait for an answer of a server.
const PATIENCE: Duration = LIMIT.saturating_mul(4);
/// How long a master may take to have data moved.
const MOVES: Duration = Duration::from_secs(120);

/// A server.
///
/// Errors of all calls: [`Error::Unavailable`] = it was not done, [`Error::InDoubt`] = it may have been, others = it was refused.
#[derive(Debug)]
pub struct ServerClient(Connection);

impl ServerClient {
    /// Of the server at HOST:PORT; it is connected to when it is first asked. [`Error::Invalid`] when that is no address.
    pub fn new(address: &str) -> Result<ServerClient, Error> {
        Connection::new(address).map(ServerClient)
    }

    /// Stores texts, whatever was there.
    pub async fn transfer(&self, keys_values: Vec<KeyValue>) -> Result<(), Error> {
        let transfer = TransferRequest { keys_values };
        self.0.ask("/KVStore/Transfer", &transfer, Some(PATIENCE), Effect::Maybe).await
    }

    /// What it is. Who is to be taken in changes nothing for a moment.
    pub(super) async fn begin(&self, take_in: bool) -> Result<BeginResponse, Error> {
        let path = "/capstan.shards.v1.Server/Begin";
        self.0.ask(path, &BeginRequest { take_in }, Some(LIMIT), Effect::None).await
    }

    /// A page of what it has.
    pub(super) async fn held(&self, after: bytes::Bytes) -> Result<HeldResponse, Error> {
        let path = "/capstan.shards.v1.Server/Held";
        self.0.ask(path, &HeldRequest { after }, Some(PATIENCE), Effect::None).await
    }

    /// Whether it knows that it has some keys.
    pub(super) async fn knows(&self, keys: &KnowsRequest) -> Result<bool, Error> {
        let path = "/capstan.shards.v1.Server/Knows";
        let reply: KnowsResponse = self.0.ask(path, keys, Some(LIMIT), Effect::None).await?;
        Ok(reply.knows)
    }

    /// It becomes a server of a master.
    pub(super) async fn enter(&self, enter: &EnterRequest) -> Result<EnterResponse, Error> {
        self.0.ask("/capstan.shards.v1.Server/Enter", enter, Some(PATIENCE), Effect::Maybe).await
    }
}

/// A shard master.
#[derive(Debug)]
pub struct ShardMasterClient(Connection);

impl ShardMasterClient {
    /// Of the master at HOST:PORT; it is connected to when it is first asked. [`Error::Invalid`] when that is no address.
    pub fn new(address: &str) -> Result<ShardMasterClient, Error> {
        Connection::new(address).map(ShardMasterClient)
    }

    /// A server gets a range of its own.
    pub async fn join(&self, server: String) -> Result<(), Error> {
        self.0.ask("/ShardMaster/Join", &ServerRequest { server }, Some(MOVES), Effect::Maybe).await
    }

    /// A server leaves.
    pub async fn leave(&self, server: String) -> Result<(), Error> {
        self.0.ask("/ShardMaster/Leave", &ServerRequest { server }, Some(MOVES), Effect::Maybe).await
    }

    /// The server that has a key; empty = there is none.
    pub async fn query(&self, key: u32) -> Result<String, Error> {
        let query = QueryRequest { key };
        let reply: QueryResponse =
            self.0.ask("/ShardMaster/Query", &query, Some(LIMIT), Effect::None).await?;
        Ok(reply.server)
    }

    /// A server gets a range of its own, or a place in a group.
    pub async fn join_replica(&self, server: String) -> Result<Role, Error> {
        let (path, join) = ("/ShardMaster/JoinReplica", ServerRequest { server });
        let reply: JoinReplicaResponse = self.0.ask(path, &join, Some(MOVES), Effect::Maybe).await?;
        Role::try_from(reply.role)
            .map_err(|_| self.0.nonsense(&format!("a role {}", reply.role), Effect::Maybe))
    }
}
