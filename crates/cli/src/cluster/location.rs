//! Where a key is.

use kv::Key;
use kv::cluster::{Location, Status};

use super::names::Names;
use crate::escape;
use crate::exit::Error;
use crate::print::{Output, put_bytes};

/// Prints where a key is.
pub fn print(key: &Key, location: &Location, status: &Status, out: &mut Output<'_>) -> Result<(), Error> {
    let names = Names::of(status);
    let leader = location.leader.map(|leader| names.name(leader));
    let shard = status.shards.iter().find(|shard| shard.id == location.shard);
    let members = shard.into_iter().flat_map(|shard| &shard.members);
    let members: Vec<String> = members.map(|member| names.name(member.node)).collect();
    if out.json {
        let mut object = serde_json::Map::new();
        put_bytes(&mut object, "key", key);
        object.insert("slot".into(), location.slot.0.into());
        object.insert("shard".into(), location.shard.0.into());
        object.insert("leader".into(), leader.into());
        object.insert("members".into(), members.into());
        out.object(&object.into())?;
        return Ok(());
    }
    let row = vec![
        location.slot.to_string(),
        location.shard.to_string(),
        match leader {
            Some(_) if shard.is_some_and(|shard| shard.protocol.is_merged()) => "any".into(),
            leader => leader.unwrap_or_else(|| "-".into()),
        },
        if members.is_empty() { "-".into() } else { members.join(",") },
        escape::write(key).into_owned(),
    ];
    // A key with blanks stays on its line.
    out.columns(&["SLOT", "SHARD", "LEADER", "REPLICAS", "KEY"], &[row])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use kv::{NodeId, ShardId, Slot};

    use super::*;
    use crate::fake::{node, printed, shard};

    #[test]
    fn location_is_printed_with_the_names_of_leader_and_members() {
        let nodes = (1..=3).map(node).collect();
        let status = Status { nodes, shards: vec![shard(1)], ..Status::default() };
        let location = Location { slot: Slot(5), shard: ShardId(1), leader: Some(NodeId(1)), address: None };
        let key = Key::from_static(b"k");
        let text = printed(false, |out| print(&key, &location, &status, out).unwrap());
        assert_eq!(text, "SLOT  SHARD  LEADER  REPLICAS  KEY\n5     1      n1      n1,n2,n3  k\n");
        let json = printed(true, |out| print(&key, &location, &status, out).unwrap());
        assert_eq!(
            json,
            r#"{"key":"k","slot":5,"shard":1,"leader":"n1","members":["n1","n2","n3"]}"#.to_owned() + "\n"
        );
        let nobody = Location { leader: None, ..location };
        let nothing = Status::default();
        let json = printed(true, |out| print(&key, &nobody, &nothing, out).unwrap());
        assert_eq!(json, r#"{"key":"k","slot":5,"shard":1,"leader":null,"members":[]}"#.to_owned() + "\n");
        let text = printed(false, |out| print(&key, &nobody, &nothing, out).unwrap());
        assert_eq!(text, "SLOT  SHARD  LEADER  REPLICAS  KEY\n5     1      -       -         k\n");
    }
}
