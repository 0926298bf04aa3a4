//! Nodes that greet each other: who agrees with whom on the cluster, who is refused, and what is written before what is said.

use std::collections::BTreeMap;

use kv::{ClusterId, NodeId};

use super::*;

mod copies;
mod members;
mod newcomers;

/// A node and what its folder keeps.
#[derive(Clone)]
struct Node {
    greeter: Greeter,
    identity: Identity,
    known: Lives,
    /// The folder takes nothing.
    full: bool,
}

const NAMES: [&str; 3] = ["n1", "n2", "n3"];

fn start(name: &str, names: &[&str]) -> Start {
    Start {
        name: name.into(),
        names: names.iter().map(|name| name.to_string()).collect(),
        terms: "shards=1".into(),
        zone: String::new(),
    }
}

/// The folder of a node of three, of this incarnation.
fn folder(name: &str, incarnation: u64) -> Identity {
    let mut numbers = [incarnation, process(), 0, 0xc1 + incarnation].into_iter();
    Identity::new(&start(name, &NAMES), &mut || numbers.next().unwrap())
}

/// The random number of a new process.
fn process() -> u64 {
    thread_local! { static NEXT: std::cell::Cell<u64> = const { std::cell::Cell::new(1) } }
    NEXT.with(|next| next.replace(next.get() + 1))
}

/// The nodes that a folder's cluster was founded with.
fn founders(identity: &Identity) -> Nodes {
    let member = |(id, name): &(NodeId, String)| {
        (*id, Member { name: name.clone(), address: format!("{name}:7421"), incarnation: 0 })
    };
    let members: BTreeMap<NodeId, Member> = identity.founders.iter().map(member).collect();
    let next = NodeId(1 + members.keys().next_back().unwrap().0);
    Nodes { revision: Nodes::FOUNDING, members, next }
}

impl Node {
    fn new(name: &str, incarnation: u64) -> Node {
        Node::of(folder(name, incarnation))
    }

    fn of(identity: Identity) -> Node {
        let (known, nodes) = (Lives::new(), founders(&identity));
        Node { greeter: Greeter::new(identity.clone(), known.clone(), nodes), identity, known, full: false }
    }

    /// The process ends, and another begins from the folder.
    fn restart(&mut self) {
        self.identity = self.identity.started(&mut process);
        let nodes = self.greeter.nodes().clone();
        self.greeter = Greeter::new(self.identity.clone(), self.known.clone(), nodes);
    }

    /// Asks until it is decided; `None` = the folder is full.
    fn decide<T>(&mut self, ask: impl Fn(&mut Greeter) -> Step<T>) -> Option<T> {
        loop {
            match ask(&mut self.greeter) {
                Step::Say(said) => return Some(said),
                Step::Write(_) if self.full => return None,
                Step::Write(write) => {
                    match write.kept.clone() {
                        Kept::Identity(identity) => self.identity = *identity,
                        Kept::Lives(known) => self.known = known,
                    }
                    self.greeter.written(write);
                }
            }
        }
    }

    fn me(&self) -> NodeId {
        self.identity.me
    }

    fn cluster(&self) -> Option<ClusterId> {
        self.greeter.identity().cluster
    }
}

/// One calls another, which answers.
fn answer(caller: &Node, called: &mut Node) -> Option<Welcome> {
    let hello = caller.greeter.hello(called.me(), Purpose::Ordered);
    called.decide(|greeter| greeter.answer(&hello))
}

/// One calls another: what it comes to for the caller.
fn call(caller: &mut Node, called: &mut Node) -> Met {
    let welcome = answer(caller, called).unwrap();
    caller.decide(|greeter| greeter.meet(called.me(), &welcome)).unwrap()
}

fn is_welcome(at: &mut Node, who: &Node) -> bool {
    matches!(answer(who, at), Some(Welcome::Yes { .. }))
}

fn three() -> [Node; 3] {
    [("n1", 11), ("n2", 21), ("n3", 31)].map(|(name, incarnation)| Node::new(name, incarnation))
}

#[test]
fn ids_are_given_by_name_at_the_founding_and_kept_whatever_the_names() {
    let names = ["zoe", "adam", "mia"];
    let ids: Vec<(NodeId, String)> =
        [(1, "adam"), (2, "mia"), (3, "zoe")].map(|(id, name)| (NodeId(id), name.into())).to_vec();
    for name in names {
        let mut random = 0..;
        let identity = Identity::new(&start(name, &names), &mut || random.next().unwrap_or_default());
        assert_eq!((identity.name.as_str(), &identity.founders), (name, &ids));
        assert_eq!(identity.cluster.is_some(), name == "adam", "the founder alone draws the cluster");
    }
    // What a folder says counts, not where a name stands.
    let given = vec![(NodeId(7), "n2".to_owned()), (NodeId(5), "n1".to_owned())];
    let of = |me, incarnation| Identity {
        me: NodeId(me),
        name: if me == 7 { "n2".into() } else { "n1".into() },
        founders: given.clone(),
        ..folder("n1", incarnation)
    };
    let (mut two, mut one) = (Node::of(of(7, 9)), Node::of(Identity { cluster: None, ..of(5, 3) }));
    assert_eq!(call(&mut one, &mut two), Met::Ours);
    assert_eq!(one.known, [(NodeId(7), two.identity.lineage.life)].into());
    assert_eq!(two.known, [(NodeId(5), one.identity.lineage.life)].into());
}

