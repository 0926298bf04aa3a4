//! A cluster of real processes in a folder of its own.
//!
//! Its nodes are run by `capstan up`, or one by one by the test itself, which may then give each other options and another
//! environment. When the test fails, the seed and the ends of the journals are printed. Whatever happens, no process
//! stays behind.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

pub use crate::random::Random;

/// The program under test.
pub const CAPSTAN: &str = env!("CARGO_BIN_EXE_capstan");
/// How long something may take that takes a second on a machine with nothing else to do.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How often is looked.
const LOOK: Duration = Duration::from_millis(20);
/// Lines of a journal that are printed after a failure.
const TAIL_LINES: usize = 40;

/// Whether the tests run at full size.
pub fn is_full() -> bool {
    std::env::var_os("CAPSTAN_LAB_FULL").is_some_and(|value| value != "0")
}

/// The size of a test: of the suite, or in full.
pub fn size<T>(suite: T, full: T) -> T {
    if is_full() { full } else { suite }
}

/// Runs a test: prints its seed, gives it the random numbers and a runtime.
pub fn run<F: Future<Output = ()>>(test: impl FnOnce(Random) -> F) {
    let from_environment = std::env::var("CAPSTAN_LAB_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = from_environment.unwrap_or_else(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        since.as_micros() as u64
    });
    println!("CAPSTAN_LAB_SEED={seed}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test(Random::new(seed)));
}

