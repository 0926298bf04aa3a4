//! A cluster that is asked nonsense, and every command asked as it should be: clear answers, the stated exit codes, and
//! never a panic.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::nodes::{CAPSTAN, Lab, PATIENCE, Random, run, size, text, until};

/// What a command of the program must come to: its exit code, and a part of what it says on standard error.
struct Case<'a>(&'a [&'a str], i32, &'a str);

fn check(lab: &Lab, node: u16, Case(arguments, code, says): &Case<'_>) {
    let output = lab.capstan(&[node], arguments);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(*code), "{arguments:?} at n{node}: {out}{err}");
    assert!(err.contains(says), "{arguments:?} at n{node} does not say '{says}': {err}");
    assert!(!err.contains("panicked"), "{arguments:?} at n{node}: {err}");
}

/// What is wrong with a command, or not there, and what it is told.
const CASES: &[Case] = &[
    Case(&["frobnicate"], 2, "unrecognized subcommand"),
    Case(&["get"], 2, "<KEY>"),
    Case(&["get", "a", "b"], 2, "unexpected argument"),
    Case(&["get", ""], 2, "the key is empty"),
    Case(&["get", "a", "--at", "soon"], 2, "is no version"),
    Case(&["get", "a", "--at", "-5"], 2, "is no version"),
    Case(&["get", "a", "--at", "9223372036854775807"], 2, "is in the future"),
    Case(&["get", "a", "--level", "strong"], 2, "is no level"),
    Case(&["get", "a", "--keyspace", "other"], 2, "there is no keyspace 'other'"),
    Case(&["get", "a", "--timeout", "0"], 2, "longer than nothing"),
    Case(&["get", "a", "--timeout", "2h"], 2, "at most 600 s"),
    Case(&["put", "a"], 2, "<VALUE>"),
    Case(&["put", "a", "x", "--ttl", "1x"], 2, "a duration is"),
    Case(&["increment", "a", "much"], 2, "invalid value 'much'"),
    Case(&["increment", "a", "9223372036854775808"], 2, "invalid value"),
    Case(&["pop-left", "a", "0"], 2, "pop 0 characters"),
    Case(&["pop-left", "a", "-1"], 2, "unexpected argument"),
    Case(&["range", "a", "--limit", "0"], 2, "invalid value '0'"),
    Case(&["range", "a", "b", "--prefix"], 2, "cannot be used with"),
    Case(&["delrange", "a"], 2, "required"),
    Case(&["getall"], 2, "required"),
    Case(&["putall", "a"], 2, "error: "),
    Case(&["trim", "a", "--below", "x"], 2, "is no version"),
    Case(&["trim", "a", "b", "--prefix"], 2, "cannot be used with"),
    Case(&["history", "a", "--before", "x"], 2, "is no version"),
    Case(&["expire", "a", "tomorrow"], 2, "a duration is"),
    Case(&["cas", "a", "x"], 2, "required"),
    Case(&["txn", "--if", "a == 1"], 2, "is no condition"),
    Case(&["txn", "--then", "put a 1", "--then", "put b 1"], 2, "different shards"),
    Case(&["txn", "--then", "range a"], 2, "error: "),
    Case(&["cluster"], 2, "Usage"),
    Case(&["cluster", "query"], 2, "<KEY>"),
    Case(&["get", "a", "--connect", "nowhere"], 2, "an address is HOST:PORT"),
    Case(&["get", "a", "--connect", "127.0.0.1:99999"], 2, "an address is HOST:PORT"),
    // Nothing is wrong with these, but it is not there.
    Case(&["get", "missing"], 1, "not found: missing"),
    Case(&["pop-left", "missing"], 1, "not found: missing"),
    Case(&["del", "missing"], 1, ""),
    Case(&["history", "missing"], 1, "not found: missing"),
    Case(&["expire", "missing", "1h"], 1, "not found: missing"),
    Case(&["getall", "missing"], 1, "not found: missing"),
    Case(&["cas", "missing", "x", "--present"], 1, "has no value"),
];

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn command_that_is_wrong_is_told_so() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(3, &[], &mut random);
        lab.up().await;
        for node in lab.all() {
            CASES.iter().for_each(|case| check(&lab, node, case));
        }
        assert!(lab.capstan(&[1], &["put", "text", "words"]).status.success());
        check(&lab, 2, &Case(&["increment", "text"], 1, "error: "));
        check(&lab, 2, &Case(&["insert", "text", "other"], 1, "is words at version"));
        assert!(lab.capstan(&[1], &["put", "most", "9223372036854775807"]).status.success());
        check(&lab, 3, &Case(&["increment", "most"], 1, "error: "));

        let long_key = "k".repeat(kv::KEY_BYTES_MAX + 1);
        let says = "the key is too large: 16385, and the limit is 16384";
        check(&lab, 1, &Case(&["put", &long_key, "x"], 2, says));
        let unreachable =
            Case(&["get", "a", "--connect", "127.0.0.1:1", "--timeout", "1s"], 3, "cannot reach any of");
        check(&lab, 1, &unreachable);
        let too_large = vec![b'x'; kv::VALUE_BYTES_MAX + 1];
        let output = fed(&lab, 1, &["put", "a", "-"], &too_large);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("the value is too large"), "{}", text(&output.stderr));
        // One byte less is fine, and goes by a snapshot of its size through every node.
        for node in lab.all() {
            let output = fed(&lab, node, &["put", "large", "-"], &too_large[1..]);
            assert!(output.status.success(), "{}", text(&output.stderr));
            let output = lab.capstan(&[node], &["get", "large", "--raw"]);
            assert_eq!(output.stdout.len(), kv::VALUE_BYTES_MAX);
        }
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn cluster_that_runs_already_is_not_started_again() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(3, &["--shards", "2"], &mut random);
        lab.up().await;
        let (data, base) = (lab.data().to_str().unwrap().to_owned(), lab.base_port().to_string());
        let elsewhere = lab.home().join("elsewhere").to_str().unwrap().to_owned();
        let node = lab.folder(1).to_str().unwrap().to_owned();
        let (listen, free) = (lab.address(1), format!("127.0.0.1:{}", lab.base_port() + 15));
        let peers = lab.all().map(|peer| format!("n{peer}={}", lab.peer_address(peer))).collect::<Vec<_>>();
        let peers = peers.join(",");
        let serve = ["serve", "--name", "n1", "--shards", "2", "--peers", &peers];
        let cases = [
            Case(&["up", "--data", &data, "--base-port", &base], 2, "runs it already"),
            Case(&["up", "--data", &elsewhere, "--base-port", &base], 2, "choose another --base-port"),
            Case(
                &[&serve[..], &["--data", &node, "--listen", &free]].concat(),
                2,
                "in use by another process",
            ),
            Case(
                &[&serve[..], &["--data", &elsewhere, "--listen", &listen]].concat(),
                2,
                "the port is in use",
            ),
        ];
        cases.iter().for_each(|case| check(&lab, 1, case));
        assert_eq!(lab.processes().len(), 4, "up and three nodes run on");
        assert!(lab.capstan(&[1], &["put", "a", "1"]).status.success());
        assert!(lab.stop_up().await.success());

        let (base, up) = (lab.base_port().to_string(), ["up", "--data", &data, "--base-port"]);
        let up = [&up[..], &[&base]].concat();
        let options = [["--replicas", "2"], ["--engine", "memory"], ["--history", "3"], ["--shards", "4"]];
        for option in options {
            check(&lab, 1, &Case(&[&up[..], &option[..]].concat(), 2, "cannot become"));
        }
        let serve_here = [&serve[..], &["--data", &node, "--listen", &listen]].concat();
        for (option, says) in [
            (["--engine", "memory"], "was made with --engine disk"),
            (["--history", "all"], "was made with --history"),
            (["--replicas", "1"], "was made with --replicas 3"),
            (["--name", "n2"], "cannot be used multiple times"),
        ] {
            check(&lab, 1, &Case(&[&serve_here[..], &option[..]].concat(), 2, says));
        }
        lab.up().await;
        assert_eq!(text(&lab.capstan(&[3], &["get", "a"]).stdout), "1\n");
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn node_of_other_options_is_refused_and_the_others_stay() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(3, &[], &mut random);
        lab.serve(1);
        lab.serve(2);
        lab.ready_nodes(&[1, 2]).await;
        lab.serve_with(3, &["--shards", "7"]);
        assert_eq!(lab.end(3, PATIENCE).await.code(), Some(2));
        assert!(lab.stderr(3).contains("was given other options"), "{}", lab.stderr(3));
        lab.ready_nodes(&[1, 2]).await;
        assert!(lab.capstan(&[1], &["put", "a", "1"]).status.success());
        // With the right ones on a new folder it is welcome: nobody has met it before.
        fs::remove_dir_all(lab.folder(3)).unwrap();
        lab.serve(3);
        lab.ready().await;
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn garbage_on_the_ports_harms_nobody() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(3, &[], &mut random);
        lab.up().await;
        assert!(lab.capstan(&[1], &["put", "a", "1"]).status.success());
        let pids: Vec<_> = lab.all().map(|node| lab.pid(node)).collect();
        for round in 0..size(100, 2000) {
            let node = 1 + random.below(3) as u16;
            let address = if round % 2 == 0 { lab.address(node) } else { lab.peer_address(node) };
            throw(&address, &garbage(&mut random));
            if round % 20 == 0 {
                assert_eq!(text(&lab.capstan(&[node], &["get", "a"]).stdout), "1\n");
            }
        }
        // Many connections that say nothing.
        let idle: Vec<TcpStream> = (0..size(300, 800))
            .map(|index| {
                let node = 1 + (index % 3) as u16;
                let address = if index % 2 == 0 { lab.address(node) } else { lab.peer_address(node) };
                TcpStream::connect(address).unwrap()
            })
            .collect();
        for node in lab.all() {
            assert_eq!(text(&lab.capstan(&[node], &["get", "a"]).stdout), "1\n");
        }
        drop(idle);
        lab.ready().await;
        assert_eq!(pids, lab.all().map(|node| lab.pid(node)).collect::<Vec<_>>(), "no node ended");
        for node in lab.all() {
            assert!(!lab.journal(node).contains("panicked"));
        }
        assert!(!lab.up_stderr().contains("panicked"), "{}", lab.up_stderr());
    });
}

