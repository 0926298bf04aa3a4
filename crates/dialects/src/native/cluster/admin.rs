//! What the directory is asked and answers, between [`kv::admin`] and the messages.

use kv::admin::{Answer, Joining, Move, Phase, Row, Why};
use kv::{ClusterId, Error, NodeId, ShardId};
use tonic::Status;

use crate::native::reply::Malformed;
use crate::native::{proto, status};

/// The message of an answer to Join.
pub(in crate::native) fn joined(answer: Answer) -> Result<proto::JoinResponse, Status> {
    match answer {
        Answer::Joined { node, cluster, map, lives } => {
            Ok(proto::JoinResponse { node: node.0, cluster: cluster.get(), map, lives })
        }
        other => Err(unexpected(&other)),
    }
}

/// The message of an answer to what a node is to do.
pub(super) fn changed(answer: Answer) -> Result<proto::NodeResponse, Status> {
    match answer {
        Answer::Done => Ok(proto::NodeResponse::default()),
        Answer::Moves(moves) => {
            Ok(proto::NodeResponse { moves: moves.into_iter().map(encode_move).collect() })
        }
        other => Err(unexpected(&other)),
    }
}

/// Checks the answer to what is done.
pub(super) fn done(answer: Answer) -> Result<(), Status> {
    match answer {
        Answer::Done => Ok(()),
        other => Err(unexpected(&other)),
    }
}

/// The message of an answer to Abort.
pub(super) fn aborted(answer: Answer) -> Result<proto::AbortResponse, Status> {
    done(answer).map(|()| proto::AbortResponse {})
}

/// The message of an answer to Moves.
pub(in crate::native) fn moves(answer: Answer) -> Result<proto::MovesResponse, Status> {
    match answer {
        Answer::Moves(moves) => {
            Ok(proto::MovesResponse { moves: moves.into_iter().map(encode_move).collect() })
        }
        other => Err(unexpected(&other)),
    }
}

/// The message of an answer to Dump.
pub(in crate::native) fn rows(answer: Answer) -> Result<proto::DumpResponse, Status> {
    match answer {
        Answer::Rows(rows) => {
            let row = |Row { key, value }| proto::DirectoryRow { key, value };
            Ok(proto::DumpResponse { rows: rows.into_iter().map(row).collect() })
        }
        other => Err(unexpected(&other)),
    }
}

pub(super) fn unexpected(answer: &Answer) -> Status {
    let answer = match answer {
        Answer::Joined { .. } => "that a node has joined",
        Answer::Done => "that it is done",
        Answer::Moves(_) => "moves",
        Answer::Rows(_) => "rows",
        Answer::Keyspaces(_) => "keyspaces",
        Answer::Ruled(_) => "what became of shards",
    };
    status::to_status(&Error::InDoubt(format!(
        "the directory answered {answer} to another question: are all nodes of one version?"
    )))
}

fn encode_move(moved: Move) -> proto::ReplicaMove {
    use proto::replica_move::{Phase as WirePhase, Why as WireWhy};
    let phase = match moved.phase {
        Phase::Planned => WirePhase::Planned,
        Phase::Copy => WirePhase::Copy,
        Phase::Switch => WirePhase::Switch,
    };
    let (why, because) = match moved.why {
        Why::Balance => (WireWhy::Balance, 0),
        Why::Leaves(node) => (WireWhy::Leaves, node.0),
        Why::Lost(node) => (WireWhy::Lost, node.0),
        Why::Repair => (WireWhy::Repair, 0),
        Why::Split => (WireWhy::Split, 0),
        Why::Protocol => (WireWhy::Protocol, 0),
    };
    proto::ReplicaMove {
        shard: moved.shard.0,
        keyspace: moved.keyspace,
        from: moved.from.map(|node| node.0),
        to: moved.to.map(|node| node.0),
        phase: phase.into(),
        why: why.into(),
        because,
        bytes_done: moved.bytes_done,
        bytes_total: moved.bytes_total,
        elapsed_micros: moved.elapsed_micros,
    }
}

/// The message that asks to join.
pub(in crate::native) fn encode_joining(joining: Joining) -> proto::JoinRequest {
    let Joining { name, incarnation, peer, address, zone } = joining;
    proto::JoinRequest { name, incarnation, peer, address, zone }
}

/// The answer to Join in a message.
pub(in crate::native) fn decode_joined(message: proto::JoinResponse) -> Result<Answer, Malformed> {
    let cluster = ClusterId::new(message.cluster).ok_or(Malformed("a node joined no cluster"))?;
    let proto::JoinResponse { node, map, lives, .. } = message;
    Ok(Answer::Joined { node: NodeId(node), cluster, map, lives })
}

/// The answer to what a node is to do in a message.
pub(in crate::native) fn decode_changed(
    message: proto::NodeResponse,
    dry_run: bool,
) -> Result<Answer, Malformed> {
    if dry_run { decode_moves(message.moves) } else { Ok(Answer::Done) }
}

/// Moves in a message.
pub(in crate::native) fn decode_moves(moves: Vec<proto::ReplicaMove>) -> Result<Answer, Malformed> {
    moves.into_iter().map(decode_move).collect::<Result<_, _>>().map(Answer::Moves)
}

/// The answer to Dump in a message.
pub(in crate::native) fn decode_rows(message: proto::DumpResponse) -> Answer {
    Answer::Rows(message.rows.into_iter().map(|row| Row { key: row.key, value: row.value }).collect())
}

fn decode_move(message: proto::ReplicaMove) -> Result<Move, Malformed> {
    use proto::replica_move::{Phase as WirePhase, Why as WireWhy};
    let phase = match WirePhase::try_from(message.phase) {
        Ok(WirePhase::Planned) => Phase::Planned,
        Ok(WirePhase::Copy) => Phase::Copy,
        Ok(WirePhase::Switch) => Phase::Switch,
        Ok(WirePhase::Unspecified) | Err(_) => return Err(Malformed("a move's phase is unknown here")),
    };
    let because = NodeId(message.because);
    let why = match WireWhy::try_from(message.why) {
        Ok(WireWhy::Balance) => Why::Balance,
        Ok(WireWhy::Leaves) => Why::Leaves(because),
        Ok(WireWhy::Lost) => Why::Lost(because),
        Ok(WireWhy::Repair) => Why::Repair,
        Ok(WireWhy::Split) => Why::Split,
        Ok(WireWhy::Protocol) => Why::Protocol,
        Ok(WireWhy::Unspecified) | Err(_) => return Err(Malformed("a move's reason is unknown here")),
    };
    Ok(Move {
        shard: ShardId(message.shard),
        keyspace: message.keyspace,
        from: message.from.map(NodeId),
        to: message.to.map(NodeId),
        phase,
        why,
        bytes_done: message.bytes_done,
        bytes_total: message.bytes_total,
        elapsed_micros: message.elapsed_micros,
    })
}