/// Looks again and again until it holds.
pub async fn until<F: Future<Output = bool>>(what: &str, patience: Duration, mut holds: impl FnMut() -> F) {
    let end = Instant::now() + patience;
    while !holds().await {
        assert!(Instant::now() < end, "not within {patience:?}: {what}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Where a node is that does not run here like the others. What is left out is as for the others.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// Its data folder.
    pub folder: Option<PathBuf>,
    /// The address where it is reached.
    pub host: Option<String>,
    /// The address on which it listens for clients, where that is another one.
    pub listens: Option<String>,
    /// The words in front of its command that put it there.
    pub enter: Vec<String>,
}

/// A cluster.
pub struct Lab {
    home: TempDir,
    data: PathBuf,
    nodes: u16,
    base_port: u16,
    options: Vec<String>,
    environment: BTreeMap<u16, Vec<(String, String)>>,
    places: BTreeMap<u16, Place>,
    up: Option<Child>,
    children: BTreeMap<u16, Child>,
}

impl Lab {
    /// Of so many nodes, none of which runs yet. The options are for `up` and for each node.
    pub fn new(nodes: u16, options: &[&str], random: &mut Random) -> Lab {
        let home = tempfile::Builder::new().prefix("capstan-lab-").tempdir().unwrap();
        Lab {
            data: home.path().join("data"),
            home,
            nodes,
            // Some more, for nodes that join.
            base_port: free_base_port(nodes + 3, random),
            options: options.iter().map(ToString::to_string).collect(),
            environment: BTreeMap::new(),
            places: BTreeMap::new(),
            up: None,
            children: BTreeMap::new(),
        }
    }

    /// Has so many nodes from now on, of those whose ports were taken.
    pub fn set_nodes(&mut self, nodes: u16) {
        self.nodes = nodes;
    }

    /// Puts the data elsewhere.
    pub fn set_data(&mut self, data: &Path) {
        self.data = data.to_path_buf();
    }

    /// Puts a node that the test runs itself elsewhere.
    pub fn set_place(&mut self, node: u16, place: Place) {
        self.places.insert(node, place);
    }

    /// Sets the environment of a node that the test runs itself.
    pub fn set_environment(&mut self, node: u16, variables: &[(&str, &str)]) {
        let variables = variables.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        self.environment.insert(node, variables.collect());
    }

    /// A folder for what the test itself needs.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The folder of the cluster.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The data folder of a node.
    pub fn folder(&self, node: u16) -> PathBuf {
        let place = self.places.get(&node).and_then(|place| place.folder.clone());
        place.unwrap_or_else(|| self.data.join(format!("n{node}")))
    }

    /// The numbers of all nodes.
    pub fn all(&self) -> std::ops::RangeInclusive<u16> {
        1..=self.nodes
    }

    /// The port below those of the nodes.
    pub fn base_port(&self) -> u16 {
        self.base_port
    }

    /// Takes the same ports as another cluster, which is on another machine.
    pub fn set_base_port(&mut self, base_port: u16) {
        self.base_port = base_port;
    }

    /// Where the clients of a node connect.
    pub fn address(&self, node: u16) -> String {
        format!("{}:{}", self.host(node), self.base_port + node)
    }

    /// Where the other nodes connect.
    pub fn peer_address(&self, node: u16) -> String {
        format!("{}:{}", self.host(node), self.base_port + 20 + node)
    }

    fn host(&self, node: u16) -> &str {
        self.places.get(&node).and_then(|place| place.host.as_deref()).unwrap_or("127.0.0.1")
    }

    /// The addresses of all nodes.
    pub fn addresses(&self) -> Vec<String> {
        self.all().map(|node| self.address(node)).collect()
    }

    /// Starts `capstan up` and waits until every node is ready.
    pub async fn up(&mut self) {
        self.start_up().await;
        self.ready().await;
    }

    /// Starts `capstan up` and waits until it says that it is ready.
    pub async fn start_up(&mut self) {
        let before = self.times_ready();
        self.spawn_up(&[]);
        until("up tells that it is ready", PATIENCE, || std::future::ready(self.times_ready() > before))
            .await;
    }

    /// How often `up` has said that all nodes are ready.
    fn times_ready(&self) -> usize {
        let told = std::fs::read_to_string(self.home.path().join("up.stdout"));
        told.map_or(0, |text| text.matches("Ready:").count())
    }

    /// Starts `capstan up`.
    pub fn spawn_up(&mut self, more: &[&str]) {
        assert!(self.up.is_none(), "there is one up at a time");
        let mut command = Command::new(CAPSTAN);
        command.arg("up").arg("--data").arg(&self.data).args(&self.options).args(more);
        command.args(["--nodes", &self.nodes.to_string(), "--base-port", &self.base_port.to_string()]);
        command.stdin(Stdio::null()).stdout(self.log("up.stdout")).stderr(self.log("up.stderr"));
        self.up = Some(command.spawn().unwrap());
    }

    /// Starts a node.
    pub fn serve(&mut self, node: u16) {
        self.serve_with(node, &[]);
    }

    /// Starts a node with more options.
    pub fn serve_with(&mut self, node: u16, more: &[&str]) {
        let peers: Vec<String> =
            self.all().map(|peer| format!("n{peer}={}", self.peer_address(peer))).collect();
        self.start(node, &[&["--peers", &peers.join(",")], more].concat());
    }

    /// Starts a node that joins by way of others.
    pub fn join(&mut self, node: u16, by: &[u16]) {
        let by: Vec<String> = by.iter().map(|node| self.address(*node)).collect();
        let peer = self.peer_address(node);
        self.start(node, &["--join", &by.join(","), "--listen-peer", &peer]);
    }

    /// Starts a node with these options beside those that all have.
    pub fn start(&mut self, node: u16, more: &[&str]) {
        let mut command = self.command(node);
        command.arg("serve").arg("--data").arg(self.folder(node)).args(&self.options).args(more);
        let listens = self.places.get(&node).and_then(|place| place.listens.as_deref());
        let listens = format!("{}:{}", listens.unwrap_or(self.host(node)), self.base_port + node);
        command.args(["--name", &format!("n{node}"), "--listen", &listens]);
        if !more.contains(&"--cores") {
            command.args(["--cores", "1"]);
        }
        // It ends with the test, however that ends.
        command.args(["--parent", &std::process::id().to_string()]);
        command.envs(self.environment.get(&node).into_iter().flatten().cloned());
        let log = || self.log(&format!("n{node}.stderr"));
        let child = command.stdin(Stdio::null()).stdout(log()).stderr(log()).spawn().unwrap();
        assert!(self.children.insert(node, child).is_none(), "n{node} runs already");
    }

    /// The command of a node, where it is.
    fn command(&self, node: u16) -> Command {
        let enter = self.places.get(&node).map(|place| &place.enter[..]).unwrap_or_default();
        let mut words = enter.iter().map(String::as_str).chain([CAPSTAN]);
        let mut command = Command::new(words.next().expect("the program itself is a word"));
        command.args(words);
        command
    }

    /// Starts all nodes and waits until they are ready.
    pub async fn serve_all(&mut self) {
        self.all().for_each(|node| self.serve(node));
        self.ready().await;
    }

    /// The process of a node, if it runs.
    pub fn pid(&self, node: u16) -> Option<i32> {
        let folder = self.folder(node);
        let is_it = |words: &[String]| {
            words.iter().any(|word| word == "serve") && words.iter().any(|word| Path::new(word) == folder)
        };
        processes().into_iter().find(|(_, words)| is_it(words)).map(|(pid, _)| pid)
    }

    /// The processes of this cluster.
    pub fn processes(&self) -> Vec<i32> {
        let is_ours = |words: &[String]| words.iter().any(|word| Path::new(word).starts_with(&self.data));
        processes().into_iter().filter(|(_, words)| is_ours(words)).map(|(pid, _)| pid).collect()
    }

    /// Sends a signal to a node that runs.
    pub fn signal(&self, node: u16, signal: Signal) {
        let pid = self.pid(node).unwrap_or_else(|| panic!("n{node} does not run"));
        send(pid, signal);
    }

    /// Ends a node at once, and returns when it is gone.
    pub async fn kill(&mut self, node: u16) {
        let pid = self.pid(node).unwrap_or_else(|| panic!("n{node} does not run"));
        send(pid, Signal::KILL);
        if let Some(mut child) = self.children.remove(&node) {
            end_of(&mut child, &format!("n{node}"), PATIENCE).await;
        }
        self.gone(pid).await;
    }

    /// Ends at once nodes that the test runs, all before it waits for any, and returns when they are gone. They may have
    /// ended by themselves.
    pub async fn kill_all(&mut self, nodes: &[u16]) {
        for node in nodes {
            self.children.get_mut(node).expect("the node was started by the test").kill().unwrap();
        }
        for &node in nodes {
            self.end(node, PATIENCE).await;
        }
    }

    /// Ends the process of `up` at once, and returns when it is gone.
    pub fn kill_up(&mut self) {
        let mut up = self.up.take().expect("up runs");
        up.kill().unwrap();
        up.wait().unwrap();
    }

    /// The process of `up`.
    pub fn up_pid(&self) -> i32 {
        self.up.as_ref().expect("up runs").id() as i32
    }

    /// Asks `up` to stop; returns how it ended.
    pub async fn stop_up(&mut self) -> ExitStatus {
        send(self.up_pid(), Signal::TERM);
        self.up_end(PATIENCE).await
    }

    /// How `up` ends.
    pub async fn up_end(&mut self, patience: Duration) -> ExitStatus {
        let mut up = self.up.take().expect("up runs");
        end_of(&mut up, "up", patience).await
    }

    /// Whether a node that the test runs has ended by itself.
    pub fn has_ended(&self, node: u16) -> bool {
        let stat = read(Path::new(&format!("/proc/{}/stat", self.children[&node].id())));
        // The name of the program, in parentheses, and then the state: a zombie was not waited for yet.
        stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with('Z'))
    }

    /// How a node that the test runs ends.
    pub async fn end(&mut self, node: u16, patience: Duration) -> ExitStatus {
        let mut child = self.children.remove(&node).expect("the node was started by the test");
        end_of(&mut child, &format!("n{node}"), patience).await
    }

    /// Asks a node that the test runs to stop; returns how it ended.
    pub async fn stop(&mut self, node: u16) -> ExitStatus {
        self.signal(node, Signal::TERM);
        self.end(node, PATIENCE).await
    }

    /// The most memory that the process of a node ever had, in bytes.
    pub fn peak_memory(&self, node: u16) -> u64 {
        let pid = self.pid(node).unwrap_or_else(|| panic!("n{node} does not run"));
        let status = read(Path::new(&format!("/proc/{pid}/status")));
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it is told");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("it is a number") << 10
    }

    /// What a node wrote to standard error, all its lives.
    pub fn stderr(&self, node: u16) -> String {
        read(&self.home.path().join(format!("n{node}.stderr")))
    }

    /// What `up` and its nodes wrote to standard error.
    pub fn up_stderr(&self) -> String {
        read(&self.home.path().join("up.stderr"))
    }

    /// What a node wrote to its journal.
    pub fn journal(&self, node: u16) -> String {
        let Ok(entries) = fs::read_dir(self.folder(node).join("journal")) else { return String::new() };
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.iter().map(|file| read(file)).collect()
    }

    /// Runs a command of the program against these nodes.
    pub fn capstan(&self, nodes: &[u16], arguments: &[&str]) -> Output {
        let connect: Vec<String> = nodes.iter().map(|node| self.address(*node)).collect();
        let mut command = Command::new(CAPSTAN);
        command.args(["--connect", &connect.join(",")]).args(arguments);
        command.stdin(Stdio::null()).output().unwrap()
    }

    async fn gone(&self, pid: i32) {
        let is_gone = || std::future::ready(!processes().iter().any(|(other, _)| *other == pid));
        until("the killed process is gone", PATIENCE, is_gone).await;
    }

    fn log(&self, name: &str) -> File {
        File::options().create(true).append(true).open(self.home.path().join(name)).unwrap()
    }

    fn print_evidence(&self) {
        print_tail("up", &self.up_stderr());
        for node in self.all() {
            let output = self.capstan(&[node], &["cluster", "status", "--timeout", "1s"]);
            print_tail(&format!("n{node}, cluster status"), &(text(&output.stdout) + &text(&output.stderr)));
        }
        for node in self.all() {
            let journal = self.journal(node);
            let (name, text) = match journal.is_empty() {
                true => (format!("n{node}, standard error"), self.stderr(node)),
                false => (format!("n{node}, journal"), journal),
            };
            print_tail(&name, &text);
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print_evidence();
        }
        for child in self.up.iter_mut().chain(self.children.values_mut()) {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
        for pid in self.processes() {
            let _ = kill_process(Pid::from_raw(pid).expect("a process id is not 0"), Signal::KILL);
        }
    }
}

/// Sends a signal to a process.
pub fn send(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).expect("a process id is not 0"), signal).unwrap();
}

