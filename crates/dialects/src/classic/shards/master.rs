//! The calls of a shard master: who has which key, and who comes and goes.
//!
//! ```text
//!   Join(text)  ── Begin ──▶ server          is it alone?
//!               ── Held  ──▶ server          what it has goes into the store, where that has nothing
//!               ── Enter ──▶ server          it starts again as a node of this cluster: named by the text, in the next zone
//!               wait until it serves and nothing moves
//!   Leave(text) its node leaves; wait until it is none, so nothing is on it
//! ```
//!
//! Each step may be done again, so a Join or a Leave that was cut off is asked once more. One of them is under way at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kv::admin::Ask;
use kv::cluster::{NodeDuty, ShardStatus, Status};
use kv::view::Duty;
use kv::{Error, Function, NodeId, Op, Slot};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};
use tonic::{Request, Response, Status as Said};

use super::between::EnterRequest;
use super::client::ServerClient;
use super::proto::shard_master_server::ShardMaster;
use super::proto::{
    JoinReplicaResponse, Operation, QueryReplicaRequest, QueryRequest, QueryResponse, Role, ServerRequest,
};
use super::{LIMIT, name, row, settled};
use crate::Store;
use crate::classic::caller::Caller;
use crate::native::to_status;

/// How long a server that has left may take to serve by itself; it does so without being asked.
const ALONE: Duration = Duration::from_secs(3);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(50);

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
            Some(_) => return Err(leaving(text)),
            None => {}
        }
        let zone = next_zone(&store.cluster.status());
        self.take_in(caller, text, EnterRequest { name: own, zone, ..EnterRequest::default() }).await
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
            Some(_) => return Err(leaving(text)),
            None => {}
        }
        let zone = match fewest(&status, groups) {
            Some(zone) => zone,
            None => next_zone(&status),
        };
        self.take_in(caller, text, EnterRequest { name: own.clone(), zone, ..EnterRequest::default() })
            .await?;
        Ok(role(&store.cluster.status(), &own))
    }

    /// Has a server become a node of the cluster, which says where that is.
    async fn take_in(&self, caller: &Caller, text: &str, enter: EnterRequest) -> Result<(), Error> {
        let (store, server) = (&*caller.store, ServerClient::new(text)?);
        let is = server.begin(true).await?;
        match is.name {
            alone if alone.is_empty() => {
                bring(caller, &server).await?;
                let own = settled::node(&store.cluster.status(), &self.name).map(|own| own.address.clone());
                let join = own.into_iter().filter(|address| !address.is_empty()).collect();
                server.enter(&EnterRequest { join, ..enter.clone() }).await?;
            }
            // It was told so before, and is about to come.
            known if known == enter.name => {}
            other => {
                let other = name::text(&other);
                return Err(Error::Conflict(format!(
                    "the server at {text} is of a shard master already, as {other}: let it leave there first"
                )));
            }
        }
        settled::has_come(store, &enter.name).await
    }

    async fn leave(&self, store: &Store, text: &str) -> Result<(), Error> {
        let own = name::of_text(text)?;
        let _turn = self.turn.lock().await;
        if settled::node(&store.cluster.status(), &own).is_none() {
            return Err(Error::Invalid(format!(
                "no server has joined as {text}: it must be written as at Join"
            )));
        }
        let leave = Ask::Node { name: own.clone(), duty: NodeDuty::Leave, fewer: true, dry_run: false };
        match settled::administer(store, leave).await {
            // It is gone meanwhile.
            Err(_) if settled::node(&store.cluster.status(), &own).is_none() => {}
            asked => drop(asked?),
        }
        settled::has_gone(store, &own).await?;
        is_alone(text).await;
        Ok(())
    }
}

/// Stores what a server has that is alone, where the store has nothing.
async fn bring(caller: &Caller, server: &ServerClient) -> Result<(), Error> {
    let mut after = Bytes::new();
    loop {
        let page = server.held(after).await?;
        for pair in page.pairs {
            let function = Function::Insert { value: pair.value.into(), deadline: None };
            caller.ask_patiently(Op::Update { key: row::key(pair.key), function }).await?;
        }
        if page.next.is_empty() {
            return Ok(());
        }
        after = page.next;
    }
}

/// Waits a moment for a server that has left to serve by itself. It may be gone.
async fn is_alone(text: &str) {
    let until = Instant::now() + ALONE;
    let Ok(server) = ServerClient::new(text) else { return };
    while Instant::now() < until {
        match server.begin(false).await {
            Ok(is) if is.name.is_empty() => return,
            // While it starts again nobody listens for a moment.
            _ => sleep(LOOK).await,
        }
    }
}

fn leaving(text: &str) -> Error {
    Error::Unavailable(format!("{text} is leaving: join it again when it has left"))
}

/// The zone behind all others: zones are in the order of their names.
fn next_zone(status: &Status) -> String {
    let last = status.nodes.iter().filter_map(|node| node.zone.parse::<u64>().ok()).max();
    format!("{:010}", last.unwrap_or(0) + 1)
}

/// The zone with the fewest nodes, the first of several; `None` = there are not so many yet.
fn fewest(status: &Status, groups: u32) -> Option<String> {
    let mut zones: BTreeMap<&str, usize> = BTreeMap::new();
    let servers = status.nodes.iter().filter(|node| !node.zone.is_empty());
    servers.for_each(|node| *zones.entry(&node.zone).or_default() += 1);
    let is_full = zones.len() >= groups as usize;
    let least = zones.into_iter().min_by_key(|(_, nodes)| *nodes).filter(|_| is_full);
    least.map(|(zone, _)| zone.into())
}

/// What a server is in its group: the first one of it is the master.
fn role(status: &Status, name: &str) -> Role {
    let zone = settled::node(status, name).map(|node| &node.zone);
    let first = status.nodes.iter().filter(|node| Some(&node.zone) == zone).min_by_key(|node| node.id);
    if first.is_some_and(|first| first.name == name) { Role::Master } else { Role::Replica }
}

/// The shard of a key.
fn shard_of(status: &Status, key: u32) -> Option<&ShardStatus> {
    let slot = Slot::of(&row::key(key));
    let is_it = |shard: &&ShardStatus| shard.keyspace == kv::Request::KEYSPACE && shard.slots.contains(slot);
    status.shards.iter().find(is_it)
}

/// Who takes the writes of a shard.
fn leader(shard: &ShardStatus) -> Option<NodeId> {
    let orders = shard.members.iter().find(|member| member.duty == Duty::Primary);
    orders.or(shard.members.first()).map(|member| member.node).or(shard.leader)
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
            about.leave(&caller.store, &text).await
        };
        self.change(request, leave).await
    }

    async fn query(&self, request: Request<QueryRequest>) -> Result<Response<QueryResponse>, Said> {
        let pick = |about: &About, status: &Status, QueryRequest { key }| {
            about.text(status, shard_of(status, key).and_then(leader))
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
            let shard = shard_of(status, message.key);
            let member = match message.operation() {
                Operation::Get => shard.and_then(|shard| {
                    let turn = about.next.fetch_add(1, Ordering::Relaxed);
                    let members = &shard.members;
                    members.get(turn % members.len().max(1)).map(|member| member.node)
                }),
                _ => shard.and_then(leader),
            };
            about.text(status, member)
        };
        self.server(request, pick).await
    }
}
