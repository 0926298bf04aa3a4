//! What a node sees of the cluster, between [`kv::cluster`] and the messages.

use kv::cluster::{
    BusStatus, Liveness, Location, NodeDuty, NodeStatus, ReplicaStatus, Role, ShardStatus, Status, Terms,
};
use kv::view::{Duty, Member};
use kv::{ClusterId, Epoch, NodeId, ReplicaId, ShardId, Slot, SlotRange};

use crate::native::proto;
use crate::native::reply::{Malformed, decode_protocol, encode_protocol};

/// What a node answers when it is asked for the status.
#[derive(Clone, Debug)]
pub(in crate::native) struct Told {
    pub(in crate::native) cluster: ClusterId,
    pub(in crate::native) status: Status,
    /// Its version clock: microseconds since 1970.
    pub(in crate::native) now_micros: u64,
    /// `None` = it is of an earlier version.
    pub(in crate::native) terms: Option<Terms>,
    /// Of what it says to other nodes; 0 = an earlier one than is told.
    pub(in crate::native) peer_version: u32,
}

pub(super) fn encode_status(told: Told) -> proto::StatusResponse {
    proto::StatusResponse {
        nodes: told.status.nodes.into_iter().map(encode_node).collect(),
        shards: told.status.shards.into_iter().map(encode_shard).collect(),
        now_micros: told.now_micros,
        cluster: told.cluster.get(),
        directory: told.status.directory.map(encode_shard),
        revision: told.status.revision,
        terms: told.terms.map(encode_terms),
        peer_version: told.peer_version,
        buses: told.status.buses.into_iter().map(encode_bus).collect(),
    }
}

fn encode_bus(BusStatus { broker, down, waiting, dropped }: BusStatus) -> proto::BusStatus {
    proto::BusStatus { broker, down, waiting, dropped }
}

fn decode_bus(proto::BusStatus { broker, down, waiting, dropped }: proto::BusStatus) -> BusStatus {
    BusStatus { broker, down, waiting, dropped }
}

fn encode_terms(Terms { shards, replicas, history, deleted_micros }: Terms) -> proto::Terms {
    proto::Terms { shards, replicas: u32::from(replicas), history, deleted_micros }
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
        replicas: node.replicas,
        peer: node.peer,
        zone: node.zone,
        duty: encode_duty(node.duty).into(),
    }
}

fn encode_duty(duty: NodeDuty) -> proto::node_status::Duty {
    use proto::node_status::Duty as Wire;
    match duty {
        NodeDuty::Serve => Wire::Serve,
        NodeDuty::Drain => Wire::Drain,
        NodeDuty::Leave => Wire::Leave,
        NodeDuty::Gone => Wire::Gone,
    }
}

fn encode_shard(shard: ShardStatus) -> proto::ShardStatus {
    proto::ShardStatus {
        id: shard.id.0,
        keyspace: shard.keyspace,
        slot_first: u32::from(shard.slots.first.0),
        slot_last: u32::from(shard.slots.last.0),
        protocol: encode_protocol(shard.protocol).into(),
        epoch: shard.epoch.0,
        leader: shard.leader.map(|node| node.0),
        term: shard.term,
        replicas: shard.replicas.into_iter().map(encode_replica).collect(),
        members: shard.members.into_iter().map(encode_member).collect(),
    }
}

fn encode_member(member: Member) -> proto::Member {
    use proto::member::Duty as Wire;
    let duty = match member.duty {
        Duty::Voter => Wire::Voter,
        Duty::Primary => Wire::Primary,
        Duty::Learner => Wire::Learner,
        Duty::Astray => Wire::Astray,
        Duty::Joining => Wire::Joining,
        Duty::Leaving => Wire::Leaving,
    };
    proto::Member {
        node: member.node.0,
        replica: u32::from(member.replica.0),
        incarnation: member.incarnation,
        duty: duty.into(),
        weight: member.weight,
    }
}

fn encode_replica(replica: ReplicaStatus) -> proto::ReplicaStatus {
    use proto::replica_status::Role as Wire;
    let role = match replica.role {
        Role::Leader => Wire::Leader,
        Role::Member => Wire::Member,
        Role::Follower => Wire::Follower,
        Role::Candidate => Wire::Candidate,
        Role::Unknown => Wire::Unspecified,
    };
    let ReplicaStatus { node, applied, lease_reads, .. } = replica;
    proto::ReplicaStatus { node: node.0, role: role.into(), applied, lease_reads }
}

pub(super) fn encode_location(location: Location) -> proto::LocateResponse {
    proto::LocateResponse {
        slot: u32::from(location.slot.0),
        shard: location.shard.0,
        leader: location.leader.map(|node| node.0),
        address: location.address,
    }
}

