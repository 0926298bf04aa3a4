//! What the decisions leave in real data folders, and which folders are refused.

use std::path::Path;

use kv::Protocol;
use placement::{Founder, Founding};

use super::*;
use crate::folder::Opened;

/// The folder of a node that has an id.
fn open(config: &crate::Config) -> Result<Folder, crate::Failure> {
    match Opened::open(config)? {
        Opened::Node(folder) => Ok(folder),
        Opened::Joining(joining) => panic!("it has an id: {joining:?}"),
    }
}

/// Folders of clusters, each in a folder of its own.
struct Folders(tempfile::TempDir);

const NAMES: [&str; 3] = ["n1", "n2", "n3"];

impl Folders {
    fn new() -> Folders {
        Folders(tempfile::tempdir().unwrap())
    }

    fn config(&self, folder: &str, name: &str, names: &[&str]) -> crate::Config {
        crate::Config {
            name: name.into(),
            data: Some(self.0.path().join(folder)),
            listen: Vec::new(),
            peers: names.iter().map(|name| (name.to_string(), String::new())).collect(),
            join: Vec::new(),
            advertise_peer: None,
            listen_peer: None,
            zone: None,
            engine: storage::Kind::Memory,
            history: Some(storage::History::All),
            deleted_micros: Some(u64::MAX),
            shards: Some(1),
            replicas: None,
            cores: None,
            entry_cache_bytes: 0,
            checkpoint_bytes: crate::Config::CHECKPOINT_BYTES,
            protocol: None,
            weighed: None,
            lab: false,
            by_zones: false,
            ends_when_left: false,
            bus: Default::default(),
            moves: crate::Moves::default(),
            stderr: crate::Stderr::Nothing,
        }
    }

    /// Node `name` of these, in a folder of its own.
    fn open_of(&self, names: &[&str], folder: &str, name: &str) -> Identities {
        let folder = open(&self.config(folder, name, names)).unwrap();
        let founder = |(_, name): &(NodeId, String)| Founder { name: name.clone(), peer: String::new() };
        let nodes: Vec<Founder> = folder.identity().founders.iter().map(founder).collect();
        let (replicas, protocol) = (nodes.len() as u16, Protocol::Raft);
        let map = Map::founding(&Founding { cluster: None, nodes, shards: 1, replicas, protocol });
        Identities::new(folder, &map, Places::new(&[], &map)).unwrap()
    }

    /// Node `name` of three, in a folder of its name.
    fn open(&self, name: &str) -> Identities {
        self.open_of(&NAMES, name, name)
    }