/// Puts a key and value of any bytes, as arguments, and all there is into another cluster by lines.
#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn any_bytes_go_from_one_cluster_to_another() {
    run(async |mut random: Random| {
        let (mut from, mut to) = (Lab::new(1, &[], &mut random), Lab::new(1, &[], &mut random));
        from.up().await;
        to.up().await;
        let key = OsStr::from_bytes(b"a b\xff'\\\\");
        for value in [&b"line\nline\tend"[..], b"\\n \xfe\r", b""] {
            let put = capstan(&from, &[OsStr::new("put"), key, OsStr::from_bytes(value)]).output().unwrap();
            assert!(put.status.success(), "{}", text(&put.stderr));
            for format in [&[][..], &["--json"]] {
                let rows = from.capstan(&[1], &[&["range", ""], format].concat()).stdout;
                assert_eq!(rows.iter().filter(|byte| **byte == b'\n').count(), 1, "{}", text(&rows));
                let output = fed(&to, 1, &[&["putall"], format].concat(), &rows);
                assert!(output.status.success(), "{}", text(&output.stderr));
                let read = to.capstan(&[1], &["get", r"a b\xff'\\", "--raw"]);
                assert_eq!(read.stdout, value);
                assert!(to.capstan(&[1], &["del", r"a b\xff'\\"]).status.success());
            }
        }
        let shell = fed(&to, 1, &["shell"], b"put a 1\nput b \xe9\nput c 3\n");
        assert!(shell.status.success(), "{}", text(&shell.stderr));
        assert_eq!(to.capstan(&[1], &["range", ""]).stdout, b"a\t1\nb\t\\xe9\nc\t3\n");
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn write_whose_answer_cannot_be_written_is_done() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(1, &[], &mut random);
        lab.up().await;
        let full = || File::options().write(true).open("/dev/full").unwrap();
        let ends = |words: &[&str]| capstan(&lab, words).stdout(full()).output().unwrap();
        let put = ends(&["put", "a", "1"]);
        assert_eq!(put.status.code(), Some(0));
        assert!(text(&put.stderr).contains("writing the output"), "{}", text(&put.stderr));
        assert_eq!(ends(&["insert", "a", "1"]).status.code(), Some(1));
        assert_eq!(ends(&["get", "a"]).status.code(), Some(3));
        let (reader, closed) = std::io::pipe().unwrap();
        drop(reader);
        let range = capstan(&lab, &["range", ""]).stdout(closed).output().unwrap();
        assert_eq!((range.status.code(), text(&range.stderr).as_ref()), (Some(0), ""));
    });
}

