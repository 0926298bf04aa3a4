//! A node that can be reached can be stopped.
//!
//! One test of a process of its own: what becomes of a signal is the same for all that a process does.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use dialects::native::Native;
use rustix::process::{Signal, getpid, kill_process};
use server::{Config, Kind, Listen, Moves};

/// How long a node may take to end on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn signals_are_listened_to_before_a_port_is_open() {
    assert_eq!(caught(), [false, false]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    assert!(server::run(config(&address)).is_err(), "the port is another's");
    assert_eq!(caught(), [true, true], "its port was not open yet");
    drop(taken);

    for signal in [Signal::TERM, Signal::INT] {
        let (config, (said, ended)) = (config(&address), mpsc::channel());
        thread::spawn(move || said.send(server::run(config).map_err(|failure| failure.to_string())));
        // However early it comes, from the first connection on.
        while TcpStream::connect(&address).is_err() {
            thread::yield_now();
        }
        kill_process(getpid(), signal).unwrap();
        assert_eq!(ended.recv_timeout(PATIENCE).expect("it ends"), Ok(()), "{signal:?}");
    }
}

/// Whether this process has something to do when it is sent a SIGTERM, and a SIGINT.
fn caught() -> [bool; 2] {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    let mask = u64::from_str_radix(mask.trim(), 16).unwrap();
    [Signal::TERM, Signal::INT].map(|signal| mask & (1 << (signal.as_raw() - 1)) != 0)
}

/// A node alone, that keeps nothing.
fn config(listen: &str) -> Config {
    Config {
        by_zones: false,
        ends_when_left: false,
        bus: Default::default(),
        name: "n1".into(),
        data: None,
        listen: vec![Listen::new(Arc::new(Native::new()), listen)],
        peers: Vec::new(),
        join: Vec::new(),
        advertise_peer: None,
        listen_peer: None,
        zone: None,
        engine: Kind::Memory,
        history: None,
        deleted_micros: None,
        shards: Some(1),
        replicas: None,
        cores: Some(1),
        entry_cache_bytes: Config::ENTRY_CACHE_BYTES,
        moves: Moves::default(),
        checkpoint_bytes: Config::CHECKPOINT_BYTES_MIN,
        protocol: None,
        weighed: None,
        lab: false,
        stderr: server::Stderr::Nothing,
    }
}
