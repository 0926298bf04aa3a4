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

use super::folder;
use super::member::{Came, Member};
use super::restart::{End, Next, Restarts};
use super::roster::Fixed;
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
    /// Those who founded the cluster.
    pub founders: Vec<Member>,
    /// All members.
    pub members: Vec<Member>,
    /// What holds for all of them.
    pub fixed: Fixed,
    /// How many cores a node gets.
    pub cores: usize,
    /// Memory for entries, as given.
    pub entry_cache: Option<usize>,
    /// They take faults.
    pub lab: bool,
    /// How replicas go from node to node.
    pub pace: Pace,
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
        let mut arguments: Vec<String> = vec!["serve".into()];
        let mut option = |name: &str, value: String| arguments.extend([format!("--{name}"), value]);
        option("name", member.name.clone());
        option("listen", member.address.clone());
        match member.came {
            Came::Founded => {
                let peer = |peer: &Member| format!("{}={}", peer.name, peer.peer_address);
                option("peers", self.founders.iter().map(peer).collect::<Vec<_>>().join(","));
                option("history", self.fixed.history.to_string());
                option("deleted-history", self.fixed.deleted_history.to_string());
                option("shards", self.fixed.shards.to_string());
                option("replicas", self.fixed.replicas.to_string());
            }
            // What is fixed for all, the others say.
            Came::Joined => {
                let others = self.members.iter().filter(|other| other.name != member.name);
                let addresses: Vec<&str> = others.map(|other| other.address.as_str()).collect();
                option("listen-peer", member.peer_address.clone());
                option("join", addresses.join(","));
            }
        }
        option("engine", self.fixed.engine.to_string());
        option("cores", self.cores.to_string());
        option("parent", std::process::id().to_string());
        if let Some(bytes) = self.entry_cache {
            option("entry-cache", bytes.to_string());
        }
        self.pace.options().into_iter().for_each(|(name, value)| option(name, value));
        arguments.extend(self.lab.then(|| "--lab".into()));
        arguments
    }

    /// What to do about a node whose folder is gone.
    fn lost(&self, member: &Member) -> String {
        let Member { name, .. } = member;
        let folder = self.folder.join(name);
        format!(
            "node {name} is not started: its folder {} is gone, and with it what it had promised to the others. Put the folder \
             back; or give it up by 'capstan cluster replace {name}', and it joins again as a new node of this name",
            folder.display()
        )
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
    /// It has left the cluster, and is not started again.
    has_left: bool,
}

