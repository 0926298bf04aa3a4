//! The nodes that there are, from a map that changes: who is let in, who is not yet, and who not any more.

use super::*;

/// The map after the founding: these ids are given, and those in `members` are the nodes' now.
fn map(revision: u64, given: u64, members: &[u64]) -> Nodes {
    let member = |&id: &u64| {
        let (name, address) = (format!("n{id}"), format!("n{id}:7421"));
        (NodeId(id), Member { name, address, incarnation: 0 })
    };
    Nodes { revision, members: members.iter().map(member).collect(), next: NodeId(given + 1) }
}

/// A node that joined later, with an id of its own and the map of then.
fn joined(id: u64, one: &Node, nodes: Nodes) -> Node {
    let identity = Identity {
        me: NodeId(id),
        name: format!("n{id}"),
        founders: Vec::new(),
        cluster: one.cluster(),
        ..folder("n2", 100 + id)
    };
    let greeter = Greeter::new(identity.clone(), Lives::new(), nodes);
    Node { greeter, identity, known: Lives::new(), full: false }
}

#[test]
fn node_that_joined_is_unknown_until_the_map_says_so_and_may_say_so_itself() {
    let [mut one, mut two, _] = three();
    assert_eq!(call(&mut one, &mut two), Met::Ours);
    let four = map(2, 4, &[1, 2, 3, 4]);
    let mut new = joined(4, &one, four.clone());
    // The map came by another way.
    one.greeter.set_nodes(four.clone());
    assert_eq!(call(&mut new, &mut one), Met::Ours);
    assert_eq!(call(&mut one, &mut new), Met::Ours);
    // A caller that knows no later map than the called has nothing to tell.
    let mut other = joined(5, &one, four.clone());
    for _ in 0..2 {
        let Met::NotNow(why) = call(&mut other, &mut one) else { panic!("its map does not list it") };
        assert_eq!(why, "node n1 has not heard yet that there is a node n5");
    }
    // And here only the caller has it: at its next call it says so.
    let Met::NotNow(why) = call(&mut new, &mut two) else { panic!("its map does not list it") };
    assert_eq!(why, "node n2 has not heard yet that there is a node n4");
    assert_eq!(two.greeter.nodes().revision, Nodes::FOUNDING);
    assert_eq!(call(&mut new, &mut two), Met::Ours);
    assert_eq!(two.greeter.nodes(), &four);
    assert_eq!(new.greeter.hello(two.me(), Purpose::Ordered).nodes, None, "it need not hear it again");
    assert_eq!(call(&mut two, &mut new), Met::Ours);
}

#[test]
fn nodes_of_another_cluster_or_of_an_earlier_map_are_not_believed() {
    let [mut one, ..] = three();
    let later = map(7, 3, &[1, 2, 3]);
    one.greeter.set_nodes(later.clone());
    let (strange, behind) = (Node::new("n2", 44), joined(2, &one, map(6, 4, &[1, 2, 4])));
    let hello = |caller: &Node, nodes: Nodes| Hello {
        nodes: Some(nodes),
        ..caller.greeter.hello(NodeId(1), Purpose::Ordered)
    };
    for hello in [
        hello(&strange, map(9, 9, &[1, 2, 9])),
        Hello { cluster: ClusterId::new(5), ..hello(&behind, map(9, 9, &[1, 2, 9])) },
        hello(&behind, map(6, 4, &[1, 2, 4])),
    ] {
        one.decide(|greeter| greeter.answer(&hello)).unwrap();
        assert_eq!(one.greeter.nodes(), &later);
    }
}

#[test]
fn node_that_was_removed_is_refused_by_who_knows_and_not_met_again() {
    let mut nodes = three();
    for caller in 0..3 {
        for called in (0..3).filter(|called| *called != caller) {
            let mut answers = nodes[called].clone();
            assert!(matches!(call(&mut nodes[caller], &mut answers), Met::Ours | Met::NotNow(_)));
            nodes[called] = answers;
        }
    }
    let [mut one, mut two, mut three] = nodes;
    assert!(one.greeter.lives().contains_key(&NodeId(3)));
    one.greeter.set_nodes(map(5, 4, &[1, 2, 4]));
    assert!(!one.greeter.lives().contains_key(&NodeId(3)), "connections with it are over");
    let Met::Left(why) = call(&mut three, &mut one) else { panic!("it is no member") };
    assert!(why.starts_with("node n3 with the id 3 is no member of the cluster any more"), "{why}");
    assert!(why.contains("give it an empty data folder and let it join as a new node"), "{why}");
    assert_eq!(three.identity.gone, Some(why), "its folder says so from now on");
    // Whose map is behind still takes it for a member.
    assert_eq!(call(&mut three, &mut two), Met::Ours);
    // Who called it before the map came does not send it anything.
    let welcome = answer(&two, &mut three).unwrap();
    two.greeter.set_nodes(map(5, 4, &[1, 2, 4]));
    let met = two.decide(|greeter| greeter.meet(NodeId(3), &welcome));
    assert_eq!(met, Some(Met::NotNow("node 3 is no member of the cluster any more".into())));
    // An earlier map brings it back to nobody.
    two.greeter.set_nodes(map(4, 3, &[1, 2, 3]));
    assert!(matches!(call(&mut three, &mut two), Met::Left(_)));
    // What is written next is without it.
    two.restart();
    one.restart();
    assert_eq!(call(&mut one, &mut two), Met::Ours);
    assert!(!one.known.contains_key(&NodeId(3)) && !two.known.contains_key(&NodeId(3)));
}

