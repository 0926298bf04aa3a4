//! What people type, the command files of pair clients, the file of a node's settings, and that of a local cluster, as plain functions over bytes, for the crate `fuzz`.

use std::collections::BTreeSet;
use std::fmt::{Debug, Display};
use std::str::FromStr;

use reedline::Completer;
use server::Listen;

use crate::classic::line::{self as pair, Line};
use crate::classic::store::file as store;
use crate::data::txn;
use crate::serve::file::{self, Wrong};
use crate::shell::{complete, line};
use crate::up::roster;
use crate::{escape, parse, words};

/// The file of a store: what is wrong is said on one line, and what is right are nodes with names and ports of their own, and a master or
/// weights.
pub fn store(bytes: &[u8]) {
    match store::decode(bytes) {
        Ok(store::Store { nodes, weighed }) => {
            let names: BTreeSet<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
            let ports: BTreeSet<u16> = nodes.iter().map(|node| node.port).collect();
            assert_eq!((names.len(), ports.len()), (nodes.len(), nodes.len()));
            assert!(nodes.iter().all(|node| parse::address(&node.reached).is_ok()));
            match weighed {
                None => assert!(nodes.len() > 1 && nodes[0].name == "master"),
                Some(weighed) => {
                    assert_eq!(usize::from(weighed.weights.count()), nodes.len());
                    assert_eq!(weighed.votes.check(&weighed.weights.each()), Ok(()));
                }
            }
        }
        Err(why) => assert_eq!(why.lines().count(), 1, "{why}"),
    }
}

/// A line of the shell; and its completion wherever the cursor stands.
pub fn line(bytes: &[u8]) {
    if let Ok(words) = words::split(bytes) {
        let _ = line::parse(words);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut completion = complete::Words::new(line::definition(), Box::new(Vec::new));
    for (at, _) in text.char_indices() {
        completion.complete(text, at);
    }
    completion.complete(text, text.len());
}

/// A condition or an op of a transaction.
pub fn transaction(bytes: &[u8]) {
    let _ = txn::condition(bytes);
    if let Ok(op) = txn::op(bytes) {
        let _ = op.validate();
    }
}

/// The small notations.
pub fn notation(bytes: &[u8]) {
    let _ = escape::read(bytes.to_vec().into());
    let written = escape::write(bytes).into_owned();
    assert_eq!(escape::read(written.into()).as_deref(), Ok(bytes));
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = (parse::duration(text), parse::timeout(text), parse::deadline(text), parse::size(text));
    let _ = (parse::address(text), parse::name(text), parse::peer(text));
    let _ = (parse::shards(text), parse::replicas(text), parse::cores(text));
    printed_parses::<parse::History>(text);
    printed_parses::<kv::Version>(text);
    printed_parses::<kv::Level>(text);
    printed_parses::<kv::Protocol>(text);
}

fn printed_parses<T: FromStr<Err = String> + Display + PartialEq + Debug>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string().parse(), Ok(value));
    }
}

/// The file of `serve --config`: what is wrong has its line, and what is right has no two listeners in one place.
pub fn config(bytes: &[u8]) {
    match file::decode(bytes) {
        Ok(file) => {
            let places: BTreeSet<&str> =
                file.listeners.iter().map(|listen| listen.address.as_str()).collect();
            let is_any = |listen: &&Listen| {
                listen.address.rsplit_once(':').is_some_and(|(_, port)| port.parse() == Ok(0))
            };
            let any = file.listeners.iter().filter(is_any).count();
            assert!(places.len() + any >= file.listeners.len(), "{:?}", file.listeners);
        }
        Err(Wrong { line, why }) => {
            let lines = bytes.split(|byte| *byte == b'\n').count();
            assert!((1..=lines).contains(&line) && !why.is_empty(), "line {line} of {lines}: {why}");
        }
    }
}

/// A line of a command file for pair clients: what is read of one is what it says.
pub fn pairs(bytes: &[u8]) {
    let read = pair::pair(bytes);
    let written = match &read {
        Line::Insert(key, text) => {
            assert!(text.len() <= kv::VALUE_BYTES_MAX);
            format!("I,{key},{text}\r")
        }
        Line::Consult(key) => format!("C,{key}"),
        Line::Activate(host) => format!("A,{host}"),
        Line::Terminate => "T".into(),
        Line::Ignored => String::new(),
        Line::Wrong(why) => return assert!(!why.is_empty()),
    };
    assert_eq!(pair::pair(written.as_bytes()), read);
    let is_asked = matches!(read, Line::Consult(_) | Line::Terminate);
    assert_eq!(pair::central(bytes), if is_asked { read } else { Line::Ignored });
}

/// `cluster.json`.
pub fn cluster(bytes: &[u8]) {
    if let Ok(cluster) = roster::parse(bytes) {
        assert_eq!(roster::parse(roster::encode(&cluster).as_bytes()), Ok(cluster));
    }
}
