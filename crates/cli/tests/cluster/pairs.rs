//! Pair servers, central servers and their clients: killed, ended, in a crowd, with and without a data folder.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::rc::Rc;
use std::time::Duration;

use dialects::classic::pairs::PairClient;
use rustix::io::Errno;
use rustix::process::Signal;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::sleep;

use crate::nodes::{CAPSTAN, Lab, PATIENCE, Random, free_base_port, run, size, text, until};
use crate::programs::{Server, bind_plainly, client, some_time, spawn_client};

/// Writers at once, each with keys of its own.
const WRITERS: i32 = 8;
/// Writes that must be answered before a kill and after it.
const GO_ON: usize = 100;
/// A writer whose server is away tries again so soon.
const AGAIN: Duration = Duration::from_millis(20);

/// What was answered to some writers.
type Answered<T> = Rc<RefCell<Answers<T>>>;

struct Answers<T> {
    /// How often: a key may be written again.
    count: usize,
    /// Of each key what it must hold from then on.
    last: BTreeMap<i32, T>,
}

impl<T> Default for Answers<T> {
    fn default() -> Answers<T> {
        Answers { count: 0, last: BTreeMap::new() }
    }
}

impl<T> Answers<T> {
    fn add(&mut self, key: i32, holds: T) {
        self.count += 1;
        self.last.insert(key, holds);
    }
}

async fn goes_on<T>(answered: &Answered<T>) {
    let goal = answered.borrow().count + GO_ON;
    until("the writers go on", PATIENCE, || std::future::ready(answered.borrow().count >= goal)).await;
}

/// The text of a key. Some are long, so that the log is more than a file of small records.
fn text_of(key: i32) -> String {
    let long = if key % 50 == 0 { 100_000 } else { 0 };
    format!("text of {key}{}", "-".repeat(long))
}

/// Inserts one key after the other, each until it is answered.
async fn insert(server: PairClient, writer: i32, answered: Answered<String>) {
    for key in (0..).map(|index| index * WRITERS + writer) {
        let mut may_be_there = false;
        let is_new = loop {
            match server.insert(key, text_of(key)).await {
                Ok(is_new) => break is_new,
                Err(error) => may_be_there |= error.outcome() == kv::Outcome::InDoubt,
            }
            sleep(AGAIN).await;
        };
        assert!(is_new || may_be_there, "nobody else inserts {key}");
        answered.borrow_mut().add(key, text_of(key));
    }
}

