//! What people and joining nodes ask, as events of the map.

use bytes::Bytes;
use kv::Error;
use kv::admin::{Answer, Ask, Joining};
use kv::cluster::NodeDuty;
use placement::map::Map;
use placement::{Event, Refusal};
use replication::Instant;

use super::dump;
use super::duties::Reign;
use super::ruling;

/// What is decided about an ask.
pub(super) struct Decision {
    /// The map that makes it so; `None` = the map stays as it is.
    pub next: Option<Map>,
    /// The answer, once that is written, or the present one is known to be the last.
    pub answer: Result<Answer, Error>,
}

/// Decides an ask by the map as it is; `None` = it takes another turn.
pub(super) fn decide(reign: &mut Reign, ask: &Ask, now: Instant) -> Option<Decision> {
    let answer = match ask {
        Ask::Moves => Ok(Answer::Moves(reign.moves(now)?)),
        Ask::Dump => Ok(Answer::Rows(dump::rows(&reign.map))),
        Ask::Keyspaces => Ok(Answer::Keyspaces(reign.keyspaces())),
        Ask::CreateKeyspace { name, wish } => return Some(decision(reign.create(name, wish), done)),
        Ask::AlterKeyspace { name, wish, dry_run } => {
            let event = Event::Alter { name: name.clone(), wish: wish.clone() };
            let map = reign.map.clone();
            return change_node(reign, &map, &event, *dry_run, now);
        }
        Ask::DropKeyspace { name } => {
            return Some(change(&reign.map, &Event::Drop { name: name.clone() }, done));
        }
        Ask::Join(joining) => return Some(change(&reign.map, &join(joining), |next| joined(next, joining))),
        Ask::Revise { shard, change: asked } if !reign.may_revise(*shard, &asked.members) => {
            Err(refused(Refusal::Overtaken(*shard)))
        }
        Ask::Revise { shard, change: asked } => {
            let event = Event::Revise { shard: *shard, change: asked.clone() };
            return Some(change(&reign.map, &event, done));
        }
        Ask::Rule { keyspace, ruling, dry_run } => {
            return Some(ruling::decide(reign, keyspace, ruling, *dry_run, now));
        }
        Ask::Zone { name, secondaries } => {
            let event = Event::Zone { name: name.clone(), secondaries: *secondaries };
            return Some(change(&reign.map, &event, done));
        }
        Ask::Abort { shard } => return Some(change(&reign.map, &Event::Abort { shard: *shard }, done)),
        Ask::Node { name, duty, fewer, dry_run } => {
            let map = reign.map.clone();
            return change_node(reign, &map, &to(name, *duty, *fewer), *dry_run, now);
        }
        Ask::Replace { name, .. } if reign.is_silent_lately(name, now) => Err(Error::Unavailable(format!(
            "node '{name}' has been silent for some seconds only, and may be about to come back: ask again in a moment"
        ))),
        Ask::Replace { name, lose, dry_run } => {
            let event = Event::Replace { name: name.clone(), lose: *lose };
            let map = reign.with_dead(name, now);
            return change_node(reign, &map, &event, *dry_run, now);
        }
    };
    Some(Decision { next: None, answer })
}

fn join(joining: &Joining) -> Event {
    let Joining { name, incarnation, peer, address, zone } = joining.clone();
    Event::Join { name, incarnation, peer, address, zone }
}

fn to(name: &str, duty: NodeDuty, fewer: bool) -> Event {
    let name = name.to_owned();
    match duty {
        NodeDuty::Serve => Event::Serve { name },
        NodeDuty::Drain => Event::Drain { name, fewer },
        NodeDuty::Leave => Event::Leave { name, fewer },
        NodeDuty::Gone => Event::Replace { name, lose: false },
    }
}

fn joined(map: &Map, joining: &Joining) -> Answer {
    let (node, _) = map.node_of(joining.incarnation).expect("who has joined has a row");
    let cluster = map.cluster.expect("a map that was written names its cluster");
    Answer::Joined { node, cluster, map: map.encode(), lives: Bytes::new() }
}

fn done(_: &Map) -> Answer {
    Answer::Done
}

/// What follows from an event of a node, or what would.
fn change_node(reign: &mut Reign, map: &Map, event: &Event, dry_run: bool, now: Instant) -> Option<Decision> {
    if !dry_run {
        return Some(change(map, event, done));
    }
    let answer = match map.apply(event) {
        Ok(next) => Ok(Answer::Moves(reign.moves_after(event, &next, now)?)),
        Err(refusal) => Err(refused(refusal)),
    };
    Some(Decision { next: None, answer })
}

fn change(map: &Map, event: &Event, answer: impl FnOnce(&Map) -> Answer) -> Decision {
    decision(map.apply(event), answer)
}

fn decision(next: Result<Map, Refusal>, answer: impl FnOnce(&Map) -> Answer) -> Decision {
    match next {
        Ok(next) => Decision { answer: Ok(answer(&next)), next: Some(next) },
        Err(refusal) => Decision { next: None, answer: Err(refused(refusal)) },
    }
}

/// A refusal as whoever asks gets it: what cannot be as the cluster is, or only not now.
pub(super) fn refused(refusal: Refusal) -> Error {
    let why = refusal.to_string();
    match refusal {
        Refusal::NotFounded
        | Refusal::Stuck { .. }
        | Refusal::Switching(_)
        | Refusal::Overtaken(_)
        | Refusal::NoNodes
        | Refusal::JustDropped(_)
        | Refusal::StillServed { .. }
        | Refusal::TooFewForAll { .. }
        | Refusal::TooFewToGoOn { .. }
        | Refusal::Recast { .. }
        | Refusal::OneByOne(_)
        | Refusal::NotAlive(_)
        | Refusal::Splitting { .. } => Error::Unavailable(why),
        _ => Error::Invalid(why),
    }
}
