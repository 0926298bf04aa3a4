//! The nodes of a local cluster as child processes.
//!
//! Their owner must start them from a thread that lives as long as the process: the kernel ends a child with the thread
//! that started it. They have process groups of their own, so that Ctrl-C at the terminal goes to their owner only.

use std::fs::{self, OpenOptions};
use std::io;
use std::net::TcpListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::folder::Fixed;
use super::member::Member;
use super::restart::{End, Next, Restarts};
use super::wait::Taking;
use crate::exit::Error;
use crate::pace::Pace;

/// Checks that nobody else listens where the members will.
pub fn check_ports(members: &[Member]) -> Result<Taking<()>, Error> {
    for member in members {
        for address in [&member.address, &member.peer_address] {
            let Err(error) = TcpListener::bind(address.as_str()) else { continue };
            let why = format!(
                "{} cannot listen on {address}: {error}; stop who does, or choose another --base-port",
                member.name
            );
            return match error.kind() {
                io::ErrorKind::AddrInUse => Ok(Taking::Busy(why)),
                _ => Err(Error::Usage(why)),
            };
        }
    }
    Ok(Taking::Taken(()))
}

/// How nodes are started.
pub struct Launch {
    /// The program: this very one.
    pub program: PathBuf,
    /// The folder of the cluster.
    pub folder: PathBuf,
    /// All members.
    pub members: Vec<Member>,
    /// What holds for all of them.
    pub fixed: Fixed,
    /// How many cores a node gets.
    pub cores: usize,
    /// Memory for entries, as given.
    pub entry_cache: Option<usize>,
    /// How replicas go from node to node.
    pub pace: Pace,
    /// The node that comes back with an empty folder.
    pub rejoin: Option<String>,
    /// What they say on standard error goes to a file, since the terminal belongs to a shell.
    pub quiet: bool,
}

impl Launch {
    /// Starts a node.
    fn start(&self, member: &Member) -> io::Result<Child> {
        let data = self.folder.join(&member.name);
        let mut command = Command::new(&self.program);
        command.args(self.arguments(member)).arg("--data").arg(&data);
        command.stdin(Stdio::null()).process_group(0);
        if self.quiet {
            command.arg("--quiet").stderr(self.log(&data)?);
        }
        // Data is for this process to print.
        command.stdout(Stdio::null()).spawn()
    }

    fn arguments(&self, member: &Member) -> Vec<String> {
        let peers: Vec<String> =
            self.members.iter().map(|peer| format!("{}={}", peer.name, peer.peer_address)).collect();
        let mut arguments: Vec<String> = vec!["serve".into()];
        let mut option = |name: &str, value: String| arguments.extend([format!("--{name}"), value]);
        option("name", member.name.clone());
        option("listen", member.address.clone());
        option("peers", peers.join(","));
        option("engine", self.fixed.engine.to_string());
        option("history", self.fixed.history.to_string());
        option("deleted-history", self.fixed.deleted_history.to_string());
        option("shards", self.fixed.shards.to_string());
        option("cores", self.cores.to_string());
        option("parent", std::process::id().to_string());
        if let Some(bytes) = self.entry_cache {
            option("entry-cache", bytes.to_string());
        }
        self.pace.options().into_iter().for_each(|(name, value)| option(name, value));
        if self.rejoin.as_ref() == Some(&member.name) {
            arguments.push("--rejoin".into());
        }
        arguments
    }

    /// The last line that a node wrote into its file; what it wrote elsewhere is there to be seen.
    fn last_words(&self, member: &Member) -> Option<String> {
        let log = self.folder.join(&member.name).join(LOG);
        let text = self.quiet.then(|| fs::read(log).ok())??;
        String::from_utf8_lossy(&text).lines().next_back().map(Into::into)
    }

    fn log(&self, data: &Path) -> io::Result<Stdio> {
        fs::create_dir_all(data)?;
        Ok(OpenOptions::new().create(true).append(true).open(data.join(LOG))?.into())
    }
}

/// What nodes say on standard error while a shell owns the terminal.
pub const LOG: &str = "stderr.log";

/// The nodes, running or about to.
pub struct Nodes {
    launch: Launch,
    nodes: Vec<Node>,
}

struct Node {
    member: Member,
    state: State,
    restarts: Restarts,
}

enum State {
    Running { child: Child, since: Instant },
    Waiting { until: Instant },
    GivenUp,
}

impl Nodes {
    /// The nodes of a launch; [`Nodes::tick`] starts them.
    pub fn new(launch: Launch) -> Nodes {
        let now = Instant::now();
        let node = |member: &Member| Node {
            member: member.clone(),
            state: State::Waiting { until: now },
            restarts: Restarts::default(),
        };
        let nodes = launch.members.iter().map(node).collect();
        Nodes { launch, nodes }
    }

    /// Starts who is due, takes note of who ended, and tells what happened.
    pub fn tick(&mut self, now: Instant, tell: &mut dyn FnMut(String)) {
        for node in &mut self.nodes {
            match &mut node.state {
                State::Running { child, since } => match child.try_wait() {
                    Ok(None) => {}
                    Ok(Some(status)) => {
                        let lived = now.duration_since(*since);
                        node.ended(&self.launch, now, lived, status, tell);
                    }
                    Err(error) => panic!("waiting for a child of this process cannot fail: {error}"),
                },
                State::Waiting { until } if *until <= now => node.start(&self.launch, now, tell),
                State::Waiting { .. } | State::GivenUp => {}
            }
        }
    }

    /// Process ids by name; `None` while a node does not run.
    pub fn pids(&self) -> Vec<(&Member, Option<u32>)> {
        self.nodes.iter().map(|node| (&node.member, node.pid())).collect()
    }