fn capstan(lab: &Lab, words: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(CAPSTAN);
    command.args(["--connect", &lab.address(1)]).args(words);
    command
}

/// Bytes that begin like something the port understands, or like nothing.
fn garbage(random: &mut Random) -> Vec<u8> {
    let length = random.below(5000) as usize;
    let mut bytes = match random.below(5) {
        0 => Vec::new(),
        1 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        2 => b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        // A frame that announces more than there will ever be.
        3 => u32::MAX.to_be_bytes().to_vec(),
        // The greeting of another node, whole at first.
        _ => [&100_u32.to_be_bytes()[..], &[14], b"capstan peer 2", &[0, 1, 2, b'n', b'2']].concat(),
    };
    bytes.extend(random.bytes(length));
    bytes
}

fn throw(address: &str, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    // The other end may close at any time.
    let _ = stream.write_all(bytes);
    let _ = stream.read(&mut [0; 1024]);
}

fn fed(lab: &Lab, node: u16, arguments: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(CAPSTAN);
    command.args(["--connect", &lab.address(node)]).args(arguments);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // One that refuses reads no further.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// Every command on data, on keys of its own: its words, and its answer as text and as JSON. `_` stands for a version.
const TOUR: &[(&[&str], &str, &str)] = &[
    (&["put", "K:a", "x"], "_", r#"{"key":"K:a","version":"_"}"#),
    (&["get", "K:a"], "x", r#"{"found":true,"key":"K:a","value":"x","version":"_"}"#),
    (
        &["put", "K:a", "y", "--previous"],
        "x",
        r#"{"key":"K:a","version":"_","previous":{"value":"x","version":"_"}}"#,
    ),
    (&["insert", "K:b", "x", "--ttl", "1h"], "_", r#"{"key":"K:b","version":"_","met":true}"#),
    (&["cas", "K:b", "z", "--expect", "x"], "_", r#"{"key":"K:b","version":"_","met":true}"#),
    (&["append", "K:c", "abc"], "3", r#"{"key":"K:c","version":"_","length":3}"#),
    (&["append-left", "K:c", "0"], "4", r#"{"key":"K:c","version":"_","length":4}"#),
    (&["pop-left", "K:c"], "0", r#"{"key":"K:c","version":"_","found":true,"value":"0"}"#),
    (&["pop-right", "K:c", "2"], "bc", r#"{"key":"K:c","version":"_","found":true,"value":"bc"}"#),
    (&["increment", "K:n", "5"], "5", r#"{"key":"K:n","version":"_","number":5}"#),
    (&["increment", "K:n", "-7"], "-2", r#"{"key":"K:n","version":"_","number":-2}"#),
    (
        &["putall", "K:d", "1", "K:e", "2"],
        "K:d\t_\nK:e\t_",
        "{\"key\":\"K:d\",\"version\":\"_\"}\n{\"key\":\"K:e\",\"version\":\"_\"}",
    ),
    (
        &["getall", "K:d", "K:e"],
        "K:d\t1\nK:e\t2",
        "{\"found\":true,\"key\":\"K:d\",\"value\":\"1\",\"version\":\"_\"}\n{\"found\":true,\"key\":\"K:e\",\"value\":\"2\",\"version\":\"_\"}",
    ),
    (
        &["range", "K:d", "K:f"],
        "K:d\t1\nK:e\t2",
        "{\"key\":\"K:d\",\"value\":\"1\",\"version\":\"_\"}\n{\"key\":\"K:e\",\"value\":\"2\",\"version\":\"_\"}",
    ),
    (&["range", "K:", "--prefix", "--count"], "6", r#"{"count":6}"#),
    (&["history", "K:e"], "_\t2", r#"{"key":"K:e","version":"_","value":"2"}"#),
    (&["trim", "K:e"], "0", r#"{"key":"K:e","version":"_","count":0}"#),
    (&["trim", "K:", "--prefix"], "6", r#"{"count":6,"version":"_"}"#),
    (&["expire", "K:e", "1h"], "_", r#"{"key":"K:e","version":"_","found":true}"#),
    (
        &["txn", "--if", "K:d = 1", "--then", "put K:d 3"],
        "then\n_",
        r#"{"succeeded":true,"version":"_","answers":[{"key":"K:d","version":"_"}]}"#,
    ),
    (&["del", "K:d"], "1", r#"{"key":"K:d","version":"_","count":1}"#),
    (&["delrange", "K:", "--prefix"], "5", r#"{"count":5,"version":"_"}"#),
    (&["range", "K:", "--prefix", "--count"], "0", r#"{"count":0}"#),
];

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn every_command_works_through_every_node() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(5, &["--history", "16", "--replicas", "3"], &mut random);
        lab.up().await;
        for node in lab.all() {
            one_by_one(&lab, node, &format!("text{node}"), false);
            one_by_one(&lab, node, &format!("json{node}"), true);
            piped(&lab, node, &format!("shell{node}"));
            asks_the_cluster(&lab, node).await;
        }
    });
}

fn one_by_one(lab: &Lab, node: u16, prefix: &str, json: bool) {
    for (words, as_text, as_json) in TOUR {
        let mut words: Vec<String> =
            words.iter().map(|word| word.replace("K:", &format!("{prefix}:"))).collect();
        if json {
            words.push("--json".into());
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let output = lab.capstan(&[node], &words);
        assert!(output.status.success(), "{words:?} at n{node}: {}", text(&output.stderr));
        let expect = if json { as_json } else { as_text };
        assert_eq!(told(&output.stdout), expect.replace("K:", &format!("{prefix}:")), "{words:?} at n{node}");
    }
}

fn piped(lab: &Lab, node: u16, prefix: &str) {
    let line = |words: &[&str]| words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = TOUR.iter().map(|(words, ..)| line(words)).collect();
    let script = lines.join("\n").replace("K:", &format!("{prefix}:"));
    let output = fed(lab, node, &["shell"], format!("{script}\nquit\n").as_bytes());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let expect: Vec<&str> = TOUR.iter().map(|(_, as_text, _)| *as_text).collect();
    assert_eq!(told(&output.stdout), expect.join("\n").replace("K:", &format!("{prefix}:")));
}

/// What was printed, without its last line end and with `_` for every version.
fn told(out: &[u8]) -> String {
    let is_version = |word: &str| word.len() >= 16 && word.bytes().all(|byte| byte.is_ascii_digit());
    let text = text(out);
    let ends = ['\n', '\t', '"'];
    let words = text.trim_end_matches('\n').split_inclusive(ends).map(|word| {
        let bare = word.trim_end_matches(ends);
        if is_version(bare) { format!("_{}", &word[bare.len()..]) } else { word.into() }
    });
    words.collect()
}

async fn asks_the_cluster(lab: &Lab, node: u16) {
    // A slow machine may elect again after all was ready.
    until("status tells of five nodes and four led shards", PATIENCE, || async {
        let output = lab.capstan(&[node], &["cluster", "status", "--json"]);
        let status: Value = serde_json::from_slice(&output.stdout).unwrap();
        let (nodes, shards) = (status["nodes"].as_array().unwrap(), status["shards"].as_array().unwrap());
        assert_eq!((nodes.len(), shards.len()), (5, 4));
        nodes.iter().all(|node| node["state"] == "alive")
            && shards.iter().all(|shard| shard["leader"].is_string())
    })
    .await;
    until("query tells who leads", PATIENCE, || async {
        let output = lab.capstan(&[node], &["cluster", "query", "a", "--json"]);
        let place: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(place["slot"].as_u64(), Some(15495));
        place["leader"].is_string()
    })
    .await;
    for script in ["status\n", "nodes\n", "cluster query a\n", "dump\n", "help\n", "help txn\n"] {
        let output = fed(lab, node, &["shell"], script.as_bytes());
        assert!(output.status.success(), "{script}: {}", text(&output.stderr));
    }
}
