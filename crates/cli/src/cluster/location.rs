//! Where a key is.

use kv::Key;
use kv::cluster::{Location, Status};

use super::names::Names;
use crate::escape;
use crate::exit::Error;
use crate::print::{Output, put_bytes};

/// Prints where a key is.
pub fn print(key: &Key, location: &Location, status: &Status, out: &mut Output<'_>) -> Result<(), Error> {
    let leader = location.leader.map(|leader| Names::of(status).name(leader));
    if out.json {
        let mut object = serde_json::Map::new();
        put_bytes(&mut object, "key", key);
        object.insert("slot".into(), location.slot.0.into());
        object.insert("shard".into(), location.shard.0.into());
        object.insert("leader".into(), leader.into());
        out.object(&object.into())?;
        return Ok(());
    }
    let row = vec![
        location.slot.to_string(),
        location.shard.to_string(),
        leader.unwrap_or_else(|| "-".into()),
        escape::write(key).into_owned(),
    ];
    // A key with blanks stays on its line.
    out.columns(&["SLOT", "SHARD", "LEADER", "KEY"], &[row])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use kv::{NodeId, ShardId, Slot};

    use super::*;
    use crate::fake::{node, printed};

    #[test]
    fn location_is_printed_with_the_leaders_name() {
        let status = Status { nodes: vec![node(1)], ..Status::default() };
        let location = Location { slot: Slot(5), shard: ShardId(1), leader: Some(NodeId(1)), address: None };
        let key = Key::from_static(b"k");
        let text = printed(false, |out| print(&key, &location, &status, out).unwrap());
        assert_eq!(text, "SLOT  SHARD  LEADER  KEY\n5     1      n1      k\n");
        let json = printed(true, |out| print(&key, &location, &status, out).unwrap());
        assert_eq!(json, "{\"key\":\"k\",\"slot\":5,\"shard\":1,\"leader\":\"n1\"}\n");
        let nobody = Location { leader: None, ..location };
        let json = printed(true, |out| print(&key, &nobody, &status, out).unwrap());
        assert_eq!(json, "{\"key\":\"k\",\"slot\":5,\"shard\":1,\"leader\":null}\n");
    }
}