/// Kills a server again and again while writers write, and once more when they have stopped; it serves in the end.
async fn kill_under<T>(
    writers: &[JoinHandle<()>],
    answered: &Answered<T>,
    server: &mut Server,
    random: &mut Random,
) {
    for _ in 0..size(5, 50) {
        goes_on(answered).await;
        some_time(200, random).await;
        server.kill().await;
        server.serve().await;
    }
    goes_on(answered).await;
    writers.iter().for_each(JoinHandle::abort);
    server.kill().await;
    server.serve().await;
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn pair_server_killed_loses_nothing_that_was_answered() {
    run(async |mut random: Random| {
        let mut server = Server::start("pair-server", &["--data", "DATA"], &mut random).await;
        let answered = Answered::default();
        let start = |writer| spawn_local(insert(server.pairs(), writer, answered.clone()));
        let writers: Vec<JoinHandle<()>> = (0..WRITERS).map(start).collect();
        kill_under(&writers, &answered, &mut server, &mut random).await;
        let (client, answered) = (server.pairs(), answered.take().last);
        println!("{} inserts were answered", answered.len());
        for (key, text) in answered {
            assert_eq!(client.consult(key).await.as_ref(), Ok(&text));
            assert_eq!(client.insert(key, "other".into()).await, Ok(false), "{key} is in use");
        }
        assert_eq!(server.stdout(), "");
    });
}

/// Registers keys under one host after the other, each time until it is answered: a key belongs to the host of the last round.
async fn register(server: dialects::classic::pairs::CentralClient, writer: i32, answered: Answered<i32>) {
    for round in 0.. {
        let keys: Vec<i32> = (0..20).map(|index| (round % 500 * 20 + index) * WRITERS + writer).collect();
        let host = format!("pairs-{round}.invalid:1");
        while server.register(host.clone(), keys.clone()).await.map_err(drop) != Ok(20) {
            sleep(AGAIN).await;
        }
        keys.into_iter().for_each(|key| answered.borrow_mut().add(key, round));
    }
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn central_server_killed_loses_nothing_that_was_answered() {
    run(async |mut random: Random| {
        let mut server = Server::start("central-server", &["--data", "DATA"], &mut random).await;
        let answered = Answered::default();
        let start = |writer| spawn_local(register(server.central(), writer, answered.clone()));
        let writers: Vec<JoinHandle<()>> = (0..WRITERS).map(start).collect();
        kill_under(&writers, &answered, &mut server, &mut random).await;
        let (client, answered) = (server.central(), answered.take().last);
        println!("{} keys were registered", answered.len());
        for (key, round) in &answered {
            let host = client.map(*key).await.unwrap();
            let found = host.strip_prefix("pairs-").and_then(|rest| rest.strip_suffix(".invalid:1"));
            let found: i32 =
                found.and_then(|round| round.parse().ok()).unwrap_or_else(|| panic!("{key}: {host}"));
            assert!(found >= *round, "{key} was registered in round {round} and is mapped to {host}");
        }
        let known = client.terminate().await.unwrap();
        assert!(known as usize >= answered.len(), "{known}");
        assert!(server.end().await.success());
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn store_without_a_folder_ends_with_its_server() {
    run(async |mut random: Random| {
        for (program, options) in
            [("pair-server", &[][..]), ("central-server", &[]), ("pair-server", &["--activate"])]
        {
            let mut server = Server::new(program, options, &mut random);
            for round in 0..2 {
                server.serve().await;
                let open = server.open_files();
                assert!(open.is_empty(), "it keeps nothing in files: {open:?}");
                if program == "pair-server" {
                    assert_eq!(server.pairs().insert(5, "five".into()).await, Ok(true), "round {round}");
                    assert_eq!(server.pairs().consult(5).await.as_deref(), Ok("five"));
                } else {
                    assert_eq!(server.central().map(5).await.as_deref(), Ok(""), "round {round}");
                    assert_eq!(server.central().register("h:1".into(), vec![5]).await, Ok(1));
                }
                match round {
                    0 => server.kill().await,
                    _ => assert!(server.stop(Signal::TERM).await.success()),
                }
            }
            assert_eq!(server.left_behind(), Vec::<std::path::PathBuf>::new());
            assert!(!server.data().exists());
            assert_eq!(server.stdout(), "");
        }
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn port_is_free_when_a_server_has_ended() {
    run(async |mut random: Random| {
        for (program, count) in [("pair-server", "0\n"), ("central-server", "0\n")] {
            for options in [&[][..], &["--data", "DATA"]] {
                let mut server = Server::start(program, options, &mut random).await;
                assert_eq!(bind_plainly(server.port()), Err(Errno::ADDRINUSE), "it is taken while it serves");
                // Some who are connected when it ends.
                let (pairs, central) = (server.pairs(), server.central());
                let answers = match program {
                    "pair-server" => pairs.consult(1).await.is_ok(),
                    _ => central.map(1).await.is_ok(),
                };
                assert!(answers);
                let output = server.told("C,1\nT\nC,1\n");
                assert!(output.status.success(), "{}", text(&output.stderr));
                assert!(text(&output.stdout).ends_with(count), "{}", text(&output.stdout));
                assert!(server.end().await.success());
                becomes_free(server.port(), &format!("{program} {options:?}")).await;
                // Another one takes it at once, and is stopped by signals.
                for signal in [Signal::TERM, Signal::INT] {
                    server.serve().await;
                    assert!(server.stop(signal).await.success());
                    becomes_free(server.port(), &format!("{program} {options:?} {signal:?}")).await;
                }
            }
        }
    });
}

/// A port can be had by anybody: at once, but for the moment in which the last word of a connection is confirmed. A connection that
/// the server closed first would have it for a minute.
async fn becomes_free(port: u16, server: &str) {
    let is_free = || std::future::ready(bind_plainly(port).is_ok());
    until(&format!("the port is free after {server}"), Duration::from_secs(5), is_free).await;
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn port_in_use_is_said_with_what_to_do() {
    run(async |mut random: Random| {
        let first = Server::start("pair-server", &[], &mut random).await;
        let port = first.port().to_string();
        for program in ["pair-server", "central-server"] {
            let mut command = std::process::Command::new(CAPSTAN);
            let output = command.args(["classic", program, &port]).output().unwrap();
            assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), String::new()));
            let said = text(&output.stderr);
            assert!(said.contains(&port) && said.contains("the port is in use"), "{said}");
        }
        assert_eq!(first.pairs().consult(1).await.as_deref(), Ok(""), "who has it goes on");
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn thousand_clients_are_served_at_once() {
    run(async |mut random: Random| {
        let server = Server::start("pair-server", &[], &mut random).await;
        let connected = Rc::new(tokio::sync::Barrier::new(1000));
        let come = |key: i32| {
            let (client, connected) = (server.pairs(), connected.clone());
            spawn_local(async move {
                let first = client.insert(key, format!("text of {key}")).await;
                // Nobody leaves before all are there.
                connected.wait().await;
                (first, client.consult(key).await)
            })
        };
        let clients: Vec<_> = (0..1000).map(come).collect();
        for (key, client) in clients.into_iter().enumerate() {
            let expect = (Ok(true), Ok(format!("text of {key}")));
            assert_eq!(client.await.unwrap(), expect);
        }
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn all_keys_of_a_large_store_are_registered_in_one_call() {
    const KEYS: i32 = 100_000;
    const MEMORY_MAX: u64 = 1 << 30;
    run(async |mut random: Random| {
        let mut server = Server::start("pair-server", &["--activate"], &mut random).await;
        let mut central = Server::start("central-server", &[], &mut random).await;
        let client = Rc::new(server.pairs());
        let insert = |first: i32| {
            let client = client.clone();
            spawn_local(async move {
                for key in (first..KEYS).step_by(100) {
                    assert_eq!(client.insert(key - KEYS / 2, format!("text of {key}")).await, Ok(true));
                }
            })
        };
        for task in (0..100).map(insert).collect::<Vec<_>>() {
            task.await.unwrap();
        }
        let output = server.told(&format!("A,{}\nT\n", central.address()));
        assert_eq!((text(&output.stdout), text(&output.stderr)), ("100000\n0\n".into(), String::new()));
        assert!(server.end().await.success());
        let peak = central.peak_memory();
        println!("the central server took {} MiB at most", peak >> 20);
        assert!(peak < MEMORY_MAX, "{peak}");
        assert_eq!(text(&central.told("T\n").stdout), "100000\n");
        assert!(central.end().await.success());
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn data_folder_of_a_program_is_one_of_a_node() {
    run(async |mut random: Random| {
        let mut server = Server::start("pair-server", &["--data", "DATA"], &mut random).await;
        let output =
            server.told("I,5,five\nI,-1,minus one\nI,0,\nI,2147483647,most\nI,-2147483648,least\nT\n");
        assert_eq!(text(&output.stdout), "0\n0\n0\n0\n0\n0\n", "{}", text(&output.stderr));
        assert!(server.end().await.success());

        server.serve_as_node().await;
        let rows = r"\x00\x00\x00\x00	least
\x7f\xff\xff\xff	minus one
\x80\x00\x00\x00	
\x80\x00\x00\x05	five
\xff\xff\xff\xff	most
";
        assert_eq!(text(&server.capstan(&["range", ""]).stdout), rows, "in the order of their numbers");
        assert!(server.capstan(&["put", r"\x80\x00\x00\x06", "six"]).status.success());
        assert!(server.stop(Signal::TERM).await.success());

        server.serve().await;
        let output = server.told("C,5\nC,6\nI,6,other\nC,0\nC,7\n");
        assert_eq!(text(&output.stdout), "five\nsix\n-1\n\n\n", "{}", text(&output.stderr));
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn cluster_holds_pairs_when_one_of_its_nodes_is_lost() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(3, &[], &mut random);
        let base = free_base_port(3, &mut random);
        let address = |node: u16| format!("127.0.0.1:{}", base + node);
        for node in lab.all() {
            let file = lab.home().join(format!("n{node}.toml"));
            let listen = format!("[[listen]]\ndialect = 'classic/pairs'\naddress = '{}'\n", address(node));
            std::fs::write(&file, listen).unwrap();
            lab.serve_with(node, &["--config", file.to_str().unwrap()]);
        }
        lab.ready().await;
        let lines: String = (0..20).map(|key| format!("I,{key},text of {key}\n")).collect();
        let output = client("pair-client", &address(1), &lines);
        assert_eq!(text(&output.stdout), "0\n".repeat(20), "{}", text(&output.stderr));
        // No client ends a node that has others.
        let output = client("pair-client", &address(3), "T\nC,7\n");
        assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("text of 7\n", Some(1)));
        assert!(text(&output.stderr).contains("may not end the node"), "{}", text(&output.stderr));

        lab.kill(1).await;
        for node in [2, 3] {
            let server = PairClient::new(&address(node)).unwrap();
            for key in 0..20 {
                until("another node leads", PATIENCE, async || server.consult(key).await.is_ok()).await;
                assert_eq!(server.consult(key).await, Ok(format!("text of {key}")));
                assert_eq!(server.insert(key, "other".into()).await, Ok(false), "{key} is in use");
            }
        }
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn client_that_idles_while_its_server_restarts_goes_on() {
    run(async |mut random: Random| {
        let mut server = Server::start("pair-server", &["--data", "DATA"], &mut random).await;
        let mut typist = spawn_client("pair-client", &server.address());
        let mut stdin = typist.stdin.take().unwrap();
        let mut answers = BufReader::new(typist.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut ask = |line: &str| {
            writeln!(stdin, "{line}").unwrap();
            answers.next().expect("there is an answer to each line")
        };
        assert_eq!(ask("I,1,one"), "0");
        for signal in [Signal::KILL, Signal::TERM] {
            server.stop(signal).await;
            server.serve().await;
            assert_eq!(ask("C,1"), "one");
            assert_eq!(ask("I,1,other"), "-1");
        }
        drop(stdin);
        let output = typist.wait_with_output().unwrap();
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn mapped_server_that_is_gone_leaves_the_others_to_be_asked() {
    run(async |mut random: Random| {
        let central = Server::start("central-server", &[], &mut random).await;
        let at = |server: &Server| server.address();
        let mut servers = Vec::new();
        for key in [1, 2] {
            // Each registers as the address that the test can tell from others.
            let mut server = Server::new("pair-server", &["--activate"], &mut random);
            let advertise = server.address();
            server.add(&["--advertise", &advertise]);
            server.serve().await;
            let output = server.told(&format!("I,{key},text of {key}\nA,{}\n", at(&central)));
            assert_eq!(text(&output.stdout), "0\n1\n", "{}", text(&output.stderr));
            servers.push(server);
        }
        servers[0].kill().await;
        let output = central.told("C,1\nC,2\nC,3\nC,1\nC,2\n");
        let line = format!("{}:text of 2\n", at(&servers[1]));
        assert_eq!(text(&output.stdout), line.repeat(2));
        let said = text(&output.stderr);
        assert_eq!((said.lines().count(), output.status.code()), (2, Some(3)), "{said}");
        for number in [1, 4] {
            let expect = format!(
                "error: line {number}: key 1 is mapped to {}, which does not answer",
                at(&servers[0])
            );
            assert!(said.contains(&expect), "{said}");
        }
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn central_server_that_is_away_costs_an_activation_alone() {
    run(async |mut random: Random| {
        let mut central = Server::start("central-server", &[], &mut random).await;
        central.kill().await;
        let server = Server::start("pair-server", &["--activate"], &mut random).await;
        let lines = format!("I,1,one\nA,{}\nC,1\nX\nC,4294967296\nC,2\n", central.address());
        let output = server.told(&lines);
        assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("0\none\n\n", Some(3)));
        let said = text(&output.stderr);
        assert!(said.starts_with("error: line 2: ") && said.contains("error: line 5: the key"), "{said}");
        central.serve().await;
        let output = server.told(&format!("A,{}\n", central.address()));
        assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("1\n", Some(0)));
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn server_that_goes_away_ends_its_client_and_what_was_not_done_is_said() {
    run(async |mut random: Random| {
        let mut server = Server::start("pair-server", &[], &mut random).await;
        let address = server.address();
        let mut typist = spawn_client("pair-client", &address);
        let mut stdin = typist.stdin.take().unwrap();
        writeln!(stdin, "I,1,one").unwrap();
        let mut answers = BufReader::new(typist.stdout.take().unwrap()).lines();
        assert_eq!(answers.next().unwrap().unwrap(), "0");
        server.kill().await;
        writeln!(stdin, "no command\nI,2,two\nI,3,three").unwrap();
        drop(stdin);
        let output = typist.wait_with_output().unwrap();
        let said = text(&output.stderr);
        assert!(said.starts_with("error: nothing was done from line 3 on: "), "{said}");
        assert_eq!((said.lines().count(), output.status.code()), (1, Some(3)), "{said}");
        assert!(answers.next().is_none());
        // Who asks nothing need not know.
        assert_eq!(client("pair-client", &address, "\nnothing\nA\n").status.code(), Some(0));
    });
}