    fn read(&self, folder: &str, file: &str) -> serde_json::Value {
        let text = std::fs::read_to_string(self.0.path().join(folder).join(file)).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// Why a start of `n1` in a folder is refused.
    fn refused(&self, folder: &str, names: &[&str]) -> String {
        let opened = open(&self.config(folder, "n1", names)).and_then(|folder| folder.lives());
        opened.expect_err("it must not start").to_string()
    }
}

fn cluster(node: &Identities) -> Option<ClusterId> {
    *node.cluster().borrow()
}

/// One calls another: what it comes to for the caller.
fn call(caller: &Identities, called: &Identities) -> Met {
    let to = called.folder.identity().me;
    let welcome = called.answer(&caller.hello(to, Purpose::Ordered)).unwrap();
    caller.meet(to, &welcome).unwrap()
}

#[test]
fn folder_keeps_what_was_agreed_on_and_who_was_met() {
    let nodes = Folders::new();
    let (one, two) = (nodes.open("n1"), nodes.open("n2"));
    let id = cluster(&one).unwrap();
    assert_eq!(nodes.read("n2", "identity.json")["cluster"], serde_json::Value::Null);
    let mut told = two.cluster();
    assert_eq!(call(&two, &one), Met::Ours);
    assert!(told.has_changed().unwrap() && *told.borrow_and_update() == Some(id));
    two.log_begins().unwrap();
    assert!(!told.has_changed().unwrap());
    let life = |name: &str| {
        let own = nodes.read(name, "identity.json");
        (own["incarnation"].clone(), own["process"].clone())
    };
    let listed = |id, name| serde_json::json!({ "id": id, "name": name });
    let expect = serde_json::json!({
        "format": 5,
        "id": 2,
        "name": "n2",
        "cluster": id.to_string(),
        "incarnation": life("n2").0,
        "starts": 1,
        "process": life("n2").1,
        "earlier": [],
        "founders": [listed(1, "n1"), listed(2, "n2"), listed(3, "n3")],
        "shards": 1,
        "replicas": 3,
        "history": "all",
        "deleted_micros": u64::MAX,
        "engine": "memory",
        "zone": "",
        "begun": true,
        "copy": null,
        "gone": null,
    });
    assert_eq!(nodes.read("n2", "identity.json"), expect);
    let (incarnation, process) = life("n1");
    let met = serde_json::json!({ "id": 1, "incarnation": incarnation, "starts": 1, "process": process });
    let expect = serde_json::json!({ "format": 2, "nodes": [met] });
    assert_eq!(nodes.read("n2", "peers.json"), expect);
    let first = life("n2").1;
    drop((one, two));
    let log = nodes.0.path().join("n2/log");
    std::fs::create_dir(&log).unwrap();
    std::fs::write(log.join("0000000000000001.log"), "").unwrap();
    let again = nodes.open("n2");
    assert_eq!(cluster(&again), Some(id));
    assert_eq!(nodes.read("n2", "identity.json")["starts"], 2, "it counts before anything is said");
    assert_eq!(nodes.read("n2", "identity.json")["earlier"], serde_json::json!([first]));
    assert!(
        matches!(again.decide(|greeter| Step::Say(greeter.clone())), Ok(greeter) if greeter.identity().begun)
    );
}

#[test]
fn folder_gives_the_ids_and_not_the_order_of_names() {
    let nodes = Folders::new();
    drop(nodes.open("n1"));
    let file = nodes.0.path().join("n1/identity.json");
    let mut written = nodes.read("n1", "identity.json");
    written["id"] = 70.into();
    written["founders"][0]["id"] = 70.into();
    std::fs::write(&file, written.to_string()).unwrap();
    let folder = open(&nodes.config("n1", "n1", &NAMES)).unwrap();
    assert_eq!(folder.identity().me, NodeId(70));
    drop(folder);
    // It has to be one of those that it lists.
    written["id"] = 5.into();
    std::fs::write(&file, written.to_string()).unwrap();
    let why = nodes.refused("n1", &NAMES);
    assert!(why.contains("does not list its own node") && why.contains("restore it from a copy"), "{why}");
}

#[test]
fn folder_that_cannot_be_written_to_leaves_the_node_as_it_was() {
    let nodes = Folders::new();
    let (one, two) = (nodes.open("n1"), nodes.open("n2"));
    let hello = one.hello(NodeId(2), Purpose::Ordered);
    // A folder in the place of the file that is written first.
    let blocked = nodes.0.path().join("n2/identity.new");
    std::fs::create_dir(&blocked).unwrap();
    let error = two.answer(&hello).unwrap_err().to_string();
    assert!(error.starts_with("cannot note in the data folder which cluster this is: "), "{error}");
    assert_eq!(cluster(&two), None);
    std::fs::remove_dir(&blocked).unwrap();
    assert_eq!(call(&one, &two), Met::Ours);
    assert_eq!(cluster(&two), cluster(&one));
}

/// What builds before this one left, the newest last.
const OLD: [(u32, &str); 3] = [
    (1, r#"{"format": 1, "name": "n1", "incarnation": 9, "nodes": ["n1", "n2", "n3"]}"#),
    (2, include_str!("format-2.json")),
    (3, include_str!("format-3.json")),
];

#[test]
fn folder_of_another_format_is_refused_with_what_to_do() {
    let nodes = Folders::new();
    drop(nodes.open("n1"));
    let file = nodes.0.path().join("n1/identity.json");
    for (format, text) in OLD {
        std::fs::write(&file, text).unwrap();
        let why = nodes.refused("n1", &NAMES);
        assert!(why.contains(&format!("has format {format}")) && why.contains("putall --json"), "{why}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text, "it is as it was");
    }
}

#[test]
fn peers_of_another_format_or_damaged_are_refused_with_what_to_do() {
    let nodes = Folders::new();
    drop(nodes.open("n1"));
    let file = nodes.0.path().join("n1/peers.json");
    let peer = |id, incarnation: &str, starts| serde_json::json!({ "id": id, "incarnation": incarnation, "starts": starts, "process": "0000000000000000" });
    let peers = |nodes: &[serde_json::Value]| serde_json::json!({ "format": 2, "nodes": nodes }).to_string();
    let sound = peer(2, "00000000000000a1", 1);
    for (text, says) in [
        (
            r#"{"format": 1, "nodes": [{"id": 2, "name": "", "incarnation": "00000000000000a1"}]}"#.into(),
            "has format 1, and this version of capstan has format 2: start",
        ),
        (r#"{"n2": 5}"#.into(), "is damaged (missing field `format`"),
        (peers(&[peer(0, "00000000000000a1", 1)]), "is damaged (0 is no id of a node): restore"),
        (peers(&[peer(2, "0000000000000000", 1)]), "is damaged (0 is no incarnation): restore"),
        (peers(&[peer(2, "a1", 1)]), "is damaged ('a1' is no number of 16 hexadecimal digits): restore"),
        (
            peers(&[peer(2, "00000000000000a1", 0)]),
            "is damaged (a folder that was never started has nothing): restore",
        ),
        (peers(&[sound.clone(), sound.clone()]), "is damaged (it has node 2 twice): restore"),
    ] {
        std::fs::write(&file, text).unwrap();
        let why = nodes.refused("n1", &NAMES);
        assert!(why.contains(says), "{why}");
    }
    std::fs::write(&file, peers(&[sound])).unwrap();
    drop(nodes.open("n1"));
}

#[test]
fn folder_that_was_refused_as_a_copy_is_not_started_again_and_says_why() {
    let nodes = Folders::new();
    let (two, one) = (nodes.open("n2"), nodes.open("n1"));
    assert_eq!(call(&one, &two), Met::Ours);
    drop(one);
    let kept = |from: &str, to: &str| {
        let (from, to) = (nodes.0.path().join(from), nodes.0.path().join(to));
        std::fs::create_dir_all(&to).unwrap();
        for file in ["identity.json", "peers.json"] {
            std::fs::copy(from.join(file), to.join(file)).unwrap();
        }
    };
    kept("n1", "copy");
    let one = nodes.open("n1");
    assert_eq!(call(&one, &two), Met::Ours);
    let copy = nodes.open_of(&NAMES, "copy", "n1");
    let Met::Hopeless(why) = call(&copy, &two) else { panic!("the other one was met first") };
    drop(copy);
    for _ in 0..2 {
        let again = nodes.refused("copy", &NAMES);
        assert!(again.ends_with(&format!("/copy must not be started again: {why}")), "{again}");
    }
    assert_eq!(call(&one, &two), Met::Ours);
}

#[test]
fn folder_of_a_node_that_has_left_is_not_started_again_and_says_why() {
    let nodes = Folders::new();
    let (one, three) = (nodes.open("n1"), nodes.open("n3"));
    assert_eq!(call(&one, &three), Met::Ours);
    let without = Nodes { revision: 5, ..one.nodes().borrow().clone() };
    let members = without.members.into_iter().filter(|(id, _)| *id != NodeId(1)).collect();
    three.greeter().set_nodes(Nodes { revision: 5, members, next: NodeId(4) });
    let mut left = one.left();
    let Met::Left(why) = call(&one, &three) else { panic!("it is no member") };
    assert!(*left.borrow_and_update());
    drop(one);
    let again = nodes.refused("n1", &NAMES);
    assert!(again.ends_with(&format!("/n1 must not be started again: {why}")), "{again}");
}

fn remove_log(folder: &Path) {
    std::fs::remove_dir_all(folder.join("log")).unwrap();
}

#[test]
fn folder_whose_log_has_begun_and_is_gone_is_refused() {
    let nodes = Folders::new();
    let folder = nodes.0.path().join("1");
    let one = nodes.open_of(&["n1"], "1", "n1");
    std::fs::create_dir(folder.join("log")).unwrap();
    std::fs::write(folder.join("log/0000000000000001.log"), "").unwrap();
    drop(one);
    remove_log(&folder);
    let one = nodes.open_of(&["n1"], "1", "n1");
    one.log_begins().unwrap();
    drop(one);
    for empty in [false, true] {
        if empty {
            std::fs::create_dir(folder.join("log")).unwrap();
        }
        let why = nodes.refused("1", &["n1"]);
        assert!(why.contains("is lost") && why.contains("restore the whole data folder"), "{why}");
    }
}

#[test]
fn folder_with_an_engine_and_no_identity_is_refused() {
    let nodes = Folders::new();
    std::fs::create_dir_all(nodes.0.path().join("1/engine")).unwrap();
    let why = nodes.refused("1", &["n1"]);
    assert!(why.contains("has a folder 'engine' and no identity.json"), "{why}");
}

/// The folder of a node that has no id yet.
fn joining(config: &crate::Config) -> crate::folder::Joining {
    match Opened::open(config) {
        Ok(Opened::Joining(joining)) => joining,
        other => panic!("it has no id yet: {other:?}"),
    }
}

#[test]
fn folder_of_a_node_that_joins_keeps_its_incarnation_until_it_is_given_an_id_and_then_that() {
    let nodes = Folders::new();
    let to_join = crate::Config {
        join: vec!["127.0.0.1:7401".into()],
        listen_peer: Some("127.0.0.1:7421".into()),
        shards: None,
        history: None,
        ..nodes.config("n4", "n4", &[])
    };
    let first = joining(&to_join).joiner().lineage.life;
    let written = nodes.read("n4", "identity.json");
    assert_eq!((&written["id"], &written["cluster"]), (&serde_json::Value::Null, &serde_json::Value::Null));
    // Killed before it was answered: the cluster knows it again.
    let again = joining(&to_join);
    let life = again.joiner().lineage.life;
    assert_eq!((life.incarnation, life.starts), (first.incarnation, 2));
    let terms = kv::cluster::Terms { shards: 9, replicas: 1, history: None, deleted_micros: u64::MAX };
    let given = again.joined(NodeId(4), ClusterId::new(7).unwrap(), terms).unwrap();
    assert_eq!((given.identity().me, given.terms(), given.identity().begun), (NodeId(4), terms, false));
    drop(given);

    // From then on it needs to be told nothing of that, but nothing else either.
    for config in [to_join.clone(), nodes.config("n4", "n4", &[]), nodes.config("n4", "n4", &NAMES)] {
        let config = crate::Config { shards: None, history: None, ..config };
        let folder = open(&config).unwrap();
        let own = folder.identity();
        assert_eq!(
            (own.me, own.cluster, own.lineage.life.incarnation),
            (NodeId(4), ClusterId::new(7), first.incarnation)
        );
        assert_eq!((folder.terms(), own.terms.clone()), (terms, terms.to_string()));
    }
    let others = crate::Config { shards: Some(1), ..to_join };
    let why = open(&others).unwrap_err().to_string();
    assert!(why.contains("was made with --shards 9, and this start says 1"), "{why}");
}

#[test]
fn folder_of_a_node_that_has_no_id_yet_founds_nothing() {
    let nodes = Folders::new();
    let to_join = crate::Config { join: vec!["127.0.0.1:7401".into()], ..nodes.config("n1", "n1", &[]) };
    let why = Opened::open(&to_join).unwrap_err().to_string();
    assert!(why.contains("say where by --listen-peer HOST:PORT"), "{why}");
    let to_join = crate::Config { listen_peer: Some("127.0.0.1:7421".into()), ..to_join };
    drop(joining(&to_join));
    for names in [&NAMES[..], &[]] {
        let why = nodes.refused("n1", names);
        assert!(why.contains("was to join a cluster") && why.contains("--join HOST:PORT"), "{why}");
    }
    let other = crate::Config { name: "n9".into(), ..to_join };
    let why = Opened::open(&other).unwrap_err().to_string();
    assert!(why.contains("with the node name n1, and this start says n9"), "{why}");
}

#[test]
fn folder_of_the_format_before_is_opened_unless_its_node_was_not_whole() {
    let nodes = Folders::new();
    drop(nodes.open("n1"));
    let file = nodes.0.path().join("n1/identity.json");
    let mut before = nodes.read("n1", "identity.json");
    before["format"] = 4.into();
    before["newcomer"] = false.into();
    for (rejoining, opens) in [(true, false), (false, true)] {
        before["rejoining"] = rejoining.into();
        std::fs::write(&file, before.to_string()).unwrap();
        match opens {
            true => drop(nodes.open("n1")),
            false => assert!(nodes.refused("n1", &NAMES).contains("capstan cluster replace n1")),
        }
    }
    assert_eq!(nodes.read("n1", "identity.json")["format"], 5);
}

#[test]
fn folder_of_a_founder_needs_no_list_of_the_others_later_and_takes_no_other_one() {
    let nodes = Folders::new();
    drop(nodes.open("n1"));
    assert!(open(&nodes.config("n1", "n1", &[])).is_ok());
    let why = nodes.refused("n1", &["n1", "n2", "n3", "n4"]);
    assert!(why.contains("was founded with the nodes n1,n2,n3") && why.contains("with --join"), "{why}");
}