/// What a program printed, as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// How a process ends that should end by itself.
pub async fn end_of(child: &mut Child, name: &str, patience: Duration) -> ExitStatus {
    let end = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() >= end {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{name} did not end within {patience:?}");
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn read(file: &Path) -> String {
    fs::read(file).map(|bytes| text(&bytes)).unwrap_or_default()
}

fn print_tail(name: &str, text: &str) {
    let lines: Vec<&str> = text.lines().collect();
    println!("--- {name}");
    lines[lines.len().saturating_sub(TAIL_LINES)..].iter().for_each(|line| println!("{line}"));
}

/// All processes that run, with their words. One that has ended and was not waited for has none.
pub fn processes() -> Vec<(i32, Vec<String>)> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers.filter_map(|pid| Some((pid, words(&fs::read(format!("/proc/{pid}/cmdline")).ok()?)))).collect()
}

fn words(line: &[u8]) -> Vec<String> {
    line.split(|byte| *byte == 0).map(text).collect()
}

/// A base port above which the ports of so many nodes are free. Another program may take one before they are used: then the
/// cluster does not start, and the test says why.
pub fn free_base_port(nodes: u16, random: &mut Random) -> u16 {
    // Other tests may draw at the same time, from the same seed.
    let draw = || random.below(1 << 32) ^ u64::from(std::process::id());
    lab::free_base(nodes, draw).expect("some ports are free")
}
