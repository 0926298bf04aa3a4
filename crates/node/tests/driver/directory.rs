//! The directory from end to end: founded, joined, and moving a shard, whoever of those that decide is lost meanwhile.

use bytes::Bytes;
use kv::admin::{Answer, Ask, Joining, Move, Row};
use kv::cluster::NodeDuty;
use kv::{ClusterId, Error, NodeId, Op, ShardId};
use node::Input;
use placement::map::Map;

use crate::cluster::{Cluster, ELECTION_STEPS};
use crate::maps::founding;

const SHARD: ShardId = ShardId(1);
const NEW: NodeId = NodeId(4);
const TIMEOUT_MICROS: u64 = 10_000_000;
/// Ten seconds: a leader of the directory looks for three before it plans.
const STEPS: usize = 400;

/// Three nodes and one shard, whose cluster is founded.
fn founded() -> Cluster {
    founded_of(&[1; 3], 1)
}

/// A node for each of these numbers of cores.
pub fn founded_of(cores: &[usize], shards: u32) -> Cluster {
    let mut cluster = Cluster::of_map(cores, founding(cores.len() as u64, shards, 3));
    cluster.nodes.keys().copied().collect::<Vec<_>>().into_iter().for_each(|id| knows(&mut cluster, id));
    let is_founded = |cluster: &Cluster| cluster.nodes.keys().all(|id| status(cluster, *id).revision > 1);
    run_until(&mut cluster, "all know the map that was written", is_founded);
    cluster
}

/// A node knows which cluster it is of.
pub fn knows(cluster: &mut Cluster, id: NodeId) {
    cluster.input(id, Input::Cluster(ClusterId::new(0xc1).unwrap()));
}

fn status(cluster: &Cluster, id: NodeId) -> kv::cluster::Status {
    cluster.nodes[&id].status()
}

pub fn run_until(cluster: &mut Cluster, what: &str, is_so: impl Fn(&Cluster) -> bool) {
    for _ in 0..10 * STEPS {
        cluster.step();
        cluster.stream_snapshots();
        if is_so(cluster) {
            return;
        }
    }
    panic!("in the end {what}; {:?}", rows(cluster));
}

pub fn administer(cluster: &mut Cluster, node: NodeId, ask: Ask) -> Result<Answer, Error> {
    let client = cluster.administered.len() as u64 + 1;
    cluster.input(node, Input::Administer { client, ask, timeout_micros: TIMEOUT_MICROS });
    for _ in 0..2 * STEPS {
        cluster.step();
        cluster.stream_snapshots();
        if let Some(answer) = cluster.administered.get(&client) {
            return answer.clone();
        }
    }
    panic!("an ask is answered in its time");
}

fn rows(cluster: &mut Cluster) -> Vec<Row> {
    let node = *cluster.nodes.keys().next().unwrap();
    match administer(cluster, node, Ask::Dump) {
        Ok(Answer::Rows(rows)) => rows,
        other => panic!("{other:?}"),
    }
}

fn moves(cluster: &mut Cluster, node: NodeId) -> Vec<Move> {
    match administer(cluster, node, Ask::Moves) {
        Ok(Answer::Moves(moves)) => moves,
        other => panic!("{other:?}"),
    }
}

pub fn directory_leader(cluster: &mut Cluster) -> NodeId {
    cluster.leader_of(ShardId::DIRECTORY)
}

/// A fourth node joins through another one, and has the map.
fn join(cluster: &mut Cluster, through: NodeId) {
    let joining = Joining {
        name: "n4".into(),
        incarnation: 104,
        peer: String::from("h4:1"),
        address: "127.0.0.1:4".into(),
        zone: String::new(),
    };
    let Ok(Answer::Joined { node, cluster: id, map, .. }) = administer(cluster, through, Ask::Join(joining))
    else {
        panic!("it may join")
    };
    assert_eq!((node, Some(id)), (NEW, ClusterId::new(0xc1)));
    assert!(Map::decode(&map).unwrap().nodes.contains_key(&NEW), "it can begin with the map");
    cluster.join(NEW);
    knows(cluster, NEW);
    run_until(cluster, "the new node has the map", |cluster| status(cluster, NEW).revision > 2);
}

fn drain(name: &str) -> Ask {
    to(name, NodeDuty::Drain)
}

fn to(name: &str, duty: NodeDuty) -> Ask {
    Ask::Node { name: name.into(), duty, fewer: false, dry_run: false }
}

fn put(key: &'static str) -> Op {
    Op::Put { key: key.into(), value: Bytes::from_static(b"v"), deadline: None, previous: false }
}