#[test]
fn node_founded_with_others_or_under_other_ids_is_a_stranger() {
    let mut one = Node::new("n1", 1);
    let of = |me, founders: &[(u64, &str)]| {
        let founders = founders.iter().map(|(id, name)| (NodeId(*id), name.to_string())).collect();
        Node::of(Identity { me: NodeId(me), founders, ..folder("n2", 2) })
    };
    for other in [of(3, &[(1, "n1"), (3, "n2"), (2, "n3")]), of(2, &[(1, "n1"), (2, "n2")])] {
        let why = answer(&other, &mut one);
        assert!(
            matches!(why, Some(Welcome::Stranger(why)) if why.contains("n2,") || why.contains("(1:n1,2:n2)"))
        );
        assert!(!is_welcome(&mut other.clone(), &one));
    }
    assert!(is_welcome(&mut one, &of(2, &[(1, "n1"), (2, "n2"), (3, "n3")])));
}

#[test]
fn cluster_id_comes_from_the_founder_by_whoever_calls() {
    let [mut one, mut two, mut three] = three();
    let id = one.cluster().unwrap();
    assert_eq!((two.cluster(), three.cluster()), (None, None));
    // Those who have none part, and say whom they wait for.
    let waits = Met::NotNow("n3 waits for n1, which founds the cluster".into());
    assert_eq!(call(&mut two, &mut three), waits);
    assert_eq!((two.cluster(), three.cluster()), (None, None));
    // The founder calls; and one that took it from the founder is called.
    assert_eq!(call(&mut one, &mut two), Met::Ours);
    assert_eq!(call(&mut three, &mut two), Met::Ours);
    for node in [&mut two, &mut three] {
        assert_eq!(node.identity.cluster, Some(id), "it is on disk before a frame flows");
        node.restart();
        assert_eq!(node.cluster(), Some(id));
    }
}

#[test]
fn cluster_of_one_founds_itself() {
    let mut random = [9, 1, 0, 5].into_iter();
    let alone = Identity::new(&start("n7", &[]), &mut || random.next().unwrap());
    assert_eq!((alone.me, alone.cluster), (NodeId(1), ClusterId::new(5)), "0 is no cluster");
}

#[test]
fn cluster_is_acted_on_when_it_is_written() {
    let [mut one, mut two, _] = three();
    let hello = one.greeter.hello(two.me(), Purpose::Ordered);
    let before = two.greeter.hello(one.me(), Purpose::Bulk);
    two.full = true;
    assert_eq!(two.decide(|greeter| greeter.answer(&hello)), None);
    assert_eq!(two.greeter.hello(one.me(), Purpose::Bulk), before, "a failed write leaves it as it was");
    // It is written, and then the next cannot be: what is written counts, and nothing was said.
    let Step::Write(write) = two.greeter.answer(&hello) else { panic!("it is not on disk") };
    two.greeter.written(write);
    assert_eq!(two.cluster(), one.cluster());
    assert!(matches!(two.greeter.answer(&hello), Step::Write(Write { kept: Kept::Lives(_), .. })));
    two.full = false;
    assert_eq!(call(&mut one, &mut two), Met::Ours);

    // The same for who calls.
    let [mut one, mut two, _] = self::three();
    two.full = true;
    let welcome = answer(&two, &mut one).unwrap();
    assert_eq!(two.decide(|greeter| greeter.meet(NodeId(1), &welcome)), None);
    assert_eq!((two.cluster(), two.known.len()), (None, 0));
}

#[test]
#[should_panic(expected = "the id of a cluster never changes")]
fn cluster_that_is_written_never_changes() {
    let mut one = Node::new("n1", 1).greeter;
    let other = Identity { cluster: ClusterId::new(7), ..one.identity().clone() };
    one.written(Write { kept: Kept::Identity(Box::new(other)), what: "" });
}

#[test]
fn cluster_met_by_a_stranger_goes_on_and_the_stranger_is_refused() {
    let cluster = |base: u64| {
        let mut nodes = [1, 2, 3].map(|id| Node::new(NAMES[id - 1], base + 2 * id as u64));
        let [one, two, three] = &mut nodes;
        assert!(call(one, two) == Met::Ours && call(one, three) == Met::Ours);
        nodes
    };
    let (mut ours, mut theirs) = (cluster(100), cluster(200));
    // Their n3 answers where our n3 should: our nodes try on, whoever calls.
    for _ in 0..3 {
        let Met::NotNow(why) = call(&mut ours[0], &mut theirs[2]) else {
            panic!("one stranger ends no node")
        };
        assert!(why.contains("is of another cluster"), "{why}");
        let Met::NotNow(why) = call(&mut theirs[2], &mut ours[0]) else {
            panic!("one stranger ends no node")
        };
        assert!(why.contains("--peers"), "{why}");
    }
    // One that finds strangers only is where it should not be.
    assert!(matches!(call(&mut theirs[2], &mut ours[1]), Met::Hopeless(_)));
    let [one, _, three] = &mut ours;
    assert_eq!(call(one, three), Met::Ours);
}

