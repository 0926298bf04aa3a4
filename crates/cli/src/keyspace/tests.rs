//! What the commands on keyspaces ask and print.

use kv::admin::{Answer, Ask, Ruled, Ruling};
use kv::cluster::Status;
use kv::keyspace::{Described, Secondaries, Settings, Usage, Wish};
use kv::{Error as Failure, Protocol};

use super::ruling::Decision;
use super::*;
use crate::connect::runtime;
use crate::fake::{Operated, node, printed, shard};

fn orders(wish: Wish) -> Described {
    Described {
        name: "default".into(),
        settings: Settings::of(&wish),
        shards: 1,
        under_another: 0,
        changing: 0,
        usage: Some(Usage { bytes: 1_000, keys: 7 }),
    }
}

fn cluster() -> Status {
    let nodes = (1..=3).map(node).collect();
    Status { nodes, shards: vec![shard(1)], directory: Some(shard(0)), revision: 3, buses: Vec::new() }
}

fn run_on(store: &Operated, command: &Command, json: bool) -> (Result<Code, Error>, String) {
    let mut result = Ok(Code::Done);
    let text = printed(json, |out| {
        result = runtime().block_on(run(command, store, &Options::default(), out));
    });
    (result, text)
}

fn create(protocol: Option<Protocol>) -> Command {
    let settings = command::Settings { quota_keys: Some(9), ..Default::default() };
    Command::Create { name: "default".into(), settings, protocol }
}

#[test]
fn create_asks_for_what_is_wished_and_waits_until_it_is_served() {
    let empty = Status { shards: Vec::new(), ..cluster() };
    let store = Operated::new([empty, cluster()], [Ok(Answer::Done)]);
    let (result, text) = run_on(&store, &create(Some(Protocol::Single)), true);
    assert!(matches!(result, Ok(Code::Done)) && text.contains("\"created\":true"), "{text}");
    let wish = Wish { protocol: Some(Protocol::Single), quota_keys: Some(9), ..Wish::default() };
    assert_eq!(store.asked(), [Ask::CreateKeyspace { name: "default".into(), wish }]);
}

#[test]
fn what_the_directory_refuses_ends_with_its_words() {
    let store = Operated::new([cluster()], [Err(Failure::Invalid("no".into()))]);
    let (result, _) = run_on(&store, &create(None), false);
    assert!(matches!(&result, Err(error) if error.code() == Code::Usage), "{result:?}");
}

