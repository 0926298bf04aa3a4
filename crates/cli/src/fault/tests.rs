//! The commands, on three nodes that are none.

use kv::cluster::Status;
use kv::fault::{Fault, Faults};

use super::*;
use crate::connect;
use crate::fake::{Operated, node};
use crate::options::Options;

fn status() -> Status {
    Status { nodes: (1..=3).map(node).collect(), ..Status::default() }
}

fn lab(cluster: Operated, lab: bool) -> Operated {
    cluster.with_faults(move |address, fault| {
        let name = format!("n{}", address.bytes().last().unwrap() - b'0');
        let cut = match fault {
            Some(Fault::Cut { from }) => from.clone(),
            _ => Vec::new(),
        };
        Ok(Faults { node: name, lab, slow_micros: 0, cut })
    })
}

fn operated() -> Operated {
    Operated::new([status()], [Ok(kv::admin::Answer::Done)])
}

fn run_on(cluster: &Operated, command: &Command) -> (Result<Code, Error>, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut output = Output { out: &mut out, err: &mut err, terminal: false, json: false };
    let ended = connect::runtime().block_on(run(command, cluster, &Options::default(), &mut output));
    (ended, String::from_utf8(err).unwrap())
}

fn partition(one: &[&str], other: &[&str]) -> Command {
    let names = |side: &[&str]| side.iter().map(ToString::to_string).collect();
    Command::Partition { sides: Sides { one: names(one), other: names(other) } }
}

fn cut(from: &[&str]) -> Fault {
    Fault::Cut { from: from.iter().map(ToString::to_string).collect() }
}

#[test]
fn partition_is_told_to_each_node_of_both_sides_at_its_own_address() {
    let cluster = lab(operated(), true);
    let (ended, told) = run_on(&cluster, &partition(&["n1"], &["n2", "n3"]));
    assert_eq!(ended.unwrap(), Code::Done);
    assert_eq!(told, "nothing passes between n1 and n2, n3 until 'fault heal'; clients reach all of them\n");
    let address = |number: u16| format!("127.0.0.1:{}", 7400 + number);
    let put: Vec<_> = cluster.faults().into_iter().filter_map(|(at, fault)| Some((at, fault?))).collect();
    assert_eq!(
        put,
        [(address(1), cut(&["n2", "n3"])), (address(2), cut(&["n1"])), (address(3), cut(&["n1"]))]
    );
}

#[test]
fn fault_on_a_cluster_that_is_no_lab_changes_nothing_and_says_what_to_do() {
    let cluster = lab(operated(), false);
    for command in [Command::Kill { node: "n2".into() }, partition(&["n1"], &["n2"])] {
        let error = run_on(&cluster, &command).0.unwrap_err();
        assert_eq!(error.code(), Code::Usage);
        assert!(error.to_string().contains("'capstan up --lab'"), "{error}");
    }
    assert!(cluster.faults().iter().all(|(_, fault)| fault.is_none()), "it was only asked");
}

#[test]
fn node_that_is_none_is_said_with_those_that_there_are() {
    let cluster = lab(operated(), true);
    for command in [Command::Restore { node: "n9".into() }, partition(&["n1"], &["n9"])] {
        let error = run_on(&cluster, &command).0.unwrap_err();
        assert_eq!(error.code(), Code::Usage);
        assert_eq!(error.to_string(), "no node is named 'n9': there are n1, n2, n3");
    }
    assert_eq!(cluster.faults(), []);
}

fn away(cluster: Operated) -> Operated {
    cluster.with_faults(|address, _| match address.ends_with('3') {
        true => Err(kv::Error::Unavailable("cannot connect".into())),
        false => Ok(Faults { node: "n1".into(), lab: true, ..Faults::default() }),
    })
}

#[test]
fn partition_with_a_node_that_cannot_be_asked_is_put_on_none() {
    let cluster = away(operated());
    let error = run_on(&cluster, &partition(&["n1", "n2"], &["n3"])).0.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.to_string().ends_with("nothing is changed"), "{error}");
    assert!(cluster.faults().iter().all(|(_, fault)| fault.is_none()));
}

#[test]
fn heal_reaches_all_that_can_be_asked_and_says_who_cannot() {
    let cluster = away(operated());
    let error = run_on(&cluster, &Command::Heal).0.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.to_string().starts_with("n3: cannot connect; it is done at"), "{error}");
    assert_eq!(cluster.faults().len(), 3);
}

#[test]
fn sentences_say_each_fault() {
    let faults =
        Faults { node: "n2".into(), lab: true, slow_micros: 1_500_000, cut: vec!["n1".into(), "n3".into()] };
    assert_eq!(
        sentences(&faults),
        ["n2 is slow: its responses leave 1.5 s late", "n2 is cut off from n1, n3"]
    );
    assert_eq!(sentences(&Faults::default()), [""; 0]);
}
