//! The calls of a shard master: who has which key, and who comes and goes. One of those that change that is under way at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kv::cluster::{Liveness, NodeDuty, Status};
use kv::keyspace::REPLICAS_MAX;
use kv::{Error, NodeId};
use tokio::sync::Mutex;
use tonic::{Request, Response, Status as Said};

use super::proto::shard_master_server::ShardMaster;
use super::proto::{
    JoinReplicaResponse, Operation, QueryReplicaRequest, QueryRequest, QueryResponse, Role, ServerRequest,
};
use super::{LIMIT, coming, name, settled};
use crate::classic::caller::Caller;
use crate::native::to_status;

/// The service.
pub(super) struct Master {
    about: Arc<About>,
}

struct About {
    /// Of its node.
    name: String,
    /// So many servers that come by JoinReplica have a range of their own.
    groups: Option<u32>,
    /// Of who changes which servers there are.
    turn: Mutex<()>,
    /// Of the members of a group, which is named next.
    next: AtomicUsize,
}

impl Master {
    pub(super) fn new(name: &str, groups: Option<u32>) -> Master {
        let about = About { name: name.into(), groups, turn: Mutex::default(), next: AtomicUsize::new(0) };
        Master { about: Arc::new(about) }
    }

    /// Does what goes on though its client goes away.
    async fn change<T: Send + 'static, F: Future<Output = Result<T, Error>> + Send + 'static>(
        &self,
        request: Request<ServerRequest>,
        what: impl FnOnce(Arc<About>, Caller, String) -> F,
    ) -> Result<Response<T>, Said> {
        let called = Caller::once_ready(request, LIMIT).await;
        let (caller, ServerRequest { server }) = called.map_err(|error| to_status(&error))?;
        let done = tokio::spawn(what(self.about.clone(), caller, server)).await;
        let done = done.unwrap_or_else(|_| Err(Error::Unavailable("the shard master is stopping".into())));
        done.map(Response::new).map_err(|error| to_status(&error))
    }

    /// The server for an operation on a key.
    async fn server<T>(
        &self,
        request: Request<T>,
        pick: impl FnOnce(&About, &Status, T) -> String,
    ) -> Result<Response<QueryResponse>, Said> {
        let called = Caller::once_ready(request, LIMIT).await;
        let (caller, message) = called.map_err(|error| to_status(&error))?;
        let server = pick(&self.about, &caller.store.cluster.status(), message);
        Ok(Response::new(QueryResponse { server }))
    }
}

impl About {
    /// The text of a node; empty for the master's own, which is no server.
    fn text(&self, status: &Status, node: Option<NodeId>) -> String {
        let row = status.nodes.iter().find(|row| Some(row.id) == node);
        let server = row.filter(|row| row.name != self.name);
        server.map(|row| name::text(&row.name)).unwrap_or_default()
    }

    async fn join(&self, caller: &Caller, text: &str) -> Result<(), Error> {
        let (store, own) = (&*caller.store, name::of_text(text)?);
        let _turn = self.turn.lock().await;
        match settled::node(&store.cluster.status(), &own).map(|node| node.duty) {
            Some(NodeDuty::Serve) => return settled::has_come(store, &own).await,
            Some(_) => return Err(coming::leaving(text)),
            None => {}
        }
        let zone = next_zone(&store.cluster.status());
        coming::take_in(caller, text, &zone).await
    }

    /// The first servers have a range each; later ones are replicas in the group with the fewest.
    async fn join_replica(&self, caller: &Caller, text: &str) -> Result<Role, Error> {
        let Some(groups) = self.groups else {
            return Err(Error::Conflict(
                "this shard master has no groups: start it with --shards N, or have the server joined by Join".into(),
            ));
        };
        let (store, own) = (&*caller.store, name::of_text(text)?);
        let _turn = self.turn.lock().await;
        let status = store.cluster.status();
        match settled::node(&status, &own) {
            Some(node) if node.duty == NodeDuty::Serve => {
                settled::has_come(store, &own).await?;
                return Ok(role(&store.cluster.status(), &own));
            }
            Some(_) => return Err(coming::leaving(text)),
            None => {}
        }
        let zone = match fewest(&status, groups) {
            Some((_, servers)) if servers >= usize::from(REPLICAS_MAX) => return Err(coming::full()),
            Some((zone, _)) => zone,
            None => next_zone(&status),
        };
        coming::take_in(caller, text, &zone).await?;
        Ok(role(&store.cluster.status(), &own))
    }

