//! Where nodes listen for each other and where they are told to connect, which may be two places, and may change.

use serde_json::Value;

use crate::nodes::{Lab, PATIENCE, Random, free_base_port, run, text, until};

/// What a node says of another, unless it is only starting and cannot be reached.
fn node(lab: &Lab, asked: u16, about: u16) -> Option<Value> {
    let output = lab.capstan(&[asked], &["cluster", "status", "--json"]);
    if output.status.code() == Some(3) {
        return None;
    }
    assert!(output.status.success(), "{}", text(&output.stderr));
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    let nodes = status["nodes"].as_array().unwrap();
    Some(nodes.iter().find(|node| node["name"] == format!("n{about}")).unwrap().clone())
}

/// Waits until every node says this of one.
async fn all_say(lab: &Lab, about: u16, peer: &str, zone: &str) {
    until("all nodes know where it is", PATIENCE, || {
        let says =
            |asked| node(lab, asked, about).is_some_and(|node| node["peer"] == peer && node["zone"] == zone);
        std::future::ready(lab.all().all(says))
    })
    .await;
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn node_that_listens_everywhere_is_reached_where_it_says_and_keeps_its_zone() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(3, &[], &mut random);
        for node in lab.all() {
            let port = lab.base_port() + 20 + node;
            lab.serve_with(
                node,
                &["--listen-peer", &format!("0.0.0.0:{port}"), "--zone", &format!("rack {node}")],
            );
        }
        lab.ready().await;
        assert!(lab.capstan(&[1], &["put", "a", "1"]).status.success());
        all_say(&lab, 2, &lab.peer_address(2), "rack 2").await;

        assert!(lab.stop(2).await.success());
        lab.serve(2);
        lab.ready().await;
        all_say(&lab, 2, &lab.peer_address(2), "rack 2").await;
        assert!(lab.stop(2).await.success());
        lab.serve_with(2, &["--zone", "rack 5"]);
        lab.ready().await;
        all_say(&lab, 2, &lab.peer_address(2), "rack 5").await;
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn node_that_moves_is_called_at_its_new_address() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(3, &[], &mut random);
        lab.serve_all().await;
        assert!(lab.capstan(&[1], &["put", "a", "1"]).status.success());
        let victim = 1 + random.below(3) as u16;
        assert!(lab.stop(victim).await.success());
        // The others were started with its old address, and are not started again.
        let moved = format!("127.0.0.1:{}", free_base_port(1, &mut random) + 21);
        lab.serve_with(victim, &["--advertise-peer", &moved]);
        all_say(&lab, victim, &moved, "").await;
        lab.ready().await;
        assert!(lab.capstan(&[victim], &["put", "a", "2"]).status.success());

        // And once more: now they know it from the map, as does itself.
        let pids: Vec<_> = lab.all().map(|node| lab.pid(node)).collect();
        lab.kill(victim).await;
        lab.serve_with(victim, &["--advertise-peer", &moved]);
        lab.ready().await;
        assert_eq!(text(&lab.capstan(&[victim], &["get", "a"]).stdout), "2\n");
        let others = lab.all().filter(|node| *node != victim);
        assert!(others.into_iter().all(|node| lab.pid(node) == pids[usize::from(node) - 1]));
    });
}