fn is_found(cluster: &mut Cluster, node: NodeId, key: &'static str) -> bool {
    let answer = cluster.call(node, Op::Get { key: key.into(), at: None }).unwrap().answer;
    matches!(answer, kv::Answer::Row(Some(_)))
}

/// The nodes that have a replica of the shard, by themselves.
fn replicas(cluster: &Cluster) -> Vec<u64> {
    let has = |node: &&NodeId| cluster.nodes[*node].replica_status(SHARD).is_some();
    cluster.nodes.keys().filter(has).map(|node| node.0).collect()
}

/// The members of the shard, as a node shows them.
fn members(cluster: &Cluster, node: NodeId) -> Vec<u64> {
    let status = status(cluster, node);
    let shard = status.shards.iter().find(|shard| shard.id == SHARD).unwrap();
    shard.members.iter().map(|member| member.node.0).collect()
}

#[test]
fn cluster_is_founded_by_the_first_that_leads_and_all_act_on_what_it_wrote() {
    let mut cluster = founded();
    cluster.steps(4 * ELECTION_STEPS);
    let leader = directory_leader(&mut cluster);
    for id in [1, 2, 3].map(NodeId) {
        let status = status(&cluster, id);
        assert_eq!(status.directory.and_then(|shard| shard.leader), Some(leader), "{id} shows who decides");
    }
    let text = |rows: &[Row], key: &str| rows.iter().find(|row| row.key == key).unwrap().value.clone();
    let rows = rows(&mut cluster);
    assert!(text(&rows, "cluster").starts_with("00000000000000c1"));
    let node = text(&rows, "node/00000000000000000002");
    assert_eq!(
        node, "n2 serve alive peer=h2:1 address=127.0.0.1:2 incarnation=0000000000000066",
        "as it says it is"
    );
}

#[test]
fn keys_of_clients_are_not_rows_of_the_directory() {
    let mut cluster = founded();
    let leader = directory_leader(&mut cluster);
    cluster.call(leader, put("revision")).unwrap();
    cluster.call(leader, Op::Delete { key: "node/00000000000000000001".into(), previous: false }).unwrap();
    assert!(rows(&mut cluster).iter().any(|row| row.key == "node/00000000000000000001"));
}

#[test]
fn node_that_joins_takes_the_place_of_one_that_is_drained() {
    let mut cluster = founded();
    let leader = directory_leader(&mut cluster);
    cluster.call(leader, put("k")).unwrap();
    join(&mut cluster, NodeId(leader.0 % 3 + 1));
    assert_eq!(administer(&mut cluster, NEW, drain("n1")), Ok(Answer::Done), "any node may be asked");
    let under_way = moves(&mut cluster, NEW);
    let ends: Vec<_> = under_way.iter().map(|one| (one.shard, one.from, one.to)).collect();
    assert!(ends.contains(&(SHARD, Some(NodeId(1)), Some(NEW))), "{ends:?}");
    run_until(&mut cluster, "the shard is where it should be", |cluster| replicas(cluster) == [2, 3, 4]);
    run_until(&mut cluster, "all know it", |cluster| {
        cluster.nodes.keys().all(|id| members(cluster, *id) == [2, 3, 4])
    });
    assert_eq!(moves(&mut cluster, NodeId(1)), []);
    for node in [1, 4].map(NodeId) {
        assert!(is_found(&mut cluster, node, "k"));
    }
}

#[test]
fn move_goes_on_when_who_decides_is_killed_in_the_middle() {
    let mut cluster = founded();
    let leader = directory_leader(&mut cluster);
    cluster.call(leader, put("k")).unwrap();
    join(&mut cluster, leader);
    // Somebody is drained who does not decide.
    let drained = NodeId(leader.0 % 3 + 1);
    administer(&mut cluster, leader, drain(&format!("n{drained}"))).unwrap();
    run_until(&mut cluster, "the new one has a replica", |cluster| replicas(cluster).contains(&NEW.0));
    cluster.kill(leader);
    let stays = NodeId(6 - leader.0 - drained.0);
    run_until(&mut cluster, "the drained one has none", |cluster| replicas(cluster) == [stays.0, NEW.0]);
    assert!(is_found(&mut cluster, NEW, "k"));
    assert!(!is_found(&mut cluster, drained, "absent"));
}

