//! A server's group, which it is asked to add a server to, or to take one out of: AddReplica and RemoveReplica.
//!
//! Any server of the group may be asked. It does by itself what the shard master does for JoinReplica and Leave ([`coming`]), but for the
//! choice of the group.

use kv::cluster::{NodeDuty, Status};
use kv::keyspace::REPLICAS_MAX;
use kv::{Error, Protocol, Request};

use super::{Seat, coming, name, settled};
use crate::classic::caller::Caller;

/// Takes a server into the group of this one. Returns when it has the data.
pub(super) async fn add(caller: &Caller, seat: Option<Seat>, text: &str) -> Result<(), Error> {
    let (seat, own) = (of_a_group(seat, text)?, name::of_text(text)?);
    let status = caller.store.cluster.status();
    let shards = || status.shards.iter().filter(|shard| shard.keyspace == Request::KEYSPACE);
    if shards().any(|shard| shard.protocol == Protocol::Single) {
        return Err(Error::Conflict(
            "the shard master of this server has no groups, so each range is at one server: start one with --shards N, and move there"
                .into(),
        ));
    }
    let status = match settled::node(&status, &own) {
        Some(node) if node.zone != seat.zone => coming::status_without(&caller.store, text, &own).await,
        _ => status,
    };
    match settled::node(&status, &own) {
        Some(node) if node.duty != NodeDuty::Serve => return Err(coming::leaving(text)),
        Some(node) if node.zone == seat.zone => {
            return Err(Error::Conflict(format!("{text} is in this group already")));
        }
        Some(node) => return Err(elsewhere(&status, text, &node.zone, "then add it here")),
        None => {}
    }
    match status.nodes.iter().filter(|node| node.zone == seat.zone).count() < usize::from(REPLICAS_MAX) {
        true => coming::take_in(caller, text, &seat.zone).await,
        false => Err(coming::full()),
    }
}

/// Takes a server out of the group of this one. Returns when nothing of the group is on it any more.
pub(super) async fn remove(caller: &Caller, seat: Option<Seat>, text: &str) -> Result<(), Error> {
    let (seat, own) = (of_a_group(seat, text)?, name::of_text(text)?);
    let status = caller.store.cluster.status();
    match settled::node(&status, &own) {
        None => Err(Error::Invalid(format!(
            "no server is known as {text} here: it must be written as when it came (QueryReplica names the servers of a key)"
        ))),
        Some(node) if node.zone != seat.zone => {
            Err(elsewhere(&status, text, &node.zone, "it goes by RemoveReplica there, or by Leave"))
        }
        Some(_) => coming::let_go(&caller.store, text).await,
    }
}

/// The place of this server, if it has one and another server is meant.
fn of_a_group(seat: Option<Seat>, text: &str) -> Result<Seat, Error> {
    let seat = seat.ok_or_else(|| {
        Error::Conflict(
            "this server is alone: it and others come into a group by a shard master (capstan classic shard-master HOST:PORT --shards N, \
             then capstan classic shard-server HOST:PORT --shard-master HOST:PORT)"
                .into(),
        )
    })?;
    match name::text(&seat.name) == text {
        true => Err(Error::Invalid(format!(
            "{text} is this server itself: give another one; by Leave of the shard master it goes out of its group"
        ))),
        false => Ok(seat),
    }
}

fn elsewhere(status: &Status, text: &str, zone: &str, then: &str) -> Error {
    let first = status.nodes.iter().filter(|node| node.zone == zone).min_by_key(|node| node.id);
    let first = first.map(|node| name::text(&node.name)).unwrap_or_default();
    Error::Conflict(match first == text {
        true => format!("{text} is in another group, which it began: {then}"),
        false => format!("{text} is in another group, that of {first}: {then}"),
    })
}
