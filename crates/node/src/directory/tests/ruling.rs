//! What people decide about the members of a shard, by how its nodes are seen.

use kv::admin::{Answer, Ask, Ruling};
use kv::cluster::Liveness;
use kv::keyspace::Wish;
use kv::view::{Change, Duty, Member};
use kv::{Error, NodeId, Protocol};

use super::room::Room;

fn force(dry_run: bool) -> Ask {
    Ask::Rule { keyspace: "tea".into(), ruling: Ruling::ForcePrimary { node: "n3".into() }, dry_run }
}

fn members(room: &Room) -> Vec<Member> {
    room.store.map().shards_of("tea")[0].1.members.clone()
}

#[test]
fn replica_is_forced_when_those_in_sync_were_silent_for_long_and_not_before() {
    let mut room = Room::founded(3, 1);
    room.lead(3);
    let wish = Wish { protocol: Some(Protocol::Primary), ..Wish::default() };
    assert_eq!(room.call(3, Ask::CreateKeyspace { name: "tea".into(), wish }), Ok(Answer::Done));
    let map = room.store.map();
    let (shard, row) = map.shards_of("tea")[0];
    let by = *row.members.iter().find(|member| member.duty == Duty::Primary).unwrap();
    // The others learn; n3 is one of them, or yields.
    let duty = |member: &Member| match member.node {
        NodeId(1) => Duty::Primary,
        _ => Duty::Learner,
    };
    let led = Change {
        epoch: row.epoch,
        revision: row.revision,
        by,
        members: row.members.iter().map(|member| Member { duty: duty(member), ..*member }).collect(),
    };
    assert_eq!(room.call(3, Ask::Revise { shard, change: led }), Ok(Answer::Done));
    let refused = room.call(3, force(false));
    assert!(matches!(&refused, Err(Error::Invalid(why)) if why.contains("needs no force")), "{refused:?}");
    room.seen.nodes.get_mut(&NodeId(1)).unwrap().state = Some(Liveness::Suspect);
    room.pass(1_000_000);
    let early = room.call(3, force(false));
    assert!(matches!(&early, Err(Error::Unavailable(why)) if why.contains("silent")), "{early:?}");
    room.seen.nodes.get_mut(&NodeId(1)).unwrap().state = Some(Liveness::Dead);
    room.pass(1_000_000);
    let before = members(&room);
    let would = room.call(3, force(true));
    assert!(matches!(&would, Ok(Answer::Ruled(shards)) if shards[0].done), "{would:?}");
    assert_eq!(members(&room), before, "nothing is changed by asking what it would do");
    for time in 0..2 {
        let done = room.call(3, force(false));
        assert!(matches!(&done, Ok(Answer::Ruled(shards)) if shards[0].done), "{time}: {done:?}");
        let duties: Vec<Duty> = members(&room).iter().map(|member| member.duty).collect();
        assert_eq!(duties, [Duty::Astray, Duty::Astray, Duty::Primary]);
    }
}
