//! What the commands print and ask, against a cluster that says what it is told to say.

use std::time::Duration;

use clap::Parser;
use kv::admin::{Answer, Ask, Move, Phase, Row, Why};
use kv::cluster::{Liveness, NodeDuty, NodeStatus, ShardStatus, Status};
use kv::view::{Duty, Member};
use kv::{Error as StoreError, NodeId, ReplicaId, Slot, SlotRange};

use super::moves;
use super::wait::{Goal, Pace, wait};
use crate::args::{self, Cli};
use crate::connect;
use crate::exit::{Code, Error};
use crate::fake::{Operated, moved, node, shard};
use crate::print::Output;

/// What a command left behind.
#[derive(Debug, PartialEq, Eq)]
struct Printed {
    out: String,
    err: String,
    code: Code,
}

fn of(run: impl AsyncFnOnce(&mut Output<'_>) -> Result<Code, Error>, json: bool) -> Printed {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut output = Output { out: &mut out, err: &mut err, terminal: false, json };
    let result = connect::runtime().block_on(run(&mut output));
    let code = result.unwrap_or_else(|error| {
        err.extend(format!("error: {error}\n").bytes());
        error.code()
    });
    let text = |bytes| String::from_utf8(bytes).expect("what is printed is text");
    Printed { out: text(out), err: text(err), code }
}

/// Runs the words behind `capstan cluster`.
fn run(store: &Operated, line: &str) -> Printed {
    let words = ["capstan", "cluster"].into_iter().chain(line.split_whitespace());
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(error) => return Printed { out: String::new(), err: error.to_string(), code: Code::Usage },
    };
    let args::Command::Cluster(command) = cli.command else { panic!("{line} is no command on the cluster") };
    of(async |out| super::run(&command, store, &cli.options, out).await, cli.options.json)
}

fn small() -> Status {
    let nodes = (1..=4).map(node).collect();
    Status { nodes, shards: vec![shard(1)], directory: Some(shard(0)), revision: 9, buses: Vec::new() }
}

/// Five nodes and 64 shards of three replicas, with numbers as a cluster has them that is in use.
fn large() -> Status {
    let node = |id| NodeStatus {
        address: format!("192.168.100.{}:7401", 100 + id),
        pid: 4_194_300 + id as u32,
        zone: format!("zone-{}", id % 3),
        leads: 13,
        replicas: 38,
        ..node(id)
    };
    let slots = |id: u32| SlotRange { first: Slot(256 * (id as u16 - 1)), last: Slot(256 * id as u16 - 1) };
    let shard = |id| {
        let mut shard = ShardStatus { slots: slots(id), ..shard(id) };
        shard.replicas.iter_mut().for_each(|replica| replica.applied = 123_456_789);
        shard
    };
    Status {
        nodes: (1..=5).map(node).collect(),
        shards: (1..=64).map(shard).collect(),
        directory: Some(shard(1)),
        revision: 1234,
        buses: Vec::new(),
    }
}

fn status(view: Status, line: &str) -> String {
    let printed = run(&Operated::new([view], [Ok(Answer::Done)]), line);
    assert_eq!((printed.err.as_str(), printed.code), ("", Code::Done));
    printed.out
}

#[test]
fn status_says_first_whether_all_is_well() {
    let expect = "\
Cluster 0000000000000abc
4 nodes, 1 shard; n1 leads the directory. All is well.

NODE  ADDRESS         PID   LEADS  REPLICAS  STATE
n1    127.0.0.1:7401  4241  1      20        alive
n2    127.0.0.1:7402  4242  0      20        alive
n3    127.0.0.1:7403  4243  0      20        alive
n4    127.0.0.1:7404  4244  0      20        alive

SHARD  SLOTS    LEADER  TERM  REPLICAS
1      0-16383  n1      3     n1:7* n2:7 n3:7
";
    assert_eq!(status(small(), "status"), expect);
}

