//! How a server comes to the cluster of a shard master and goes: what Join and Leave, AddReplica and RemoveReplica have in common.
//!
//! ```text
//!   comes   ── Begin ──▶ server          is it alone?
//!           ── Held  ──▶ server          what it has goes into the store, where that has nothing
//!           ── Enter ──▶ server          it starts again as a node of the cluster: named by its text, in the zone of its group
//!           wait until it serves, nothing moves, and each server knows what it has
//!   goes    its node leaves; wait until it is none, so nothing is on it
//! ```
//!
//! Each step may be done again, so what was cut off is asked once more. The first of a group says how many secondaries a write waits for,
//! and that is so for the group as long as there is one; what later ones say of it counts for nothing.

use std::time::Duration;

use bytes::Bytes;
use kv::admin::Ask;
use kv::cluster::{NodeDuty, Status};
use kv::keyspace::REPLICAS_MAX;
use kv::{Error, Function, Op};
use tokio::time::{Instant, sleep, timeout};

use super::between::EnterRequest;
use super::client::ServerClient;
use super::{name, row, settled};
use crate::Store;
use crate::classic::caller::Caller;

/// How long a server that has left may take to serve by itself; it does so without being asked.
const ALONE: Duration = Duration::from_secs(3);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(50);

/// Has a server become a node of the cluster, in a zone. Returns when it has what the zone has.
pub(super) async fn take_in(caller: &Caller, text: &str, zone: &str) -> Result<(), Error> {
    let (store, server, own) = (&*caller.store, ServerClient::new(text)?, name::of_text(text)?);
    let is = server.begin(true).await?;
    let status = store.cluster.status();
    // The shard master's own node is in no zone, and lets others in.
    let masters = status.nodes.iter().filter(|node| node.zone.is_empty() && !node.address.is_empty());
    let join: Vec<String> = masters.map(|node| node.address.clone()).collect();
    match is.name {
        alone if alone.is_empty() => {
            bring(caller, &server).await?;
            if status.nodes.iter().all(|node| node.zone != zone) {
                let most = |count: u32| count.min(u32::from(REPLICAS_MAX)) as u16;
                let zone = Ask::Zone { name: zone.into(), secondaries: is.consistency.map(most) };
                settled::administer(store, zone).await?;
            }
            server.enter(&EnterRequest { join, name: own.clone(), zone: zone.into() }).await?;
        }
        // It was told so before, and is about to come.
        known if known == own && is.join.iter().any(|known| join.contains(known)) => {}
        other => {
            let other = name::text(&other);
            return Err(Error::Conflict(format!(
                "the server at {text} is of another shard master already, or under another name, as {other}: let it leave there first"
            )));
        }
    }
    settled::has_come(store, &own).await
}

/// Has the node of a server leave. Returns when nothing is on it any more.
pub(super) async fn let_go(store: &Store, text: &str) -> Result<(), Error> {
    let own = name::of_text(text)?;
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

/// How the cluster is when this node has heard of a server's leaving, where the server itself says that it is alone.
pub(super) async fn status_without(store: &Store, text: &str, own: &str) -> Status {
    if let Ok(server) = ServerClient::new(text)
        && server.begin(false).await.is_ok_and(|is| is.name.is_empty())
    {
        // It may be alone because its folder is new: then it stays in the map, and that is said.
        let _ = timeout(ALONE, settled::has_gone(store, own)).await;
    }
    store.cluster.status()
}

/// Why a server is not taken in that is about to go.
pub(super) fn leaving(text: &str) -> Error {
    Error::Unavailable(format!("{text} is leaving: join it again when it has left"))
}

/// Why a group takes no more servers.
pub(super) fn full() -> Error {
    Error::Conflict(format!(
        "the group has {REPLICAS_MAX} servers, the most that one has: give the server a range by Join"
    ))
}