#[test]
fn move_goes_on_when_all_start_again_in_the_middle() {
    let mut cluster = founded();
    let leader = directory_leader(&mut cluster);
    cluster.call(leader, put("k")).unwrap();
    join(&mut cluster, leader);
    administer(&mut cluster, leader, drain("n2")).unwrap();
    run_until(&mut cluster, "the new one has a replica", |cluster| replicas(cluster).contains(&NEW.0));
    for id in [1, 2, 3, 4].map(NodeId) {
        cluster.restart(id);
        knows(&mut cluster, id);
    }
    run_until(&mut cluster, "the shard is where it should be", |cluster| replicas(cluster) == [1, 3, 4]);
    assert!(is_found(&mut cluster, NodeId(2), "k"));
    assert!(rows(&mut cluster).iter().all(|row| !row.key.starts_with("change/")));
}

#[test]
fn node_that_leaves_is_no_member_any_more() {
    let mut cluster = founded();
    let leader = directory_leader(&mut cluster);
    join(&mut cluster, leader);
    let leave = Ask::Node { name: "n4".into(), duty: NodeDuty::Leave, fewer: false, dry_run: false };
    administer(&mut cluster, leader, leave).unwrap();
    run_until(&mut cluster, "it is none", |cluster| status(cluster, NodeId(1)).nodes.len() == 3);
    let row = "node/00000000000000000004";
    assert!(rows(&mut cluster).iter().all(|row_of| row_of.key != row));
}

#[test]
fn directory_grows_with_the_cluster_and_leaves_a_node_like_any_shard() {
    let mut cluster = founded();
    let leader = directory_leader(&mut cluster);
    join(&mut cluster, leader);
    administer(&mut cluster, leader, drain(&format!("n{leader}"))).unwrap();
    let has = |cluster: &Cluster, id| cluster.nodes[&id].replica_status(ShardId::DIRECTORY).is_some();
    run_until(&mut cluster, "it is elsewhere", |cluster| has(cluster, NEW) && !has(cluster, leader));
    let decides = directory_leader(&mut cluster);
    assert_ne!(decides, leader);
    assert!(administer(&mut cluster, leader, Ask::Moves).is_ok());
}

#[test]
fn shards_of_all_cores_are_seen_by_the_directory() {
    let mut cluster = founded_of(&[3; 3], 6);
    let leader = directory_leader(&mut cluster);
    join(&mut cluster, leader);
    // Shares of 18 replicas: 4 or 5 for each of four nodes.
    run_until(&mut cluster, "the new node has its share", |cluster| {
        let status = status(cluster, NEW);
        let new = status.nodes.iter().find(|node| node.id == NEW).unwrap();
        new.replicas >= 4 && status.nodes.iter().all(|node| node.replicas <= 5)
    });
}

#[test]
fn move_says_how_much_is_copied() {
    let mut cluster = founded();
    let leader = directory_leader(&mut cluster);
    for key in ["a", "b", "c", "d"] {
        let value = Bytes::from(vec![b'v'; 1 << 20]);
        cluster.call(leader, Op::Put { key: key.into(), value, deadline: None, previous: false }).unwrap();
    }
    join(&mut cluster, leader);
    administer(&mut cluster, leader, drain("n1")).unwrap();
    for _ in 0..STEPS {
        let said = moves(&mut cluster, NEW).into_iter().find(|one| one.shard == SHARD);
        let said = said.expect("it is under way until it was seen how far it is");
        if (1..said.bytes_total).contains(&said.bytes_done) {
            return assert!(said.bytes_total > 4 << 20, "{said:?}");
        }
    }
    panic!("a copy is seen in the middle");
}

#[test]
fn change_that_is_given_up_while_it_copies_leaves_the_members_as_they_were() {
    let mut cluster = founded();
    let leader = directory_leader(&mut cluster);
    let value = Bytes::from(vec![b'v'; 4 << 20]);
    cluster.call(leader, Op::Put { key: "k".into(), value, deadline: None, previous: false }).unwrap();
    join(&mut cluster, leader);
    administer(&mut cluster, leader, drain("n1")).unwrap();
    run_until(&mut cluster, "the new one has a replica", |cluster| replicas(cluster).contains(&NEW.0));
    administer(&mut cluster, leader, to("n1", NodeDuty::Serve)).unwrap();
    assert_eq!(administer(&mut cluster, leader, Ask::Abort { shard: SHARD }), Ok(Answer::Done));
    run_until(&mut cluster, "nothing is left of it", |cluster| replicas(cluster) == [1, 2, 3]);
    assert_eq!(members(&cluster, NEW), [1, 2, 3]);
    assert!(is_found(&mut cluster, NEW, "k"));
}
