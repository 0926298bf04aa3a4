//! The binary as scripts see it: exit codes, what goes where, and what needs no cluster.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

fn capstan(args: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_capstan"));
    command.args(args).env_remove("CAPSTAN_CONNECT");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary was built for this test");
    // One that reads nothing may be gone already.
    let _ = child.stdin.take().expect("it is piped").write_all(input.as_bytes());
    child.wait_with_output().expect("it ends by itself")
}

/// An address where nobody listens.
fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    listener.local_addr().expect("it is bound").to_string()
}

/// Runs a command; it must print nothing, tell this, and end with this.
fn check_fails(args: &[&str], input: &str, expect: &str, code: i32) {
    let output = capstan(args, input);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.contains(expect), "{args:?}: {err}");
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(code), &b""[..]), "{args:?}: {err}");
}

#[test]
fn usage_that_is_wrong_exits_2() {
    check_fails(&["frobnicate"], "", "unrecognized subcommand", 2);
    check_fails(&["get"], "", "<KEY>", 2);
    check_fails(&["get", ""], "", "the key is empty", 2);
    check_fails(&["get", "k", "--level", "sometimes"], "", "is no level", 2);
    check_fails(&["get", "k", "--connect", "nowhere"], "", "an address is HOST:PORT", 2);
    check_fails(&["txn", "--if", "a == 1"], "", "is no condition", 2);
    check_fails(&["bench", "get", "--ttl", "1s"], "", "--ttl is for put, mixed and churn", 2);
}

#[test]
fn cluster_that_is_away_exits_3() {
    let address = nowhere();
    let away = ["--connect", &address, "--timeout", "300ms"];
    for command in [&["get", "k"][..], &["put", "k", "v"], &["cluster", "status"], &["bench", "echo"]] {
        check_fails(&[command, &away].concat(), "", "error: ", 3);
    }
    check_fails(&[&["shell"][..], &away].concat(), "get k\n", "error: ", 3);
    check_fails(&[&["bench", "put", "--target", "etcd"][..], &away].concat(), "", "is etcd there?", 3);
}

#[test]
fn pair_clients_say_what_was_not_done() {
    let address = nowhere();
    for program in ["pair-client", "central-client"] {
        let client = ["classic", program, &address];
        check_fails(&client, "\nT", "error: nothing was done from line 2 on: ", 3);
        check_fails(&client, "no\nC,2147483648\r\nC,x\n", "error: line 2: the key 2147483648 is none", 2);
        // Nobody is asked where there is nothing to ask.
        for input in ["", "\n\r\n", "i,1,x\nC\n,\u{0}"] {
            check_fails(&client, input, "", 0);
        }
        check_fails(&["classic", program, "localhost"], "", "an address is HOST:PORT", 2);
    }
    check_fails(
        &["classic", "pair-client", &address],
        "I,1,x\nI,2,x\n",
        "nothing was done from line 1 on: ",
        3,
    );
}

#[test]
fn pair_servers_refuse_ports_that_are_none() {
    for program in ["pair-server", "central-server"] {
        for port in ["0", "65536", "http", "localhost:50051"] {
            check_fails(&["classic", program, port], "", "invalid value", 2);
        }
        check_fails(&["classic", program], "", "<PORT>", 2);
    }
}

#[test]
fn shell_without_a_terminal_tells_errors_and_goes_on() {
    let output = capstan(&["shell"], "frobnicate\nhelp get\n");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stdout).contains("Print the value of a key"));
    assert!(String::from_utf8_lossy(&output.stderr).contains("unrecognized subcommand"));
}

#[test]
fn help_version_and_completions_need_no_cluster() {
    for args in [&["help"][..], &["help", "range"], &["--version"], &["put", "--help"]] {
        assert_eq!(capstan(args, "").status.code(), Some(0), "{args:?}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let output = capstan(&["completions", shell], "");
        assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("pop-left"));
    }
}