    async fn leave(&self, caller: &Caller, text: &str) -> Result<(), Error> {
        let own = name::of_text(text)?;
        let _turn = self.turn.lock().await;
        if settled::node(&caller.store.cluster.status(), &own).is_none() {
            return Err(Error::Invalid(format!(
                "no server has joined as {text}: it must be written as at Join"
            )));
        }
        coming::let_go(&caller.store, text).await
    }

    /// A member of the group that has a key, each in its turn: of those that live, if any does.
    fn any(&self, status: &Status, key: u32) -> Option<NodeId> {
        let members = &settled::shard_of(status, key)?.members;
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let lives =
            |node: NodeId| status.nodes.iter().any(|row| row.id == node && row.state == Liveness::Alive);
        let living: Vec<NodeId> =
            members.iter().map(|member| member.node).filter(|node| lives(*node)).collect();
        match living.len() {
            0 => members.get(turn % members.len().max(1)).map(|member| member.node),
            count => Some(living[turn % count]),
        }
    }
}

/// The zone behind all others: zones are in the order of their names.
fn next_zone(status: &Status) -> String {
    let last = status.nodes.iter().filter_map(|node| node.zone.parse::<u64>().ok()).max();
    format!("{:010}", last.unwrap_or(0) + 1)
}

/// The zone with the fewest nodes, the first of several, and how many; `None` = there are not so many zones yet.
fn fewest(status: &Status, groups: u32) -> Option<(String, usize)> {
    let mut zones: BTreeMap<&str, usize> = BTreeMap::new();
    let servers = status.nodes.iter().filter(|node| !node.zone.is_empty());
    servers.for_each(|node| *zones.entry(&node.zone).or_default() += 1);
    let is_full = zones.len() >= groups as usize;
    let least = zones.into_iter().min_by_key(|(_, nodes)| *nodes).filter(|_| is_full);
    least.map(|(zone, nodes)| (zone.into(), nodes))
}

/// What a server is in its group: the first one of it is the master.
fn role(status: &Status, name: &str) -> Role {
    let zone = settled::node(status, name).map(|node| &node.zone);
    let first = status.nodes.iter().filter(|node| Some(&node.zone) == zone).min_by_key(|node| node.id);
    if first.is_some_and(|first| first.name == name) { Role::Master } else { Role::Replica }
}

#[tonic::async_trait]
impl ShardMaster for Master {
    async fn join(&self, request: Request<ServerRequest>) -> Result<Response<()>, Said> {
        let join = |about: Arc<About>, caller: Caller, text: String| async move {
            about.join(&caller.unlimited(), &text).await
        };
        self.change(request, join).await
    }

    async fn leave(&self, request: Request<ServerRequest>) -> Result<Response<()>, Said> {
        let leave = |about: Arc<About>, caller: Caller, text: String| async move {
            about.leave(&caller, &text).await
        };
        self.change(request, leave).await
    }

    async fn query(&self, request: Request<QueryRequest>) -> Result<Response<QueryResponse>, Said> {
        let pick = |about: &About, status: &Status, QueryRequest { key }| {
            about.text(status, settled::shard_of(status, key).and_then(settled::leader))
        };
        self.server(request, pick).await
    }

    async fn join_replica(
        &self,
        request: Request<ServerRequest>,
    ) -> Result<Response<JoinReplicaResponse>, Said> {
        let join = |about: Arc<About>, caller: Caller, text: String| async move {
            let role = about.join_replica(&caller.unlimited(), &text).await?;
            Ok(JoinReplicaResponse { role: role.into() })
        };
        self.change(request, join).await
    }

    async fn query_replica(
        &self,
        request: Request<QueryReplicaRequest>,
    ) -> Result<Response<QueryResponse>, Said> {
        let pick = |about: &About, status: &Status, message: QueryReplicaRequest| {
            let member = match message.operation() {
                Operation::Get => about.any(status, message.key),
                _ => settled::shard_of(status, message.key).and_then(settled::leader),
            };
            about.text(status, member)
        };
        self.server(request, pick).await
    }
}
