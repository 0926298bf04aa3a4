//! Nodes that greet each other, in one process: who agrees with whom on the cluster.

use std::path::Path;

use super::*;

/// Nodes of clusters, each in a folder of its own.
struct Nodes(tempfile::TempDir);

impl Nodes {
    fn new() -> Nodes {
        Nodes(tempfile::tempdir().unwrap())
    }

    fn config(&self, folder: &str, name: &str, names: &[&str], rejoin: bool) -> crate::Config {
        crate::Config {
            name: name.into(),
            data: self.0.path().join(folder),
            listen: String::new(),
            advertise: None,
            peers: names.iter().map(|name| (name.to_string(), String::new())).collect(),
            engine: storage::Kind::Memory,
            history: storage::History::All,
            deleted_micros: u64::MAX,
            shards: 1,
            cores: None,
            entry_cache_bytes: 0,
            checkpoint_bytes: crate::Config::CHECKPOINT_BYTES,
            rejoin,
            journal_stderr: false,
        }
    }

    /// Node `name` of these, in a folder of its own.
    fn open_of(&self, names: &[&str], folder: &str, name: &str, rejoin: bool) -> Identities {
        let me = names.iter().position(|other| *other == name).unwrap() as u64 + 1;
        let folder = Folder::open(&self.config(folder, name, names, rejoin)).unwrap();
        Identities::new(folder, NodeId(me)).unwrap()
    }

    /// Node `name` of three.
    fn open(&self, folder: &str, name: &str, rejoin: bool) -> Identities {
        self.open_of(&["n1", "n2", "n3"], folder, name, rejoin)
    }

    /// What a folder says of its cluster.
    fn written(&self, folder: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.0.path().join(folder).join("identity.json")).unwrap();
        let identity: serde_json::Value = serde_json::from_str(&text).unwrap();
        identity["cluster"].as_str().map(str::to_owned)
    }
}

fn cluster(node: &Identities) -> Option<ClusterId> {
    *node.cluster().borrow()
}

/// One calls another: what it comes to for the caller.
fn call(caller: &Identities, called: &Identities) -> Met {
    let welcome = called.answer(&caller.hello(Purpose::Ordered)).unwrap();
    caller.meet(called.me, welcome).unwrap()
}

fn is_welcome(at: &Identities, who: &Identities) -> bool {
    matches!(at.answer(&who.hello(Purpose::Ordered)).unwrap(), Welcome::Yes { .. })
}

#[test]
fn cluster_id_comes_from_the_founder_by_whoever_calls() {
    let nodes = Nodes::new();
    let (one, two, three) =
        (nodes.open("1", "n1", false), nodes.open("2", "n2", false), nodes.open("3", "n3", false));
    let id = cluster(&one).unwrap();
    assert_eq!((cluster(&two), cluster(&three)), (None, None));
    // Those who have none part, and say whom they wait for.
    let waits = Met::NotNow("n3 waits for n1, which founds the cluster".into());
    assert_eq!(call(&two, &three), waits);
    assert_eq!((cluster(&two), cluster(&three)), (None, None));
    // The founder calls; and one that took it from the founder is called.
    assert_eq!(call(&one, &two), Met::Ours);
    assert_eq!(call(&three, &two), Met::Ours);
    for (node, folder) in [(&two, "2"), (&three, "3")] {
        assert_eq!(cluster(node), Some(id));
        assert_eq!(nodes.written(folder), Some(id.to_string()), "it is on disk before a frame flows");
    }
    drop(three);
    assert_eq!(cluster(&nodes.open("3", "n3", false)), Some(id), "the next start knows it");
}

#[test]
fn cluster_of_one_founds_itself() {
    let nodes = Nodes::new();
    let id = cluster(&nodes.open_of(&["n7"], "7", "n7", false));
    assert!(id.is_some());
    assert_eq!(cluster(&nodes.open_of(&["n7"], "7", "n7", false)), id);
    assert_ne!(cluster(&nodes.open_of(&["n7"], "other", "n7", false)), id, "it is drawn, not derived");
}

#[test]
fn cluster_met_by_a_stranger_goes_on_and_the_stranger_is_told() {
    let nodes = Nodes::new();
    let all =
        |cluster: &str| ["n1", "n2", "n3"].map(|name| nodes.open(&format!("{cluster} {name}"), name, false));
    let (ours, theirs) = (all("ours"), all("theirs"));
    for cluster in [&ours, &theirs] {
        assert!(call(&cluster[0], &cluster[1]) == Met::Ours && call(&cluster[0], &cluster[2]) == Met::Ours);
    }
    // Their n3 answers where our n3 should: our nodes try on, whoever calls.
    for _ in 0..3 {
        let Met::NotNow(why) = call(&ours[0], &theirs[2]) else { panic!("one stranger does not end a node") };
        assert!(why.contains("is of another cluster"), "{why}");
        let Met::NotNow(why) = call(&theirs[2], &ours[0]) else { panic!("one stranger does not end a node") };
        assert!(why.contains("--peers"), "{why}");
    }
    // One that finds strangers only is where it should not be.
    assert!(matches!(call(&theirs[2], &ours[1]), Met::Hopeless(_)));
    assert_eq!(call(&ours[0], &ours[2]), Met::Ours);
}