enum State {
    Running {
        child: Child,
        since: Instant,
    },
    Waiting {
        until: Instant,
    },
    /// Its folder is gone.
    Lost,
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
            has_left: false,
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
                State::Waiting { .. } | State::Lost | State::GivenUp => {}
            }
        }
        self.nodes.retain(|node| !node.has_left || matches!(node.state, State::Running { .. }));
    }

    /// Takes note that a node belongs to the cluster: what its folder holds cannot be made up.
    pub fn came(&mut self, number: u16) {
        self.nodes
            .iter_mut()
            .filter(|node| node.member.number == number)
            .for_each(|node| node.member.has_been = true);
    }

    /// Whether a node's folder is gone.
    pub fn is_lost(&self, number: u16) -> bool {
        let is_it = |node: &Node| node.member.number == number && matches!(node.state, State::Lost);
        self.nodes.iter().any(is_it)
    }

    /// Starts a node whose folder is gone as a new one, which joins.
    pub fn join_anew(&mut self, number: u16, now: Instant) {
        for node in self.nodes.iter_mut().filter(|node| node.member.number == number) {
            node.member.came = Came::Joined;
            node.member.has_been = false;
            node.state = State::Waiting { until: now };
        }
    }

    /// Stops a node that has left the cluster. It is none of these any more when it has ended.
    pub fn dismiss(&mut self, number: u16) {
        for node in self.nodes.iter_mut().filter(|node| node.member.number == number) {
            node.has_left = true;
            node.terminate();
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// Process ids; `None` while a node does not run.
    pub fn pids(&self) -> Vec<(&Member, Option<u32>)> {
        self.nodes.iter().map(|node| (&node.member, node.pid())).collect()
    }

    /// How many nodes will not be started again.
    pub fn given_up(&self) -> usize {
        self.nodes.iter().filter(|node| node.is_given_up()).count()
    }

    /// Whether a node will not be started again.
    pub fn has_given_up(&self, name: &str) -> bool {
        self.nodes.iter().any(|node| node.member.name == name && node.is_given_up())
    }

    /// Asks all nodes to stop.
    pub fn terminate(&mut self) {
        self.nodes.iter_mut().for_each(Node::terminate);
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
    fn is_given_up(&self) -> bool {
        matches!(self.state, State::Lost | State::GivenUp)
    }

    fn terminate(&mut self) {
        match &self.state {
            // One that ended meanwhile is still ours until it was waited for, so the id is nobody else's.
            State::Running { child, .. } => drop(kill_process(Pid::from_child(child), Signal::TERM)),
            State::Waiting { .. } | State::Lost | State::GivenUp => self.state = State::GivenUp,
        }
    }

    fn start(&mut self, launch: &Launch, now: Instant, tell: &mut dyn FnMut(String)) {
        if folder::is_lost(&launch.folder, &self.member) {
            self.state = State::Lost;
            tell(launch.lost(&self.member));
            return;
        }
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
        if self.has_left {
            self.state = State::GivenUp;
            return;
        }
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
            State::Waiting { .. } | State::Lost | State::GivenUp => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::member::Entry;
    use super::*;
    use crate::parse::{Deleted, Engine, History};

    fn member(number: u16, came: Came) -> Member {
        Member::new(number, Entry::new(came), 7400)
    }

    fn launch(program: &str) -> Launch {
        let founders: Vec<Member> = (1..=3).map(|number| member(number, Came::Founded)).collect();
        Launch {
            program: program.into(),
            folder: "/nowhere".into(),
            members: [&founders[..], &[member(4, Came::Joined)]].concat(),
            founders,
            fixed: Fixed {
                engine: Engine::Memory,
                history: History::All,
                deleted_history: Deleted::USUAL,
                shards: 6,
                replicas: 2,
            },
            cores: 2,
            entry_cache: Some(1024),
            lab: true,
            pace: Pace { moves_max: Some(4), ..Pace::default() },
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
             --history all --deleted-history 5m --shards 6 --replicas 2 \
             --engine memory --cores 2 --parent {parent} --entry-cache 1024 --moves-max 4 --lab"
        );
        assert_eq!(launch.arguments(&launch.members[1]).join(" "), expect);
        let expect = format!(
            "serve --name n4 --listen 127.0.0.1:7404 --listen-peer 127.0.0.1:7424 \
             --join 127.0.0.1:7401,127.0.0.1:7402,127.0.0.1:7403 \
             --engine memory --cores 2 --parent {parent} --entry-cache 1024 --moves-max 4 --lab"
        );
        assert_eq!(launch.arguments(&launch.members[3]).join(" "), expect);
    }

    #[test]
    fn port_that_is_taken_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let there = Member {
            address: address.clone(),
            peer_address: "127.0.0.1:0".into(),
            ..member(1, Came::Founded)
        };
        let taken = check_ports(&[there]).unwrap();
        assert!(matches!(&taken, Taking::Busy(why) if why.contains(&address)), "{taken:?}");
    }

    #[test]
    fn node_that_cannot_be_started_is_tried_again() {
        let mut nodes = Nodes::new(launch("/nowhere/capstan"));
        let mut told = Vec::new();
        let now = Instant::now();
        nodes.tick(now, &mut |text| told.push(text));
        nodes.tick(now, &mut |text| told.push(text));
        assert_eq!(told.len(), 4, "{told:?}");
        nodes.tick(now + Duration::from_secs(1), &mut |text| told.push(text));
        assert_eq!((told.len(), nodes.given_up()), (8, 0), "{told:?}");
        nodes.terminate();
        assert!(nodes.stopped());
    }

    #[test]
    fn node_whose_folder_is_gone_is_not_started_until_it_joins_anew() {
        let mut launch = launch("/nowhere/capstan");
        launch.members[1].has_been = true;
        let (mut nodes, mut told) = (Nodes::new(launch), Vec::new());
        let now = Instant::now();
        nodes.tick(now, &mut |text| told.push(text));
        let lost: Vec<&String> = told.iter().filter(|text| text.contains("cluster replace n2")).collect();
        assert_eq!((lost.len(), nodes.is_lost(2), nodes.is_lost(1)), (1, true, false), "{told:?}");
        assert!(nodes.has_given_up("n2") && nodes.given_up() == 1, "nobody waits for it");
        nodes.join_anew(2, now);
        assert!(!nodes.is_lost(2) && nodes.given_up() == 0);
        let member = &nodes.nodes[1].member;
        assert!(nodes.launch.arguments(member).contains(&"--join".into()));
    }

    #[test]
    fn node_that_has_left_is_none_of_them_any_more() {
        let mut nodes = Nodes::new(launch("/nowhere/capstan"));
        nodes.dismiss(3);
        nodes.tick(Instant::now(), &mut drop);
        assert_eq!((nodes.count(), nodes.given_up()), (3, 0));
    }
}