#[test]
fn node_that_was_given_up_while_it_was_down_is_refused_as_it_starts() {
    let [mut one, mut two, mut three] = three();
    assert!(call(&mut one, &mut two) == Met::Ours && call(&mut three, &mut one) == Met::Ours);
    one.greeter.set_nodes(map(5, 4, &[1, 2, 4]));
    three.restart();
    three.full = true;
    let welcome = answer(&three, &mut one).unwrap();
    assert_eq!(three.decide(|greeter| greeter.meet(NodeId(1), &welcome)), None, "it must be noted");
    three.full = false;
    let Met::Hopeless(why) = call(&mut three, &mut one) else { panic!("it is no member") };
    assert_eq!(three.identity.gone, Some(why));
}

#[test]
#[should_panic(expected = "a folder whose node is no member any more is not started")]
fn folder_of_a_node_that_is_no_member_is_not_started() {
    let [_, _, mut three] = three();
    three.identity.gone = Some("it has left".into());
    three.restart();
}

#[test]
fn node_in_the_place_of_another_is_one_of_its_name_with_an_id_of_its_own() {
    let [mut one, _, _] = three();
    let mut nodes = map(5, 4, &[1, 2, 4]);
    nodes.members.get_mut(&NodeId(4)).unwrap().name = "n3".into();
    one.greeter.set_nodes(nodes.clone());
    let mut new = joined(4, &one, nodes);
    new.identity.name = "n3".into();
    let mut new = Node {
        greeter: Greeter::new(new.identity.clone(), Lives::new(), new.greeter.nodes().clone()),
        ..new
    };
    assert_eq!(call(&mut new, &mut one), Met::Ours);
    let taken = joined(4, &one, one.greeter.nodes().clone());
    let Some(Welcome::Stranger(why)) = answer(&taken, &mut one) else { panic!("4 is n3's") };
    assert_eq!(why, "node n4 is no other node of this cluster");
}

#[test]
fn folder_that_the_map_does_not_list_is_refused_by_who_never_met_the_node() {
    let [mut one, two, _] = three();
    let mut nodes = map(2, 3, &[1, 2, 3]);
    let listed = &mut nodes.members.get_mut(&NodeId(2)).unwrap().incarnation;
    *listed = two.identity.lineage.life.incarnation;
    one.greeter.set_nodes(nodes);
    let wiped = Node::new("n2", 77);
    let Some(Welcome::No(Refusal { why, .. })) = answer(&wiped, &mut one) else {
        panic!("it has forgotten its promises")
    };
    assert!(why.contains("another data folder than the one it was known under"), "{why}");
    assert!(is_welcome(&mut one, &two));
}

#[test]
fn node_that_joined_has_the_id_that_it_was_given_in_all_its_lives() {
    let [one, ..] = three();
    let joiner = Joiner::new("n4", "east", &mut process).started(&mut process);
    let own = joiner.joined(NodeId(4), one.cluster().unwrap(), one.identity.terms.clone());
    assert_eq!(own.lineage, joiner.lineage, "the directory knows the folder by it");
    assert_eq!((own.me, own.name.as_str(), own.zone.as_str(), own.begun), (NodeId(4), "n4", "east", false));
    let again = own.started(&mut process);
    assert_eq!((again.me, again.cluster, again.lineage.life.starts), (NodeId(4), one.cluster(), 3));
}

#[test]
fn node_that_joined_the_wrong_cluster_founds_none() {
    let [mut one, ..] = three();
    let mut other = Node::new("n1", 99);
    assert_ne!(one.cluster(), other.cluster());
    // It has met nobody yet; what it has was given to it, so either of the two may be the one that is wrong here.
    let lost = joined(4, &one, map(2, 4, &[1, 2, 3, 4]));
    assert!(!lost.greeter.hello(NodeId(1), Purpose::Ordered).founding);
    let met_somebody = call(&mut Node::new("n2", 21), &mut other);
    assert!(matches!(met_somebody, Met::Ours));
    assert!(matches!(answer(&lost, &mut other), Some(Welcome::Stranger(_))));
    assert!(is_welcome_later(&mut one, &lost));
}

/// Whether who called is only not known yet.
fn is_welcome_later(at: &mut Node, who: &Node) -> bool {
    matches!(answer(who, at), Some(Welcome::Unknown { .. }))
}

#[test]
fn node_that_is_given_up_is_no_member_while_its_replicas_go() {
    use placement::map::NodeDuty;
    use placement::{Founder, Founding};
    let founder = |id| Founder { name: format!("n{id}"), peer: format!("n{id}:7421") };
    let mut map = placement::map::Map::founding(&Founding {
        cluster: None,
        nodes: (1..=3).map(founder).collect(),
        shards: 1,
        replicas: 3,
        protocol: kv::Protocol::Raft,
    });
    map.nodes.get_mut(&NodeId(3)).unwrap().duty = NodeDuty::Gone;
    let nodes = Nodes::of(&map);
    assert_eq!(nodes.members.keys().copied().collect::<Vec<_>>(), [NodeId(1), NodeId(2)]);
    assert_eq!(nodes.place(NodeId(3)), Place::Gone, "it is refused for good, and called no more");
}

#[test]
fn word_of_one_that_is_no_member_any_more_turns_nobody_away() {
    let [mut one, _, mut three] = three();
    assert_eq!(call(&mut three, &mut one), Met::Ours);
    three.greeter.set_nodes(map(5, 3, &[1, 3]));
    let stranger = Welcome::Stranger("node n3 is no other node of this cluster".into());
    let met = three.decide(|greeter| greeter.meet(NodeId(2), &stranger));
    assert!(matches!(met, Some(Met::NotNow(_))), "n2 was given up, and n1 is the other half: {met:?}");
    let met = three.decide(|greeter| greeter.meet(NodeId(1), &stranger));
    assert!(matches!(met, Some(Met::Hopeless(_))), "no other member wants it: {met:?}");
}