#[test]
fn node_of_other_options_ends_as_long_as_it_has_no_place() {
    let nodes = Nodes::new();
    let (one, two) = (nodes.open("1", "n1", false), nodes.open("2", "n2", false));
    assert_eq!(call(&one, &two), Met::Ours);
    let config = crate::Config { shards: 7, ..nodes.config("3", "n3", &["n1", "n2", "n3"], false) };
    let three = Identities::new(Folder::open(&config).unwrap(), NodeId(3)).unwrap();
    assert!(matches!(call(&one, &three), Met::NotNow(why) if why.contains("was given other options")));
    assert!(matches!(call(&three, &one), Met::Hopeless(why) if why.contains("was given other options")));
    assert_eq!(cluster(&three), None);
}

#[test]
fn founder_that_was_wiped_is_refused_and_comes_back_by_rejoining() {
    let nodes = Nodes::new();
    let (one, two, three) =
        (nodes.open("1", "n1", false), nodes.open("2", "n2", false), nodes.open("3", "n3", false));
    let id = cluster(&one);
    assert_eq!(call(&one, &two), Met::Ours);
    // The third never met the founder.
    assert_eq!(call(&two, &three), Met::Ours);
    let wiped = nodes.open("1 wiped", "n1", false);
    for other in [&two, &three] {
        assert!(matches!(call(other, &wiped), Met::NotNow(_)));
        let Met::Hopeless(why) = call(&wiped, other) else { panic!("it has forgotten what it promised") };
        assert!(why.contains("another data folder") && why.contains("--rejoin"), "{why}");
    }
    let back = nodes.open("1 back", "n1", true);
    assert_eq!(cluster(&back), None, "the cluster is there already");
    assert_eq!(call(&back, &three), Met::Ours);
    assert_eq!((cluster(&back), cluster(&two)), (id, id));
}

#[test]
fn hello_of_another_folder_is_refused_unless_it_is_a_newcomer_until_all_have_met_it() {
    let nodes = Nodes::new();
    let (one, three) = (nodes.open("1", "n1", false), nodes.open("3", "n3", false));
    let lost = nodes.open("2", "n2", false);
    assert_eq!(call(&one, &three), Met::Ours);
    assert!(is_welcome(&one, &lost) && is_welcome(&three, &lost));
    let wiped = nodes.open("2 wiped", "n2", false);
    assert!(!is_welcome(&one, &wiped) && !is_welcome(&three, &wiped));

    // It is made whole while the third node is away, and started once more.
    let new = nodes.open("2 new", "n2", true);
    assert_eq!(call(&new, &one), Met::Ours);
    new.rejoined().unwrap();
    drop(new);
    let new = nodes.open("2 new", "n2", false);
    assert!(!new.fixed().rejoining && is_welcome(&three, &new), "it is no other than the first met");
    assert!(call(&new, &one) == Met::Ours && call(&new, &three) == Met::Ours);
    drop(new);
    let new = nodes.open("2 new", "n2", false);
    assert!(!new.hello(Purpose::Ordered).newcomer && is_welcome(&one, &new) && is_welcome(&three, &new));
    assert!(!is_welcome(&three, &lost), "the lost folder must not come back");
}

#[test]
fn folder_of_another_format_is_refused_with_what_to_do() {
    let nodes = Nodes::new();
    drop(nodes.open("1", "n1", false));
    let file = nodes.0.path().join("1/identity.json");
    // The identity of the format before has fewer fields as well.
    std::fs::write(&file, r#"{"format": 1, "name": "n1", "incarnation": 9, "nodes": ["n1", "n2", "n3"]}"#)
        .unwrap();
    let refused = Folder::open(&nodes.config("1", "n1", &["n1", "n2", "n3"], false)).unwrap_err().to_string();
    assert!(refused.contains("has format 1") && refused.contains("putall --json"), "{refused}");
}

fn refused(nodes: &Nodes, folder: &str) -> String {
    Folder::open(&nodes.config(folder, "n1", &["n1"], false)).unwrap_err().to_string()
}

fn remove_log(folder: &Path) {
    std::fs::remove_dir_all(folder.join("log")).unwrap();
}

#[test]
fn folder_whose_log_has_begun_and_is_gone_is_refused() {
    let nodes = Nodes::new();
    let folder = nodes.0.path().join("1");
    let one = nodes.open_of(&["n1"], "1", "n1", false);
    std::fs::create_dir(folder.join("log")).unwrap();
    std::fs::write(folder.join("log/0000000000000001.log"), "").unwrap();
    drop(one);
    remove_log(&folder);
    let one = nodes.open_of(&["n1"], "1", "n1", false);
    one.log_begins().unwrap();
    drop(one);
    for empty in [false, true] {
        if empty {
            std::fs::create_dir(folder.join("log")).unwrap();
        }
        let why = refused(&nodes, "1");
        assert!(why.contains("is lost") && why.contains("restore the whole data folder"), "{why}");
    }
}

#[test]
fn folder_with_an_engine_and_no_identity_is_refused() {
    let nodes = Nodes::new();
    std::fs::create_dir_all(nodes.0.path().join("1/engine")).unwrap();
    let why = refused(&nodes, "1");
    assert!(why.contains("has a folder 'engine' and no identity.json"), "{why}");
}