/// The status in a message.
pub(in crate::native) fn decode_status(message: proto::StatusResponse) -> Result<Told, Malformed> {
    let cluster = ClusterId::new(message.cluster).ok_or(Malformed("a status tells no cluster"))?;
    let nodes = message.nodes.into_iter().map(decode_node).collect::<Result<_, _>>()?;
    let shards = message.shards.into_iter().map(decode_shard).collect::<Result<_, _>>()?;
    let directory = message.directory.map(decode_shard).transpose()?;
    let buses = message.buses.into_iter().map(decode_bus).collect();
    let status = Status { nodes, shards, directory, revision: message.revision, buses };
    let (terms, peer_version) = (message.terms.map(decode_terms).transpose()?, message.peer_version);
    Ok(Told { cluster, status, now_micros: message.now_micros, terms, peer_version })
}

fn decode_terms(message: proto::Terms) -> Result<Terms, Malformed> {
    let proto::Terms { shards, replicas, history, deleted_micros } = message;
    let replicas = u16::try_from(replicas).ok().filter(|replicas| *replicas > 0);
    let replicas = replicas.ok_or(Malformed("shards have no such number of replicas"))?;
    Ok(Terms { shards, replicas, history, deleted_micros })
}

/// The location in a message.
pub(in crate::native) fn decode_location(message: proto::LocateResponse) -> Result<Location, Malformed> {
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
        replicas: message.replicas,
        peer: message.peer,
        zone: message.zone,
        duty: decode_duty(message.duty)?,
    })
}

fn decode_duty(duty: i32) -> Result<NodeDuty, Malformed> {
    use proto::node_status::Duty as Wire;
    match Wire::try_from(duty) {
        Ok(Wire::Serve | Wire::Unspecified) => Ok(NodeDuty::Serve),
        Ok(Wire::Drain) => Ok(NodeDuty::Drain),
        Ok(Wire::Leave) => Ok(NodeDuty::Leave),
        Ok(Wire::Gone) => Ok(NodeDuty::Gone),
        Err(_) => Err(Malformed("a node's duty is unknown here")),
    }
}

fn decode_shard(message: proto::ShardStatus) -> Result<ShardStatus, Malformed> {
    Ok(ShardStatus {
        id: ShardId(message.id),
        keyspace: message.keyspace,
        slots: SlotRange { first: slot(message.slot_first)?, last: slot(message.slot_last)? },
        protocol: decode_protocol(message.protocol)?,
        epoch: Epoch(message.epoch),
        leader: message.leader.map(NodeId),
        term: message.term,
        replicas: message.replicas.into_iter().map(decode_replica).collect::<Result<_, _>>()?,
        members: message.members.into_iter().map(decode_member).collect::<Result<_, _>>()?,
    })
}

fn decode_member(message: proto::Member) -> Result<Member, Malformed> {
    use proto::member::Duty as Wire;
    let duty = match Wire::try_from(message.duty) {
        Ok(Wire::Voter) => Duty::Voter,
        Ok(Wire::Primary) => Duty::Primary,
        Ok(Wire::Learner) => Duty::Learner,
        Ok(Wire::Astray) => Duty::Astray,
        Ok(Wire::Joining) => Duty::Joining,
        Ok(Wire::Leaving) => Duty::Leaving,
        Ok(Wire::Unspecified) | Err(_) => return Err(Malformed("a member's duty is unknown here")),
    };
    let replica = u16::try_from(message.replica).ok().filter(|replica| *replica <= ReplicaId::MAX.0);
    Ok(Member {
        node: NodeId(message.node),
        replica: ReplicaId(replica.ok_or(Malformed("a replica's number is over 1023"))?),
        incarnation: message.incarnation,
        duty,
        weight: message.weight,
    })
}

fn decode_replica(message: proto::ReplicaStatus) -> Result<ReplicaStatus, Malformed> {
    use proto::replica_status::Role as Wire;
    let role = match Wire::try_from(message.role) {
        Ok(Wire::Leader) => Role::Leader,
        Ok(Wire::Member) => Role::Member,
        Ok(Wire::Follower) => Role::Follower,
        Ok(Wire::Candidate) => Role::Candidate,
        Ok(Wire::Unspecified) | Err(_) => Role::Unknown,
    };
    let proto::ReplicaStatus { node, applied, lease_reads, .. } = message;
    Ok(ReplicaStatus { node: NodeId(node), role, applied, lease_reads })
}

fn slot(number: u32) -> Result<Slot, Malformed> {
    match u16::try_from(number) {
        Ok(slot) if slot < kv::SLOTS => Ok(Slot(slot)),
        _ => Err(Malformed("a slot is over 16383")),
    }
}
