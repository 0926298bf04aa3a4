//! The service `Keyspaces`, and its messages from and to [`kv::keyspace`].

use kv::admin::{Answer, Ask, Ruled, Ruling};
use kv::keyspace::{
    Bus, Described, History, Keep, Quota, Secondaries, Settings, SyncMode, Usage, Weighed, Weights, Wish,
};
use kv::{Error, Protocol, ShardId};
use tonic::{Request, Response, Status};

use super::{admin, ask_checked};
use crate::native::proto;
use crate::native::reply::{Malformed, decode_protocol, encode_protocol};

/// The service.
pub(in crate::native) struct Service;

#[tonic::async_trait]
impl proto::keyspaces_server::Keyspaces for Service {
    async fn create(
        &self,
        request: Request<proto::CreateKeyspaceRequest>,
    ) -> Result<Response<proto::CreateKeyspaceResponse>, Status> {
        let answer = ask_checked(request, |message| {
            Ok(Ask::CreateKeyspace { name: message.name, wish: decode_wish(message.wish)? })
        });
        admin::done(answer.await?)?;
        Ok(Response::new(proto::CreateKeyspaceResponse {}))
    }

    async fn alter(
        &self,
        request: Request<proto::AlterKeyspaceRequest>,
    ) -> Result<Response<proto::AlterKeyspaceResponse>, Status> {
        let answer = ask_checked(request, |message| {
            let proto::AlterKeyspaceRequest { name, wish, dry_run } = message;
            Ok(Ask::AlterKeyspace { name, wish: decode_wish(wish)?, dry_run })
        });
        let proto::NodeResponse { moves } = admin::changed(answer.await?)?;
        Ok(Response::new(proto::AlterKeyspaceResponse { moves }))
    }

    async fn drop(
        &self,
        request: Request<proto::DropKeyspaceRequest>,
    ) -> Result<Response<proto::DropKeyspaceResponse>, Status> {
        let answer = ask_checked(request, |message| Ok(Ask::DropKeyspace { name: message.name }));
        admin::done(answer.await?)?;
        Ok(Response::new(proto::DropKeyspaceResponse {}))
    }

    async fn force_primary(
        &self,
        request: Request<proto::ForcePrimaryRequest>,
    ) -> Result<Response<proto::RuledResponse>, Status> {
        let answer = ask_checked(request, |message| {
            let proto::ForcePrimaryRequest { keyspace, node, dry_run } = message;
            Ok(Ask::Rule { keyspace, ruling: Ruling::ForcePrimary { node }, dry_run })
        });
        ruled(answer.await?).map(Response::new)
    }

    async fn declare_dead(
        &self,
        request: Request<proto::DeclareDeadRequest>,
    ) -> Result<Response<proto::RuledResponse>, Status> {
        let answer = ask_checked(request, |message| {
            let proto::DeclareDeadRequest { keyspace, node, dry_run } = message;
            Ok(Ask::Rule { keyspace, ruling: Ruling::DeclareDead { node }, dry_run })
        });
        ruled(answer.await?).map(Response::new)
    }

    async fn list(
        &self,
        request: Request<proto::ListKeyspacesRequest>,
    ) -> Result<Response<proto::ListKeyspacesResponse>, Status> {
        let answer = ask_checked(request, |_| Ok(Ask::Keyspaces)).await?;
        list(answer).map(Response::new)
    }
}

/// The message of what became of shards.
pub(in crate::native) fn ruled(answer: Answer) -> Result<proto::RuledResponse, Status> {
    match answer {
        Answer::Ruled(shards) => {
            let shard = |Ruled { shard, done, why }: Ruled| proto::RuledShard { shard: shard.0, done, why };
            Ok(proto::RuledResponse { shards: shards.into_iter().map(shard).collect() })
        }
        other => Err(admin::unexpected(&other)),
    }
}

/// What became of shards in a message.
pub(in crate::native) fn decode_ruled(message: proto::RuledResponse) -> Answer {
    let shard = |proto::RuledShard { shard, done, why }| Ruled { shard: ShardId(shard), done, why };
    Answer::Ruled(message.shards.into_iter().map(shard).collect())
}

/// The message of the keyspaces that there are.
pub(in crate::native) fn list(answer: Answer) -> Result<proto::ListKeyspacesResponse, Status> {
    match answer {
        Answer::Keyspaces(keyspaces) => {
            Ok(proto::ListKeyspacesResponse { keyspaces: keyspaces.into_iter().map(encode).collect() })
        }
        other => Err(admin::unexpected(&other)),
    }
}

/// The answer to List in a message.
pub(in crate::native) fn decode_list(message: proto::ListKeyspacesResponse) -> Result<Answer, Malformed> {
    message.keyspaces.into_iter().map(decode).collect::<Result<_, _>>().map(Answer::Keyspaces)
}

/// The message of a wish.
pub(in crate::native) fn encode_wish(wish: &Wish) -> proto::KeyspaceWish {
    proto::KeyspaceWish {
        protocol: wish.protocol.map_or(0, |protocol| encode_protocol(protocol).into()),
        replicas: wish.replicas.map(u32::from),
        shards: wish.shards,
        history: wish.history.map(encode_history),
        deleted_micros: wish.deleted_micros,
        ttl_micros: wish.ttl_micros,
        quota_bytes: wish.quota_bytes,
        quota_keys: wish.quota_keys,
        sync: wish.sync.map(encode_sync),
        min_copies: wish.min_copies.map(u32::from),
        interval_micros: wish.interval_micros,
        weights: wish.weights.map(|weights| weights.each()).unwrap_or_default(),
        read: wish.read,
        write: wish.write,
        bus: wish.bus.as_ref().map(Bus::text),
    }
}

