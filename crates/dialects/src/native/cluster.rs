//! `capstan.v1.Cluster`: nodes, shards and places of keys, between [`kv::cluster`] and the messages.

use kv::cluster::{Liveness, Location, NodeStatus, ReplicaStatus, Role, ShardStatus, Status};
use kv::{ClusterId, Epoch, Error, NodeId, Op, ShardId, Slot, SlotRange};
use tonic::{Request, Response};

use super::reply::{Malformed, decode_protocol, encode_protocol};
use super::{cluster_id, proto, status};
use crate::grpc::Asked;

/// The service.
pub(super) struct Service;

#[tonic::async_trait]
impl proto::cluster_server::Cluster for Service {
    async fn status(
        &self,
        request: Request<proto::StatusRequest>,
    ) -> Result<Response<proto::StatusResponse>, tonic::Status> {
        let (metadata, mut extensions, _) = request.into_parts();
        let store = Asked::take(&mut extensions).store;
        cluster_id::check(&*store.cluster, &metadata)?;
        let id = store.cluster.id().map_err(|error| status::to_status(&error))?;
        let told = Told { cluster: id, status: store.cluster.status(), now_micros: (store.clock)() };
        Ok(Response::new(encode_status(told)))
    }

    async fn locate(
        &self,
        request: Request<proto::LocateRequest>,
    ) -> Result<Response<proto::LocateResponse>, tonic::Status> {
        let (metadata, mut extensions, message) = request.into_parts();
        let store = Asked::take(&mut extensions).store;
        cluster_id::check(&*store.cluster, &metadata)?;
        check_key(&message.key).map_err(|error| status::to_status(&error))?;
        Ok(Response::new(encode_location(store.cluster.locate(&message.key))))
    }
}

/// Whether a key can be one.
pub(super) fn check_key(key: &kv::Key) -> Result<(), Error> {
    Op::Get { key: key.clone(), at: None }.validate()
}

/// What a node tells when it is asked for the status.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) cluster: ClusterId,
    pub(super) status: Status,
    /// Its version clock: microseconds since 1970.
    pub(super) now_micros: u64,
}

fn encode_status(told: Told) -> proto::StatusResponse {
    proto::StatusResponse {
        nodes: told.status.nodes.into_iter().map(encode_node).collect(),
        shards: told.status.shards.into_iter().map(encode_shard).collect(),
        now_micros: told.now_micros,
        cluster: told.cluster.get(),
    }
}

fn encode_node(node: NodeStatus) -> proto::NodeStatus {
    use proto::node_status::Liveness as Wire;
    let liveness = match node.state {
        Liveness::Alive => Wire::Alive,
        Liveness::Suspect => Wire::Suspect,
        Liveness::Dead => Wire::Dead,
    };
    proto::NodeStatus {
        id: node.id.0,
        name: node.name,
        address: node.address,
        pid: node.pid,
        liveness: liveness.into(),
        leads: node.leads,
    }
}

fn encode_shard(shard: ShardStatus) -> proto::ShardStatus {
    proto::ShardStatus {
        id: shard.id.0,
        slot_first: u32::from(shard.slots.first.0),
        slot_last: u32::from(shard.slots.last.0),
        protocol: encode_protocol(shard.protocol).into(),
        epoch: shard.epoch.0,
        leader: shard.leader.map(|node| node.0),
        term: shard.term,
        replicas: shard.replicas.into_iter().map(encode_replica).collect(),
    }
}

fn encode_replica(replica: ReplicaStatus) -> proto::ReplicaStatus {
    use proto::replica_status::Role as Wire;
    let role = match replica.role {
        Role::Leader => Wire::Leader,
        Role::Follower => Wire::Follower,
        Role::Candidate => Wire::Candidate,
        Role::Unknown => Wire::Unspecified,
    };
    proto::ReplicaStatus { node: replica.node.0, role: role.into(), applied: replica.applied }
}

fn encode_location(location: Location) -> proto::LocateResponse {
    proto::LocateResponse {
        slot: u32::from(location.slot.0),
        shard: location.shard.0,
        leader: location.leader.map(|node| node.0),
        address: location.address,
    }
}

/// The status in a message.
pub(super) fn decode_status(message: proto::StatusResponse) -> Result<Told, Malformed> {
    let cluster = ClusterId::new(message.cluster).ok_or(Malformed("a status tells no cluster"))?;
    let nodes = message.nodes.into_iter().map(decode_node).collect::<Result<_, _>>()?;
    let shards = message.shards.into_iter().map(decode_shard).collect::<Result<_, _>>()?;
    Ok(Told { cluster, status: Status { nodes, shards }, now_micros: message.now_micros })
}

/// The location in a message.
pub(super) fn decode_location(message: proto::LocateResponse) -> Result<Location, Malformed> {
    Ok(Location {
        slot: slot(message.slot)?,
        shard: ShardId(message.shard),
        leader: message.leader.map(NodeId),
        address: message.address,
    })
}

fn decode_node(message: proto::NodeStatus) -> Result<NodeStatus, Malformed> {
    use proto::node_status::Liveness as Wire;
    let state = match Wire::try_from(message.liveness) {
        Ok(Wire::Alive) => Liveness::Alive,
        Ok(Wire::Suspect) => Liveness::Suspect,
        Ok(Wire::Dead) => Liveness::Dead,
        Ok(Wire::Unspecified) | Err(_) => return Err(Malformed("a node's liveness is unknown here")),
    };
    Ok(NodeStatus {
        id: NodeId(message.id),
        name: message.name,
        address: message.address,
        pid: message.pid,
        state,
        leads: message.leads,
    })
}

fn decode_shard(message: proto::ShardStatus) -> Result<ShardStatus, Malformed> {
    Ok(ShardStatus {
        id: ShardId(message.id),
        slots: SlotRange { first: slot(message.slot_first)?, last: slot(message.slot_last)? },
        protocol: decode_protocol(message.protocol)?,
        epoch: Epoch(message.epoch),
        leader: message.leader.map(NodeId),
        term: message.term,
        replicas: message.replicas.into_iter().map(decode_replica).collect::<Result<_, _>>()?,
    })
}

fn decode_replica(message: proto::ReplicaStatus) -> Result<ReplicaStatus, Malformed> {
    use proto::replica_status::Role as Wire;
    let role = match Wire::try_from(message.role) {
        Ok(Wire::Leader) => Role::Leader,
        Ok(Wire::Follower) => Role::Follower,
        Ok(Wire::Candidate) => Role::Candidate,
        Ok(Wire::Unspecified) | Err(_) => Role::Unknown,
    };
    Ok(ReplicaStatus { node: NodeId(message.node), role, applied: message.applied })
}

fn slot(number: u32) -> Result<Slot, Malformed> {
    match u16::try_from(number) {
        Ok(slot) if slot < kv::SLOTS => Ok(Slot(slot)),
        _ => Err(Malformed("a slot is over 16383")),
    }
}
