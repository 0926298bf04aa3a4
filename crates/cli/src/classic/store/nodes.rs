//! The nodes of a store as child processes.
//!
//! They have process groups of their own, so that Ctrl-C at the terminal goes to this process only, and the kernel ends them with it.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use kv::keyspace::{Votes, Weighed};
use rustix::process::{Pid, Signal, kill_process};

use super::file::{Node, Store};
use super::ports;
use crate::exit::Error;
use crate::up::restart::{End, Next, Restarts};

/// The nodes, running or about to.
pub struct Nodes(Vec<Process>);

struct Process {
    name: String,
    program: PathBuf,
    arguments: Vec<String>,
    restarts: Restarts,
    state: State,
}

enum State {
    Running { child: Child, since: Instant },
    Waiting { until: Instant },
    Ended,
}

impl Nodes {
    /// Of a file, with a port for each where the others hear it; [`Nodes::tick`] starts them.
    pub fn new(store: &Store, peers: &[u16], data: &Path) -> Result<Nodes, Error> {
        let nodes = &store.nodes;
        let program = std::env::current_exe();
        let program = program.map_err(|error| Error::Usage(format!("finding this program: {error}")))?;
        let peer = |(node, port): (&Node, &u16)| format!("{}=127.0.0.1:{port}", node.name);
        let peers = nodes.iter().zip(peers).map(peer).collect::<Vec<_>>().join(",");
        let process = |node: &Node| Process {
            name: node.name.clone(),
            program: program.clone(),
            arguments: arguments(node, &peers, store.weighed, data),
            restarts: Restarts::default(),
            state: State::Waiting { until: Instant::now() },
        };
        Ok(Nodes(nodes.iter().map(process).collect()))
    }

    /// Starts who is due, takes note of who ended, and tells what happened.
    pub fn tick(&mut self, tell: &mut dyn FnMut(String)) {
        self.0.iter_mut().for_each(|node| node.tick(Instant::now(), tell));
    }

    /// How many nodes will not be started again.
    pub fn given_up(&self) -> usize {
        self.0.iter().filter(|node| matches!(node.state, State::Ended)).count()
    }

    /// Asks all nodes to stop.
    pub fn terminate(&mut self) {
        for node in &mut self.0 {
            match &node.state {
                // One that ended meanwhile is still ours until it was waited for, so the id is nobody else's.
                State::Running { child, .. } => drop(kill_process(Pid::from_child(child), Signal::TERM)),
                State::Waiting { .. } | State::Ended => node.state = State::Ended,
            }
        }
    }

    /// Takes note of who stopped; `true` when all did.
    pub fn stopped(&mut self) -> bool {
        for node in &mut self.0 {
            if let State::Running { child, .. } = &mut node.state
                && !matches!(child.try_wait(), Ok(None))
            {
                node.state = State::Ended;
            }
        }
        self.given_up() == self.0.len()
    }

    /// Ends who did not stop.
    pub fn kill(&mut self) {
        for node in &mut self.0 {
            if let State::Running { child, .. } = &mut node.state {
                // It may have ended this moment.
                let _ = child.kill();
                let _ = child.wait();
                node.state = State::Ended;
            }
        }
    }
}

fn arguments(node: &Node, peers: &str, weighed: Option<Weighed>, data: &Path) -> Vec<String> {
    let folder = data.join(&node.name).display().to_string();
    let (listens, parent) = (ports::here(node).join(","), std::process::id().to_string());
    let options = [
        ("--name", node.name.as_str()),
        ("--data", &folder),
        ("--listen", &listens),
        ("--advertise", &node.reached),
        ("--peers", peers),
        ("--parent", &parent),
    ];
    let weighed = weighed.map(|Weighed { weights, votes: Votes { read, write } }| {
        [("--weights", weights.to_string()), ("--read", read.to_string()), ("--write", write.to_string())]
    });
    let weighed = weighed.iter().flatten().map(|(name, value)| (*name, value.as_str()));
    let words = options.into_iter().chain(weighed).flat_map(|(name, value)| [name, value]);
    ["classic", "store-node"].into_iter().chain(words).map(str::to_owned).collect()
}

impl Process {
    fn tick(&mut self, now: Instant, tell: &mut dyn FnMut(String)) {
        match &mut self.state {
            State::Running { child, since } => match child.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => {
                    let lived = now.duration_since(*since);
                    self.ended(now, lived, status, tell);
                }
                Err(error) => panic!("waiting for a child of this process cannot fail: {error}"),
            },
            State::Waiting { until } if *until <= now => self.start(now, tell),
            State::Waiting { .. } | State::Ended => {}
        }
    }

    fn start(&mut self, now: Instant, tell: &mut dyn FnMut(String)) {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        self.state = match command.spawn() {
            Ok(child) => State::Running { child, since: now },
            Err(error) => {
                tell(format!("starting node {}: {error}", self.name));
                self.after(now, std::time::Duration::ZERO, End::Code(1))
            }
        };
    }

    fn ended(
        &mut self,
        now: Instant,
        lived: std::time::Duration,
        status: ExitStatus,
        tell: &mut dyn FnMut(String),
    ) {
        let (end, how) = match status.code() {
            Some(code) => (End::Code(code), format!("ended with exit code {code}")),
            None => {
                let signal = status.signal().unwrap_or(0);
                (End::Signal(signal), format!("was ended by signal {signal}"))
            }
        };
        self.state = self.after(now, lived, end);
        let next = match &self.state {
            State::Waiting { until } => {
                format!("starting it again in {:.1} s", until.duration_since(now).as_secs_f32())
            }
            State::Running { .. } | State::Ended => {
                "starting it again would not help, so it stays down".into()
            }
        };
        tell(format!("node {} {how}: {next}", self.name));
    }

    fn after(&mut self, now: Instant, lived: std::time::Duration, end: End) -> State {
        match self.restarts.ended(lived, end) {
            Next::After(delay) => State::Waiting { until: now + delay },
            Next::Never => State::Ended,
        }
    }
}