/// The wish in a message.
pub(in crate::native) fn decode_wish(message: Option<proto::KeyspaceWish>) -> Result<Wish, Error> {
    let message = message.unwrap_or_default();
    let refuse = |why: &str| Error::Invalid(why.into());
    let protocol =
        match message.protocol {
            0 => None,
            some => Some(decode_protocol(some).map_err(|_| {
                refuse(
                    "this node knows no such protocol: use PROTOCOL_SINGLE, PROTOCOL_RAFT, PROTOCOL_PRIMARY, PROTOCOL_TWO_PHASE or PROTOCOL_QUORUM",
                )
            })?),
        };
    let few = |number: Option<u32>| {
        let few = number.map(u16::try_from).transpose();
        few.map_err(|_| refuse("a shard cannot have so many replicas: give it fewer"))
    };
    Ok(Wish {
        protocol,
        replicas: few(message.replicas)?,
        shards: message.shards,
        sync: message.sync.map(decode_sync).transpose()?,
        min_copies: few(message.min_copies)?,
        interval_micros: message.interval_micros,
        weights: decode_weights(&message.weights)?,
        read: message.read,
        write: message.write,
        history: message.history.map(decode_history).transpose()?,
        deleted_micros: message.deleted_micros,
        ttl_micros: message.ttl_micros,
        quota_bytes: message.quota_bytes,
        quota_keys: message.quota_keys,
        bus: message
            .bus
            .map(|bus| Bus::parse(&bus))
            .transpose()
            .map_err(|why| Error::Invalid(format!("bus: {why}")))?,
    })
}

/// None are as good as not said.
fn decode_weights(weights: &[u32]) -> Result<Option<Weights>, Error> {
    let some = (!weights.is_empty()).then(|| Weights::new(weights)).transpose();
    some.map_err(|why| Error::Invalid(format!("weights: {why}")))
}

fn encode_sync(secondaries: Secondaries) -> proto::KeyspaceSync {
    use proto::keyspace_sync::Waits;
    let waits = match secondaries {
        Secondaries::All => Waits::All(true),
        Secondaries::Count(count) => Waits::Secondaries(count.into()),
    };
    proto::KeyspaceSync { waits: Some(waits) }
}

fn decode_sync(message: proto::KeyspaceSync) -> Result<Secondaries, Error> {
    use proto::keyspace_sync::Waits;
    match message.waits {
        Some(Waits::All(true)) => Ok(Secondaries::All),
        Some(Waits::Secondaries(count)) => u16::try_from(count)
            .map(Secondaries::Count)
            .map_err(|_| Error::Invalid("sync: a shard has not so many replicas".into())),
        Some(Waits::All(false)) | None => {
            Err(Error::Invalid("sync: set all or secondaries, or leave it out".into()))
        }
    }
}

fn encode_history(history: History) -> proto::KeyspaceHistory {
    use proto::keyspace_history::Kept;
    let kept = match history {
        History::Count(count) => Kept::Count(count),
        History::All => Kept::All(true),
        History::Micros(micros) => Kept::Micros(micros),
    };
    proto::KeyspaceHistory { kept: Some(kept) }
}

fn decode_history(message: proto::KeyspaceHistory) -> Result<History, Error> {
    use proto::keyspace_history::Kept;
    match message.kept {
        Some(Kept::Count(count)) => Ok(History::Count(count)),
        Some(Kept::All(true)) => Ok(History::All),
        Some(Kept::Micros(micros)) => Ok(History::Micros(micros)),
        Some(Kept::All(false)) | None => {
            Err(Error::Invalid("history: set a count, all or micros, or leave it out".into()))
        }
    }
}

fn encode(keyspace: Described) -> proto::Keyspace {
    let Settings { protocol, replicas, sync, weighed, bus, keep, quota } = keyspace.settings;
    let Wish { weights, read, write, .. } = weighed.map(Weighed::wish).unwrap_or_default();
    let wish = Wish {
        protocol: Some(protocol),
        replicas: Some(replicas),
        shards: Some(keyspace.shards),
        history: keep.history,
        deleted_micros: keep.deleted_micros,
        ttl_micros: keep.ttl_micros,
        quota_bytes: quota.bytes,
        quota_keys: quota.keys,
        weights,
        read,
        write,
        bus: (protocol == Protocol::Broadcast).then(|| bus.without_password()),
        ..sync.map(SyncMode::wish).unwrap_or_default()
    };
    let usage = |Usage { bytes, keys }| proto::KeyspaceUsage { bytes, keys };
    proto::Keyspace {
        name: keyspace.name,
        settings: Some(encode_wish(&wish)),
        changing: keyspace.changing,
        under_another: keyspace.under_another,
        usage: keyspace.usage.map(usage),
    }
}

fn decode(message: proto::Keyspace) -> Result<Described, Malformed> {
    let wish = decode_wish(message.settings).map_err(|_| Malformed("a keyspace's settings make no sense"))?;
    let (Some(_), Some(_), Some(shards)) = (wish.protocol, wish.replicas, wish.shards) else {
        return Err(Malformed("a keyspace lacks its protocol, replicas or shards"));
    };
    let keep =
        Keep { history: wish.history, deleted_micros: wish.deleted_micros, ttl_micros: wish.ttl_micros };
    let quota = Quota { bytes: wish.quota_bytes, keys: wish.quota_keys };
    Ok(Described {
        name: message.name,
        settings: Settings { keep, quota, ..Settings::of(&wish) },
        shards,
        changing: message.changing,
        under_another: message.under_another,
        usage: message.usage.map(|usage| Usage { bytes: usage.bytes, keys: usage.keys }),
    })
}