#[test]
fn describe_tells_what_is_promised_held_and_lost_when() {
    let store = Operated::new([cluster()], [Ok(Answer::Keyspaces(vec![orders(Wish::default())]))]);
    let (result, text) = run_on(&store, &Command::Describe { name: "default".into() }, false);
    assert!(matches!(result, Ok(Code::Done)));
    for told in
        ["consensus of a majority", "on the disks of 2 of 3", "one node may stop", "7 keys, 1000 bytes"]
    {
        assert!(text.contains(told), "{told}:\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let none = run_on(&store, &Command::Describe { name: "tea".into() }, false).0;
    assert!(matches!(&none, Err(error) if error.code() == Code::Usage), "{none:?}");
}

#[test]
fn describe_of_two_phase_tells_that_all_copies_are_needed() {
    let wish = Wish { protocol: Some(Protocol::TwoPhase), replicas: Some(3), ..Wish::default() };
    let store = Operated::new([cluster()], [Ok(Answer::Keyspaces(vec![orders(wish)]))]);
    let (_, text) = run_on(&store, &Command::Describe { name: "default".into() }, false);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for told in [
        "on all copies or on none",
        "at every copy",
        "no writes until it is back",
        "the others serve reads only",
    ] {
        assert!(words.contains(told), "{told}:\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn describe_of_primary_tells_what_needs_the_directory_and_how_few_copies_will_do() {
    let (protocol, min_copies) = (Some(Protocol::Primary), Some(2));
    let wish = Wish { protocol, replicas: Some(3), min_copies, ..Wish::default() };
    let store = Operated::new([cluster()], [Ok(Answer::Keyspaces(vec![orders(wish)]))]);
    let (_, text) = run_on(&store, &Command::Describe { name: "default".into() }, false);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for told in [
        "at every replica in sync",
        "2 at least",
        "While the directory has no majority they wait for it",
        "with fewer than 2 in sync reads, and no writes",
    ] {
        assert!(words.contains(told), "{told}:\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn describe_of_quorum_tells_what_each_replica_weighs_and_that_one_alone_is_enough() {
    let weights = kv::keyspace::Weights::new(&[1, 2, 1]).ok();
    let wish = Wish { protocol: Some(Protocol::Quorum), weights, ..Wish::default() };
    let mut cluster = cluster();
    for (member, weight) in cluster.shards[0].members.iter_mut().zip([1, 2, 1]) {
        member.weight = weight;
    }
    let told = |wish: Wish, json| {
        let store = Operated::new([cluster.clone()], [Ok(Answer::Keyspaces(vec![orders(wish)]))]);
        run_on(&store, &Command::Describe { name: "default".into() }, json).1
    };
    let text = told(Wish { read: Some(2), write: Some(3), ..wish.clone() }, false);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("replicas that weigh 3 of 4") && !words.contains("one alone"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let json = told(Wish { read: Some(3), write: Some(2), ..wish.clone() }, true);
    assert!(json.contains("\"weights\":[1,2,1]") && json.contains("\"write\":2"), "{json}");
    let text = told(Wish { read: Some(3), write: Some(2), ..wish.clone() }, false);
    assert!(text.contains("one alone"), "{text}");
}

#[test]
fn describe_of_primary_with_few_in_sync_tells_what_the_others_answer() {
    let (protocol, sync) = (Some(Protocol::Primary), Some(Secondaries::Count(1)));
    let wish = Wish { protocol, sync, interval_micros: Some(50_000), ..Wish::default() };
    let store = Operated::new([cluster()], [Ok(Answer::Keyspaces(vec![orders(wish)]))]);
    let (_, text) = run_on(&store, &Command::Describe { name: "default".into() }, false);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for told in ["the primary and 1 of the others", "every 50ms, answer --level bounded and local"] {
        assert!(words.contains(told), "{told}:\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn list_prints_each_keyspace() {
    let store = Operated::new([cluster()], [Ok(Answer::Keyspaces(vec![orders(Wish::default())]))]);
    let (_, text) = run_on(&store, &Command::List, true);
    assert!(text.contains("\"keyspace\":\"default\"") && text.contains("\"keys\":7"), "{text}");
}

#[test]
fn drop_without_a_confirmation_is_refused_and_asks_nothing() {
    let store = Operated::new([cluster()], [Ok(Answer::Done)]);
    let command = |yes| Command::Drop { name: "orders".into(), yes };
    // A test has no terminal, or nobody types there.
    if !io::stdin().is_terminal() {
        let (result, _) = run_on(&store, &command(false), false);
        assert!(matches!(&result, Err(error) if error.code() == Code::Usage), "{result:?}");
        assert!(store.asked().is_empty());
    }
    assert!(matches!(run_on(&store, &command(true), false).0, Ok(Code::Done)));
    assert_eq!(store.asked(), [Ask::DropKeyspace { name: "orders".into() }]);
}

#[test]
fn alter_of_nothing_is_refused() {
    let store = Operated::new([cluster()], [Ok(Answer::Done)]);
    let command = Command::Alter {
        name: "orders".into(),
        settings: command::Settings::default(),
        protocol: None,
        no_wait: false,
        dry_run: false,
        decision: Decision::default(),
    };
    assert!(matches!(run_on(&store, &command, false).0, Err(Error::Usage(_))));
}

fn to_primary(dry_run: bool) -> Command {
    let (settings, protocol) = (command::Settings::default(), Some(Protocol::Primary));
    let decision = Decision::default();
    Command::Alter { name: "default".into(), settings, protocol, no_wait: false, dry_run, decision }
}

#[test]
fn alter_of_the_protocol_returns_when_all_shards_are_there() {
    let wish = Wish { protocol: Some(Protocol::Primary), ..Wish::default() };
    let on_its_way = Described { under_another: 1, changing: 1, ..orders(wish.clone()) };
    let keyspaces = |keyspace| Ok(Answer::Keyspaces(vec![keyspace]));
    let answers = [Ok(Answer::Done), keyspaces(on_its_way), keyspaces(orders(wish))];
    let store = Operated::new([cluster()], answers);
    let (result, text) = run_on(&store, &to_primary(false), true);
    assert!(matches!(result, Ok(Code::Done)) && text.contains("\"altered\":true"), "{text}");
    assert_eq!(store.asked()[1..], [Ask::Keyspaces, Ask::Keyspaces]);
}

#[test]
fn dry_run_of_another_protocol_tells_what_gets_weaker_and_changes_nothing() {
    let answers = || [Ok(Answer::Moves(Vec::new())), Ok(Answer::Keyspaces(vec![orders(Wish::default())]))];
    let store = Operated::new([cluster()], answers());
    let (result, text) = run_on(&store, &to_primary(true), false);
    assert!(matches!(result, Ok(Code::Done)), "{text}");
    for told in ["raft, 3 replicas", "primary, 3 replicas, sync all", "gets weaker", "must be up"] {
        assert!(text.contains(told), "{told}:\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(matches!(store.asked()[0], Ask::AlterKeyspace { dry_run: true, .. }));
    let (_, text) = run_on(&Operated::new([cluster()], answers()), &to_primary(true), true);
    assert!(text.contains("\"weaker\":["), "{text}");
}

#[test]
fn number_that_makes_no_sense_is_refused_with_those_that_do() {
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Typed {
        #[command(subcommand)]
        _command: Command,
    }

    for (words, says) in [
        ("--sync -1", "all, or 0, 1, 2"),
        ("--sync some", "all, or 0, 1, 2"),
        ("--min-copies 0", "as many as there are replicas"),
        ("--min-copies x", "as many as there are replicas"),
        ("--interval 0", "longer than nothing"),
        ("--interval soon", "as in 10s"),
        ("--protocol paxos", "use single, raft, primary, two-phase, quorum or broadcast"),
    ] {
        let words = ["keyspace", "create", "carts"].into_iter().chain(words.split(' '));
        let refused = Typed::try_parse_from(words).expect_err("it makes no sense").to_string();
        assert!(refused.contains(says), "{refused}");
    }
}

#[test]
fn force_of_a_primary_shows_what_it_would_do_and_wants_a_word() {
    let ruled = |done, why: &str| Ruled { shard: kv::ShardId(1), done, why: why.into() };
    let (would, not) = (ruled(true, "n2 orders it"), ruled(false, "it needs no force: n1 is in sync"));
    let would = Ok(Answer::Ruled(vec![would, not]));
    let wish = Wish { protocol: Some(Protocol::Primary), ..Wish::default() };
    let answers = [would.clone(), would.clone(), would, Ok(Answer::Keyspaces(vec![orders(wish)]))];
    let store = Operated::new([cluster()], answers);
    let force = |yes, dry_run| {
        let decision = Decision { force_primary: Some("n2".into()), yes, ..Decision::default() };
        let (name, settings) = ("default".into(), command::Settings::default());
        Command::Alter { name, settings, protocol: None, no_wait: false, dry_run, decision }
    };
    let ask = |dry_run| {
        let ruling = Ruling::ForcePrimary { node: "n2".into() };
        Ask::Rule { keyspace: "default".into(), ruling, dry_run }
    };
    let (result, text) = run_on(&store, &force(true, true), false);
    assert!(matches!(result, Ok(Code::Done)) && text.contains("needs no force"), "{text}");
    assert_eq!(store.asked(), [ask(true)]);
    let (result, text) = run_on(&store, &force(true, false), true);
    assert!(matches!(result, Ok(Code::Done)) && text.contains("\"done\":true"), "{text}");
    assert_eq!(store.asked()[1..3], [ask(true), ask(false)]);
    if !io::stdin().is_terminal() {
        let answers = [Ok(Answer::Ruled(vec![ruled(true, "n2 orders it")]))];
        let store = Operated::new([cluster()], answers);
        let (result, _) = run_on(&store, &force(false, false), false);
        assert!(matches!(&result, Err(error) if error.code() == Code::Usage), "{result:?}");
        assert_eq!(store.asked(), [ask(true)], "nothing was changed");
    }
}