#[test]
fn status_says_what_is_wrong_and_what_is_under_way() {
    let mut view = small();
    view.nodes[1].state = Liveness::Dead;
    view.nodes[2].duty = NodeDuty::Drain;
    let learner =
        Member { node: NodeId(4), replica: ReplicaId(4), incarnation: 0, duty: Duty::Learner, weight: 1 };
    view.shards[0].members.push(learner);
    view.nodes[0].zone = "east".into();
    let expect = "\
Cluster 0000000000000abc
4 nodes, 1 shard; n1 leads the directory. Not well:
  n2 is dead: 20 shards without their replica on it
Under way:
  n3 is being drained: 20 replicas to go
  members change: shard 1; see cluster moves

NODE  ADDRESS         PID   ZONE  LEADS  REPLICAS  STATE
n1    127.0.0.1:7401  4241  east  1      20        alive
n2    127.0.0.1:7402  4242  -     0      20        dead
n3    127.0.0.1:7403  4243  -     0      20        alive, drain
n4    127.0.0.1:7404  4244  -     0      20        alive

SHARD  SLOTS    LEADER  TERM  REPLICAS
1      0-16383  n1      3     n1:7* n2:7! n3:7 n4:0+
";
    assert_eq!(status(view, "status"), expect);
}

#[test]
fn status_of_many_shards_lists_those_that_need_a_look() {
    let mut view = large();
    let well = status(view.clone(), "status");
    assert!(well.ends_with("\n64 shards not listed: cluster status --all lists every one.\n"), "{well}");
    assert!(!well.contains("SHARD"), "{well}");
    view.shards[40].leader = None;
    let bad = status(view.clone(), "status");
    assert!(bad.contains("no leader: shard 41;"), "{bad}");
    assert!(bad.contains("\n41     10240-10495  -       3     n1:123456789* "), "{bad}");
    assert!(bad.ends_with("\n63 shards not listed: cluster status --all lists every one.\n"), "{bad}");
    let all = status(view.clone(), "status --all");
    assert_eq!(all.lines().filter(|line| line.contains("123456789*")).count(), 64);
    for text in [well, bad, all] {
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }
    // Not even a page of them, when they are all like that.
    view.shards.iter_mut().for_each(|shard| shard.leader = None);
    let worst = status(view, "status");
    assert!(worst.contains("no leader: 64 shards (1-64);"), "{worst}");
    assert!(worst.lines().count() < 40, "{worst}");
}

