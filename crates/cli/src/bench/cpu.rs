//! What processes of this machine take of its processors: user and system time of all their threads, as the kernel counts it.
//!
//! # Caveats
//!
//! The kernel counts in ticks, of 10 ms as a rule: a run of a second is right within some percent. A node counts as one of this
//! machine when its address is, and its process has a name that begins with `capstan`; a node in a container with process ids of
//! its own may be taken for one that is elsewhere.

use std::fs;
use std::net::{ToSocketAddrs, UdpSocket};
use std::time::Duration;

use kv::cluster::Status;

/// A process to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its name in what is printed.
    pub name: String,
    /// `None` = it is not on this machine.
    pub pid: Option<u32>,
}

/// What a process took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// So much time of a processor.
    Time(Duration),
    /// It is on another machine.
    Elsewhere,
    /// It ended meanwhile, or had ended before.
    Ended,
}

/// Counts from its start, lap by lap.
#[derive(Clone)]
pub struct Meter(Vec<(Process, Option<Reading>)>);

impl Meter {
    /// Begins to count.
    pub fn start(processes: Vec<Process>) -> Meter {
        Meter(processes.into_iter().map(|process| (process.clone(), process.pid.and_then(read))).collect())
    }

    /// What each process took since the start or the last lap, in their order; the next lap begins here.
    pub fn lap(&mut self) -> Vec<(Process, Taken)> {
        let taken = |(process, before): &mut (Process, Option<Reading>)| {
            let now = process.pid.and_then(read);
            let taken = match (process.pid, std::mem::replace(before, now), now) {
                (None, _, _) => Taken::Elsewhere,
                (Some(_), Some(before), Some(now)) if now.born == before.born => {
                    Taken::Time(time(now.ticks - before.ticks))
                }
                _ => Taken::Ended,
            };
            (process.clone(), taken)
        };
        self.0.iter_mut().map(taken).collect()
    }
}

/// The processes of a cluster's nodes.
pub fn nodes(status: &Status) -> Vec<Process> {
    let nodes = status.nodes.iter();
    let process = |node: &kv::cluster::NodeStatus| Process {
        name: node.name.clone(),
        pid: Some(node.pid).filter(|&pid| is_here(&node.address) && is_node(pid)),
    };
    nodes.map(process).collect()
}

/// Whether HOST:PORT is of this machine: then a socket can be bound to that host.
fn is_here(address: &str) -> bool {
    let Ok(mut addresses) = address.to_socket_addrs() else { return false };
    addresses.any(|address| UdpSocket::bind((address.ip(), 0)).is_ok())
}

/// Whether the process is one of this program, by its name. No process has the number 0.
fn is_node(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("capstan"))
}

/// What a process has taken since it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reading {
    ticks: u64,
    /// When it began: another process may get its number.
    born: u64,
}

fn read(pid: u32) -> Option<Reading> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Reads a line of /proc/PID/stat, see proc(5): fields 14 and 15 are user and system time, field 22 the start. The second is a
/// name in brackets that may hold anything.
fn parse(stat: &str) -> Option<Reading> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Reading { ticks: field(14)? + field(15)?, born: field(22)? })
}

fn time(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use kv::cluster::NodeStatus;

    use super::*;

    #[test]
    fn stat_is_read_whatever_the_name() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 200 0 0 0 31 11 0 0 20 0 4 0 7777 1 2 3";
        assert_eq!(parse(stat), Some(Reading { ticks: 42, born: 7777 }));
        assert_eq!(parse("42 (short) S 1 42"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn meter_counts_what_this_process_takes() {
        let here = Process { name: "here".into(), pid: Some(std::process::id()) };
        let mut meter = Meter::start(vec![here.clone(), Process { name: "far".into(), pid: None }]);
        let mut laps = meter.clone();
        // Until the kernel has counted some.
        let before = read(std::process::id()).expect("it lives").ticks;
        while read(std::process::id()).expect("it lives").ticks < before + 2 {}
        let first = laps.lap();
        while read(std::process::id()).expect("it lives").ticks < before + 8 {}
        let (last, taken) = (laps.lap(), meter.lap());
        let time = |taken: &[(Process, Taken)]| match taken[0].1 {
            Taken::Time(time) => time,
            other => panic!("it lives: {other:?}"),
        };
        assert!(time(&first) + time(&last) <= time(&taken), "a lap begins where the last one ended");
        assert!(time(&last) < time(&taken));
        assert_eq!(taken[0].0, here);
        assert!(matches!(taken[0].1, Taken::Time(time) if time > Duration::ZERO), "{taken:?}");
        assert_eq!(taken[1].1, Taken::Elsewhere);
    }

    #[test]
    fn process_that_ends_is_not_counted() {
        let mut child = Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let process = Process { name: "child".into(), pid: Some(child.id()) };
        let mut meter = Meter::start(vec![process.clone()]);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(meter.lap(), [(process.clone(), Taken::Ended)]);
        assert_eq!(Meter::start(vec![process.clone()]).lap(), [(process, Taken::Ended)]);
    }

    #[test]
    fn node_is_of_this_machine_by_address_and_name() {
        assert!(is_here("127.0.0.1:7401") && is_here("localhost:1"));
        assert!(!is_here("192.0.2.1:7401") && !is_here(""), "an address for documents is nobody's");
        let node = |address: &str, pid| NodeStatus { address: address.into(), pid, ..crate::fake::node(1) };
        // This process is a test, and no node.
        for node in [node("127.0.0.1:1", std::process::id()), node("192.0.2.1:1", 1), node("127.0.0.1:1", 0)]
        {
            let status = Status { nodes: vec![node], ..Status::default() };
            assert_eq!(nodes(&status), [Process { name: "n1".into(), pid: None }]);
        }
    }
}