#[test]
fn node_of_other_options_ends_as_long_as_it_has_no_place() {
    let [mut one, mut two, _] = three();
    assert_eq!(call(&mut one, &mut two), Met::Ours);
    let mut three = Node::of(Identity { terms: "shards=7".into(), ..folder("n3", 5) });
    assert!(
        matches!(call(&mut one, &mut three), Met::NotNow(why) if why.contains("was given other options"))
    );
    assert!(
        matches!(call(&mut three, &mut one), Met::Hopeless(why) if why.contains("was given other options"))
    );
    assert_eq!(three.cluster(), None);
}

#[test]
fn call_that_reaches_another_node_is_refused_and_names_both() {
    let [mut one, mut two, mut three] = three();
    assert_eq!(call(&mut one, &mut two), Met::Ours);
    let hello = one.greeter.hello(three.me(), Purpose::Ordered);
    let Some(Welcome::Stranger(why)) = two.decide(|greeter| greeter.answer(&hello)) else {
        panic!("what is sent to the third must not come to the second")
    };
    assert!(why.contains("node n1 calls node n3 and finds node n2") && why.contains("--peers"), "{why}");
    assert_eq!(call(&mut one, &mut three), Met::Ours);
}

#[test]
fn founder_that_was_wiped_is_refused_with_what_to_do() {
    let [mut one, mut two, mut three] = three();
    let id = one.cluster();
    assert_eq!(call(&mut one, &mut two), Met::Ours);
    // The third never met the founder.
    assert_eq!(call(&mut two, &mut three), Met::Ours);
    let mut wiped = Node::new("n1", 13);
    for other in [&mut two, &mut three] {
        assert!(matches!(call(other, &mut wiped), Met::NotNow(_)));
        let Met::Hopeless(why) = call(&mut wiped, other) else { panic!("it has forgotten what it promised") };
        assert!(why.contains("another data folder") && why.contains("capstan cluster replace n1"), "{why}");
    }
    assert_eq!((two.cluster(), three.cluster()), (id, id));
    assert!(
        call(&mut one, &mut three) == Met::Ours && call(&mut two, &mut one) == Met::Ours,
        "with its own folder"
    );
}

#[test]
fn founder_that_was_wiped_ends_nobody_else() {
    let of_two = |name, incarnation: u64| {
        let mut random = [incarnation, process(), 0xd0 + incarnation].into_iter();
        Node::of(Identity::new(&start(name, &NAMES[..2]), &mut || random.next().unwrap()))
    };
    let (mut one, mut two) = (of_two("n1", 11), of_two("n2", 21));
    assert_eq!(call(&mut one, &mut two), Met::Ours);
    // One stranger of two leaves no majority: yet the one that has met nobody is the one that is wrong.
    let mut wiped = of_two("n1", 13);
    assert!(matches!(call(&mut two, &mut wiped), Met::NotNow(why) if why.contains("another cluster")));
    assert!(matches!(call(&mut wiped, &mut two), Met::Hopeless(_)));
}

#[test]
fn hello_of_another_folder_is_refused_as_often_as_it_comes() {
    let [mut one, mut two, mut three] = three();
    assert_eq!(call(&mut one, &mut three), Met::Ours);
    assert!(is_welcome(&mut one, &two) && is_welcome(&mut three, &two));
    let mut wiped = Node::new("n2", 23);
    for _ in 0..2 {
        let Some(Welcome::No(Refusal { why, .. })) = answer(&wiped, &mut one) else {
            panic!("it has forgotten its promises")
        };
        assert!(
            why.starts_with("node n2 comes with another data folder than the one it was known under"),
            "{why}"
        );
        assert!(!is_welcome(&mut three, &wiped));
        wiped.restart();
    }
    assert!(call(&mut two, &mut one) == Met::Ours && call(&mut two, &mut three) == Met::Ours);
}

#[test]
fn what_becomes_of_a_node_is_written_once() {
    let mut one = Node::new("n1", 1);
    assert!(matches!(one.greeter.log_begins(), Step::Write(_)));
    one.full = true;
    assert_eq!(one.decide(Greeter::log_begins), None);
    assert!(!one.greeter.identity().begun);
    one.full = false;
    assert_eq!(one.decide(Greeter::log_begins), Some(()));
    assert!(one.identity.begun);
    assert_eq!(one.greeter.log_begins(), Step::Say(()));
}