#[test]
fn status_as_json_keeps_its_fields_and_has_more_behind_them() {
    let view = Status { nodes: vec![node(1)], directory: None, ..small() };
    let expect = concat!(
        r#"{"cluster":"0000000000000abc","nodes":[{"name":"n1","address":"127.0.0.1:7401","pid":4241,"state":"alive","leads":1,"#,
        r#""id":1,"replicas":20,"peer":"127.0.0.1:7421","zone":"","duty":"serve"}],"#,
        r#""shards":[{"shard":1,"slots":[0,16383],"leader":"n1","term":3,"replicas":["#,
        r#"{"node":"n1","role":"leader","applied":7,"lease_reads":0},{"node":"node-2","role":"follower","applied":7,"lease_reads":0},"#,
        r#"{"node":"node-3","role":"follower","applied":7,"lease_reads":0}],"#,
        r#""epoch":1,"members":[{"node":"n1","replica":1,"duty":"voter"},{"node":"node-2","replica":2,"duty":"voter"},"#,
        r#"{"node":"node-3","replica":3,"duty":"voter"}],"keyspace":"default"}],"directory":null,"revision":9,"buses":[]}"#,
        "\n"
    );
    assert_eq!(status(view, "status --json"), expect);
    let directory = status(small(), "status --json");
    assert!(directory.contains(r#""directory":{"shard":0,"#), "{directory}");
}

#[test]
fn nodes_are_printed_alone() {
    let text = status(small(), "nodes");
    assert_eq!((text.lines().count(), text.lines().next()), (5, Some(HEAD)));
    let json = status(small(), "nodes --json");
    assert_eq!(json.lines().count(), 4);
    assert!(json.starts_with(r#"{"name":"n1","address":"127.0.0.1:7401","#), "{json}");
}

const HEAD: &str = "NODE  ADDRESS         PID   LEADS  REPLICAS  STATE";

fn some_moves() -> Vec<Move> {
    let planned = Move {
        from: Some(NodeId(9)),
        phase: Phase::Planned,
        why: Why::Lost(NodeId(9)),
        bytes_done: 0,
        bytes_total: 0,
        elapsed_micros: 0,
        ..moved(2)
    };
    let more = Move { from: None, bytes_total: 0, phase: Phase::Switch, why: Why::Repair, ..moved(3) };
    vec![moved(1), planned, more, Move { to: None, phase: Phase::Switch, why: Why::Balance, ..moved(4) }]
}

#[test]
fn moves_are_printed_with_what_is_left() {
    let store = Operated::new([small()], [Ok(Answer::Moves(some_moves()))]);
    let expect = "\
SHARD  FROM    TO  PHASE    COPIED                  LEFT       WHY
1      n1      n4  copy     10.00 MiB of 40.00 MiB  6 seconds  n1 leaves
2      node-9  n4  planned  -                       -          node-9 is lost
3      -       n4  switch   10.00 MiB               -          repair
4      n1      -   switch   10.00 MiB of 40.00 MiB  -          balance
";
    assert_eq!(run(&store, "moves"), Printed { out: expect.into(), err: String::new(), code: Code::Done });
    assert!(expect.lines().all(|line| line.len() <= 80));
    assert_eq!(store.asked(), [Ask::Moves]);
}

#[test]
fn bar_of_a_move_is_empty_until_there_is_something_to_copy_and_full_when_it_is_copied() {
    let bars = some_moves().into_iter().map(|moved| (moves::filled(&moved), moves::progress(&moved)));
    let expect = [
        ((10 << 20, 40 << 20), "10.00 MiB of 40.00 MiB 6s copy"),
        ((0, 1), "- planned"),
        ((1, 1), "10.00 MiB switch"),
        ((1, 1), "10.00 MiB of 40.00 MiB switch"),
    ];
    assert_eq!(bars.collect::<Vec<_>>(), expect.map(|(filled, words)| (filled, words.to_owned())));
}

#[test]
fn moves_that_have_not_begun_are_cut_where_they_are_many() {
    let planned = |id| Move { phase: Phase::Planned, ..moved(id) };
    let many: Vec<Move> = (1..=40).map(|id| if id > 36 { moved(id) } else { planned(id) }).collect();
    let store = Operated::new([small()], [Ok(Answer::Moves(many))]);
    let printed = run(&store, "moves").out;
    let is_of = |phase: &str| printed.lines().filter(|line| line.contains(phase)).count();
    assert_eq!((is_of(" planned "), is_of(" copy ")), (12, 4), "{printed}");
    assert!(printed.ends_with("\n24 more are planned: cluster moves --all lists them.\n"), "{printed}");
    assert_eq!(run(&store, "moves --all").out.lines().count(), 41);
    assert_eq!(run(&store, "moves --json").out.lines().count(), 40);
}

#[test]
fn moves_as_json_are_one_object_each() {
    let store = Operated::new([small()], [Ok(Answer::Moves(some_moves()))]);
    let printed = run(&store, "moves --json");
    let lines: Vec<_> = printed.out.lines().collect();
    assert_eq!(
        lines[0],
        concat!(
            r#"{"shard":1,"from":"n1","to":"n4","phase":"copy","bytes_done":10485760,"bytes_total":41943040,"#,
            r#""keyspace":"default","why":"n1 leaves","elapsed_ms":2000,"left_ms":6000}"#
        )
    );
    assert!(lines[2].starts_with(r#"{"shard":3,"from":null,"to":"n4","phase":"switch","#), "{}", lines[2]);
    assert_eq!(lines.len(), 4);
}

#[test]
fn moves_when_nothing_does_are_no_data() {
    let store = Operated::new([small()], [Ok(Answer::Moves(vec![]))]);
    let nothing = Printed { out: String::new(), err: "nothing moves\n".into(), code: Code::Done };
    assert_eq!(run(&store, "moves"), nothing);
    assert_eq!(run(&store, "moves --wait").code, Code::Done);
}

#[test]
fn move_is_given_up_by_its_shard() {
    let store = Operated::new([small()], [Ok(Answer::Done)]);
    assert_eq!(run(&store, "moves --abort 7").err, "the move of shard 7 is given up\n");
    assert_eq!(run(&store, "moves --abort 7 --json").out, "{\"shard\":7,\"aborted\":true}\n");
    assert_eq!(store.asked()[0], Ask::Abort { shard: kv::ShardId(7) });
    assert_eq!(run(&store, "moves --abort seven").code, Code::Usage);
}

#[test]
fn change_is_asked_for_and_told() {
    let node = |duty, fewer| Ask::Node { name: "n3".into(), duty, fewer, dry_run: false };
    let replace = |lose| Ask::Replace { name: "n3".into(), lose, dry_run: false };
    for (word, ask, told) in [
        ("join", node(NodeDuty::Serve, false), "n3 takes replicas from now on"),
        ("drain", node(NodeDuty::Drain, false), "n3 is being drained"),
        ("leave", node(NodeDuty::Leave, false), "n3 leaves when its replicas have moved"),
        ("replace", replace(false), "n3 is given up"),
    ] {
        let store = Operated::new([small()], [Ok(Answer::Done)]);
        let printed = run(&store, &format!("{word} n3"));
        assert_eq!((printed.out.as_str(), printed.code), ("", Code::Done));
        assert!(printed.err.starts_with(told) && printed.err.contains("cluster moves --wait"), "{printed:?}");
        assert_eq!(store.asked(), [ask]);
        let flags = ["--fewer-replicas", "--lose-data"].map(|flag| format!("{word} n3 {flag}"));
        let accepted: Vec<Code> = flags.iter().map(|line| run(&store, line).code).collect();
        let last = store.asked().pop().unwrap();
        let expect = match word {
            "drain" => (Code::Done, Code::Usage, node(NodeDuty::Drain, true)),
            "leave" => (Code::Done, Code::Usage, node(NodeDuty::Leave, true)),
            "replace" => (Code::Usage, Code::Done, replace(true)),
            _ => (Code::Usage, Code::Usage, node(NodeDuty::Serve, false)),
        };
        assert_eq!((accepted[0], accepted[1], last), expect);
        let json = run(&store, &format!("{word} n3 --json"));
        assert!(json.out.starts_with(r#"{"name":"n3","duty":""#) && json.err.is_empty(), "{json:?}");
    }
}

#[test]
fn change_as_a_dry_run_prints_what_would_move() {
    for word in ["drain", "leave", "replace"] {
        let store = Operated::new([small()], [Ok(Answer::Moves(vec![moved(1)]))]);
        let printed = run(&store, &format!("{word} n1 --dry-run"));
        assert!(printed.out.contains("1      n1    n4  copy") && printed.err.is_empty(), "{printed:?}");
        assert!(!store.asked()[0].changes());
        assert_eq!(run(&store, &format!("{word} n1 --dry-run --wait")).code, Code::Usage);
    }
}

#[test]
fn change_refused_says_what_to_do_instead() {
    for (error, code) in [
        (StoreError::Invalid("n3 is alive: drain it, or let it leave".into()), Code::Usage),
        (StoreError::Unavailable("nobody leads the directory".into()), Code::Unavailable),
        (StoreError::InDoubt("no answer".into()), Code::InDoubt),
    ] {
        let printed = run(&Operated::new([small()], [Err(error.clone())]), "replace n3");
        assert_eq!((printed.out.as_str(), printed.code), ("", code));
        assert!(printed.err.contains(&error.to_string()), "{printed:?}");
    }
}

#[test]
fn change_that_is_waited_for_ends_when_it_is_so() {
    let mut empty = small();
    empty.nodes[2].replicas = 0;
    let absent = Status { nodes: vec![node(1), node(2), node(4)], ..small() };
    for (line, end) in
        [("drain n3 --wait", empty), ("leave n3 --wait", absent.clone()), ("replace n3 --wait", absent)]
    {
        let answers = [Answer::Done, Answer::Moves(vec![moved(1)]), Answer::Moves(vec![])];
        let store = Operated::new([small(), small(), small(), end], answers.map(Ok));
        let printed = run(&store, line);
        assert_eq!(printed.code, Code::Done, "{printed:?}");
        assert!(!printed.err.contains("moves --wait"), "it is waited for already: {printed:?}");
        // It waited until nothing moved, and for the node beyond that.
        assert_eq!(store.asked().len(), 4, "{line}");
    }
}

fn waited(store: &Operated, stall: Duration, json: bool) -> Printed {
    let pace = Pace { every: Duration::from_millis(1), stall };
    of(async |out| wait(&Goal::Still, pace, store, out).await, json)
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn wait_goes_on_while_nobody_leads_the_directory_and_prints_each_step_as_json() {
    let away = || Err(StoreError::Unavailable("nobody leads the directory".into()));
    let later = Move { bytes_done: 20 << 20, ..moved(1) };
    let moves = |moved: &Move| Ok(Answer::Moves(vec![moved.clone()]));
    let answers =
        [away(), moves(&moved(1)), moves(&moved(1)), away(), moves(&later), Ok(Answer::Moves(vec![]))];
    let printed = waited(&Operated::new([small()], answers), LONG, true);
    assert_eq!((printed.code, printed.err.as_str()), (Code::Done, ""));
    let done =
        |line: &str| line.split("\"bytes_done\":").nth(1).unwrap().split(',').next().unwrap().to_owned();
    assert_eq!(printed.out.lines().map(done).collect::<Vec<_>>(), ["10485760", "20971520"]);
}

#[test]
fn wait_ends_when_nothing_comes_closer() {
    let store = Operated::new([small()], [Ok(Answer::Moves(vec![moved(1), moved(2)]))]);
    let printed = waited(&store, Duration::from_millis(5), false);
    assert_eq!(printed.code, Code::Unavailable);
    assert!(printed.err.contains("(shard 1 n1 > n4, copy, and 1 more)"), "{printed:?}");
}

#[test]
fn wait_ends_at_once_when_it_is_refused() {
    let refused = StoreError::Invalid("of another version".into());
    let store = Operated::new([small()], [Err(refused)]);
    assert_eq!(waited(&store, LONG, false).code, Code::Usage);
    assert_eq!(store.asked().len(), 1);
}

#[test]
fn dump_prints_the_rows_of_the_directory() {
    let row = |key: &str, value: &str| Row { key: key.into(), value: value.into() };
    let rows = vec![row("node/0000000001", "n1 serve"), row("revision", "9")];
    let store = Operated::new([small()], [Ok(Answer::Rows(rows))]);
    assert_eq!(run(&store, "dump").out, "node/0000000001\tn1 serve\nrevision\t9\n");
    assert_eq!(run(&store, "dump --json").out.lines().last(), Some(r#"{"key":"revision","value":"9"}"#));
}

#[test]
fn query_says_where_a_key_is() {
    let text = status(small(), "query foo");
    assert_eq!(text, "SLOT   SHARD  LEADER  REPLICAS  KEY\n12182  1      -       n1,n2,n3  foo\n");
}

#[test]
fn answer_to_another_question_is_no_success() {
    for line in ["moves", "dump", "drain n1 --dry-run"] {
        let printed = run(&Operated::new([small()], [Ok(Answer::Done)]), line);
        assert_eq!(printed.code, Code::Unavailable, "{line}");
        assert!(printed.err.contains("of one version"), "{printed:?}");
    }
}