#[test]
fn output_that_nobody_reads_is_no_error() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_capstan"));
    command.args(["completions", "zsh"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary was built for this test");
    drop(child.stdout.take());
    let mut err = String::new();
    child.stderr.take().expect("it is piped").read_to_string(&mut err).expect("it is UTF-8");
    assert_eq!((child.wait().expect("it ends by itself").code(), err.as_str()), (Some(0), ""));
}

#[test]
fn verdict_of_a_check_stands_wherever_it_cannot_be_written() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("run.jsonl");
    let events = [r#"{"process":1,"type":"invoke","f":"get"}"#, r#"{"process":1,"type":"ok","value":"1"}"#];
    std::fs::write(&file, events.join("\n")).expect("it is ours");
    let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let (reader, closed) = std::io::pipe().expect("a pipe can be made");
    drop(reader);
    for (stdout, html, tells) in [
        (Stdio::from(full), None, "writing the output"),
        (Stdio::from(closed), None, "writing the output"),
        (Stdio::piped(), Some("/dev/full"), "drawing it in /dev/full"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_capstan"));
        command.args(["lab", "check"]).arg(&file).stdout(stdout);
        html.map(|html| command.args(["--html", html]));
        let output = command.output().expect("the binary was built for this test");
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(err.contains(tells), "{err}");
        assert_eq!(output.status.code(), Some(1), "{err}");
    }
}

#[test]
fn up_refuses_a_port_that_is_taken_and_leaves_no_trace() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    // The base below a port that is taken: n1 would listen there.
    let taken = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let port = taken.local_addr().expect("it is bound").port();
    let (base, data) = ((port - 1).to_string(), folder.path().to_string_lossy().into_owned());
    let up = ["up", "--nodes", "1", "--base-port", &base, "--data", &data];
    if port < 65_000 {
        check_fails(&up, "", &format!("cannot listen on 127.0.0.1:{port}"), 2);
        assert!(!folder.path().join("cluster.json").exists());
    }
}

#[test]
fn up_refuses_a_folder_of_something_else() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    std::fs::write(folder.path().join("thesis.txt"), "x").expect("it is ours");
    check_fails(&["up", "--data", &folder.path().to_string_lossy()], "", "thesis.txt", 2);
}

#[test]
fn serve_refuses_addresses_that_nobody_can_connect_to() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let data = folder.path().join("data");
    let serve = ["serve", "--name", "n1", "--data", &data.to_string_lossy()];
    let refused = |more: &[&str], expect: &str| check_fails(&[&serve, more].concat(), "", expect, 2);
    for listen in ["0.0.0.0:7401", "[::]:7401", "0:7401", "0.0.0.0:0"] {
        refused(&["--listen", listen], "add --advertise HOST:PORT");
    }
    let listen = ["--listen", "127.0.0.1:0"];
    for (advertise, expect) in [
        ("n1.example.com", "an address is HOST:PORT"),
        ("n1.example.com:0", "port 0"),
        ("0.0.0.0:7401", "nobody can connect to 0.0.0.0"),
        ("[::]:7401", "nobody can connect to [::]"),
    ] {
        refused(&[&listen[..], &["--advertise", advertise]].concat(), expect);
    }
    for (peers, expect) in [
        ("n1=0.0.0.0:7421,n2=10.0.0.2:7421", "--peers n1=0.0.0.0:7421: nobody can connect to 0.0.0.0"),
        ("n1=10.0.0.1:7421,n2=[::]:7421", "--peers n2=[::]:7421: nobody can connect to [::]"),
        ("n1=10.0.0.1:0,n2=10.0.0.2:7421", "port 0"),
    ] {
        refused(&[&listen[..], &["--peers", peers]].concat(), expect);
    }
    let peers = ["--peers", "n1=10.0.0.1:7421,n2=10.0.0.2:7421"];
    let more = [&peers[..], &["--replicas", "3"]].concat();
    refused(&[&listen[..], &more].concat(), "--peers lists 2 nodes: list more, or ask for fewer");
    for (more, expect) in [
        (&["--listen-peer", "0.0.0.0:7421"][..], "by --advertise-peer HOST:PORT"),
        (&["--listen-peer", "127.0.0.1:0"], "--listen-peer 127.0.0.1:0: nobody can connect to port 0"),
        (&["--advertise-peer", "[::]:7421"], "--advertise-peer [::]:7421: nobody can connect to [::]"),
        (&["--advertise-peer", "here:0", "--listen-peer", "0.0.0.0:7421"], "--advertise-peer here:0: nobody"),
        (&["--zone", "a\nb"], "a zone is 1 to 64 printable characters"),
    ] {
        refused(&[&listen[..], more].concat(), expect);
    }
    assert!(!data.exists(), "nothing was made");
}