    /// How many nodes will not be started again.
    pub fn given_up(&self) -> usize {
        self.nodes.iter().filter(|node| matches!(node.state, State::GivenUp)).count()
    }

    /// Whether a node will not be started again.
    pub fn has_given_up(&self, name: &str) -> bool {
        self.nodes.iter().any(|node| node.member.name == name && matches!(node.state, State::GivenUp))
    }

    /// Asks all nodes to stop.
    pub fn terminate(&mut self) {
        for node in &mut self.nodes {
            match &node.state {
                // One that ended meanwhile is still ours until it was waited for, so the id is nobody else's.
                State::Running { child, .. } => drop(kill_process(Pid::from_child(child), Signal::TERM)),
                State::Waiting { .. } | State::GivenUp => node.state = State::GivenUp,
            }
        }
    }

    /// Takes note of who stopped; `true` when all did.
    pub fn stopped(&mut self) -> bool {
        for node in &mut self.nodes {
            if let State::Running { child, .. } = &mut node.state
                && !matches!(child.try_wait(), Ok(None))
            {
                node.state = State::GivenUp;
            }
        }
        self.given_up() == self.nodes.len()
    }

    /// Ends who did not stop.
    pub fn kill(&mut self) {
        for node in &mut self.nodes {
            if let State::Running { child, .. } = &mut node.state {
                // It may have ended this moment.
                let _ = child.kill();
                let _ = child.wait();
                node.state = State::GivenUp;
            }
        }
    }
}

impl Node {
    fn start(&mut self, launch: &Launch, now: Instant, tell: &mut dyn FnMut(String)) {
        self.state = match launch.start(&self.member) {
            Ok(child) => State::Running { child, since: now },
            Err(error) => {
                tell(format!("starting node {}: {error}", self.member.name));
                self.after(now, Duration::ZERO, End::Code(1))
            }
        };
    }

    fn ended(
        &mut self,
        launch: &Launch,
        now: Instant,
        lived: Duration,
        status: ExitStatus,
        tell: &mut dyn FnMut(String),
    ) {
        let end = match status.code() {
            Some(code) => End::Code(code),
            None => End::Signal(status.signal().unwrap_or(0)),
        };
        let how = match end {
            End::Code(code) => format!("ended with exit code {code}"),
            End::Signal(signal) => format!("was ended by signal {signal}"),
        };
        self.state = self.after(now, lived, end);
        let name = &self.member.name;
        tell(match &self.state {
            State::Waiting { until } => {
                let delay = until.duration_since(now).as_secs_f32();
                format!("node {name} {how}; starting it again in {delay:.1} s")
            }
            _ => format!("node {name} {how}: starting it again would not help, so it stays down"),
        });
        // One that was killed had no time for words: the last ones are of old.
        let words = if let End::Code(_) = end { launch.last_words(&self.member) } else { None };
        if let Some(words) = words {
            tell(format!("{name}: {words}"));
        }
    }

    fn after(&mut self, now: Instant, lived: Duration, end: End) -> State {
        match self.restarts.ended(lived, end) {
            Next::After(delay) => State::Waiting { until: now + delay },
            Next::Never => State::GivenUp,
        }
    }

    fn pid(&self) -> Option<u32> {
        match &self.state {
            State::Running { child, .. } => Some(child.id()),
            State::Waiting { .. } | State::GivenUp => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::member::members;
    use super::*;
    use crate::parse::{Deleted, Engine, History};

    fn launch(program: &str) -> Launch {
        Launch {
            program: program.into(),
            folder: "/nowhere".into(),
            members: members(3, 7400),
            fixed: Fixed {
                nodes: 3,
                engine: Engine::Memory,
                history: History::All,
                deleted_history: Deleted::USUAL,
                shards: 6,
            },
            cores: 2,
            entry_cache: Some(1024),
            pace: Pace { moves_max: Some(4), ..Pace::default() },
            rejoin: Some("n3".into()),
            quiet: false,
        }
    }

    #[test]
    fn arguments_name_every_option() {
        let launch = launch("capstan");
        let parent = std::process::id();
        let expect = format!(
            "serve --name n2 --listen 127.0.0.1:7402 \
             --peers n1=127.0.0.1:7421,n2=127.0.0.1:7422,n3=127.0.0.1:7423 \
             --engine memory --history all --deleted-history 5m --shards 6 --cores 2 --parent {parent} --entry-cache 1024 --moves-max 4"
        );
        assert_eq!(launch.arguments(&launch.members[1]).join(" "), expect);
        assert!(launch.arguments(&launch.members[2]).ends_with(&["--rejoin".to_string()]));
    }

    #[test]
    fn port_that_is_taken_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let member =
            Member { name: "n1".into(), address: address.clone(), peer_address: "127.0.0.1:0".into() };
        let taken = check_ports(&[member]).unwrap();
        assert!(matches!(&taken, Taking::Busy(why) if why.contains(&address)), "{taken:?}");
    }

    #[test]
    fn node_that_cannot_be_started_is_tried_again() {
        let mut nodes = Nodes::new(launch("/nowhere/capstan"));
        let mut told = Vec::new();
        let now = Instant::now();
        nodes.tick(now, &mut |text| told.push(text));
        nodes.tick(now, &mut |text| told.push(text));
        assert_eq!(told.len(), 3, "{told:?}");
        nodes.tick(now + Duration::from_secs(1), &mut |text| told.push(text));
        assert_eq!((told.len(), nodes.given_up()), (6, 0), "{told:?}");
        nodes.terminate();
        assert!(nodes.stopped());
    }
}
