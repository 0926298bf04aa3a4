//! A pair server or a central server as a process of its own, in folders of its own, and the client programs.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use dialects::classic::pairs::{CentralClient, PairClient};
use rustix::net::{AddressFamily, SocketType, bind, sockopt};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::nodes::{CAPSTAN, PATIENCE, Random, end_of, free_base_port, send, text, until};

/// A server: its words, its port, and whatever it may write to.
pub struct Server {
    home: TempDir,
    words: Vec<String>,
    port: u16,
    child: Option<Child>,
}

impl Server {
    /// One that does not run yet. Its options may name its data folder as `DATA`.
    pub fn new(program: &str, options: &[&str], random: &mut Random) -> Server {
        let home = tempfile::Builder::new().prefix("capstan-lab-").tempdir().unwrap();
        for folder in ["cwd", "tmp", "user"] {
            fs::create_dir(home.path().join(folder)).unwrap();
        }
        let data = home.path().join("data").to_str().unwrap().to_owned();
        let port = free_base_port(1, random) + 1;
        let mut words = vec!["classic".to_owned(), program.to_owned(), port.to_string()];
        words.extend(options.iter().map(|word| word.replace("DATA", &data)));
        Server { home, words, port, child: None }
    }

    /// Opens its data folder with an ordinary node of its name, and returns when that answers.
    pub async fn serve_as_node(&mut self) {
        let (data, address) = (self.data(), self.address());
        let node =
            ["serve", "--name", &self.words[1], "--data", data.to_str().unwrap(), "--listen", &address];
        let node = node.map(str::to_owned).to_vec();
        let program = std::mem::replace(&mut self.words, node);
        self.spawn();
        self.words = program;
        until("the node is ready", PATIENCE, || {
            std::future::ready(self.capstan(&["cluster", "status", "--timeout", "1s"]).status.success())
        })
        .await;
    }

    /// Runs a command of the program against it, where it speaks native gRPC.
    pub fn capstan(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(CAPSTAN);
        command.args(["--connect", &self.address()]).args(arguments).stdin(Stdio::null()).output().unwrap()
    }

    /// Gives it more options.
    pub fn add(&mut self, options: &[&str]) {
        self.words.extend(options.iter().map(ToString::to_string));
    }

    /// One that serves.
    pub async fn start(program: &str, options: &[&str], random: &mut Random) -> Server {
        let mut server = Server::new(program, options, random);
        server.serve().await;
        server
    }

    /// Starts it, and returns when it serves.
    pub async fn serve(&mut self) {
        let before = self.times_serving();
        self.spawn();
        until("the server says that it serves", PATIENCE, || {
            let ended = self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_some());
            assert!(!ended, "the server ended: {}", self.stderr());
            std::future::ready(self.times_serving() > before)
        })
        .await;
    }

    /// Starts it.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let at = |name: &str| self.home.path().join(name);
        let log = |name: &str| File::options().create(true).append(true).open(at(name)).unwrap();
        let mut command = Command::new(CAPSTAN);
        command.args(&self.words).current_dir(at("cwd")).env("TMPDIR", at("tmp")).env("HOME", at("user"));
        command.stdin(Stdio::null()).stdout(log("stdout")).stderr(log("stderr"));
        self.child = Some(command.spawn().unwrap());
    }

    /// HOST:PORT on this machine.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its data folder, which is there when its options name it.
    pub fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        self.child.as_ref().expect("it runs").id() as i32
    }

    /// What it wrote to standard error, all its lives.
    pub fn stderr(&self) -> String {
        text(&fs::read(self.home.path().join("stderr")).unwrap_or_default())
    }

    /// What it wrote to standard output, all its lives.
    pub fn stdout(&self) -> String {
        text(&fs::read(self.home.path().join("stdout")).unwrap_or_default())
    }

    fn times_serving(&self) -> usize {
        self.stderr().matches(": serving at ").count()
    }

    /// Ends it at once.
    pub async fn kill(&mut self) {
        send(self.pid(), Signal::KILL);
        self.end().await;
    }

    /// Asks it to stop by a signal; returns how it ended.
    pub async fn stop(&mut self, signal: Signal) -> ExitStatus {
        send(self.pid(), signal);
        self.end().await
    }

    /// How it ends.
    pub async fn end(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        end_of(&mut child, &self.words.join(" "), PATIENCE).await
    }

    /// All files below the folders that it might write to, but for its data folder.
    pub fn left_behind(&self) -> Vec<PathBuf> {
        let folders = ["cwd", "tmp", "user"].map(|name| self.home.path().join(name));
        folders
            .iter()
            .flat_map(|folder| fs::read_dir(folder).unwrap())
            .map(|entry| entry.unwrap().path())
            .collect()
    }

    /// The files that its process has open, but for those that it was started with.
    pub fn open_files(&self) -> Vec<PathBuf> {
        let folder = PathBuf::from(format!("/proc/{}/fd", self.pid()));
        let links = fs::read_dir(folder).unwrap().filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        let given = |file: &Path| file.parent() == Some(self.home.path());
        links.filter(|file| file.starts_with("/") && !file.starts_with("/dev") && !given(file)).collect()
    }

    /// The most memory that its process ever had, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel says it");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("it is a number") << 10
    }

    /// A connection of its own, to a pair server.
    pub fn pairs(&self) -> PairClient {
        PairClient::new(&self.address()).unwrap()
    }

    /// A connection of its own, to a central server.
    pub fn central(&self) -> CentralClient {
        CentralClient::new(&self.address()).unwrap()
    }

    /// Runs its client program with these lines.
    pub fn told(&self, lines: &str) -> Output {
        let program = self.words[1].replace("server", "client");
        client(&program, &self.address(), lines)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("--- {}\n{}", self.words.join(" "), self.stderr());
        }
        if let Some(child) = &mut self.child {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs a client program with these lines.
pub fn client(program: &str, address: &str, lines: &str) -> Output {
    let mut child = spawn_client(program, address);
    // One whose server is away reads no further.
    let _ = child.stdin.take().unwrap().write_all(lines.as_bytes());
    child.wait_with_output().unwrap()
}

/// Starts a client program whose lines come later.
pub fn spawn_client(program: &str, address: &str) -> Child {
    let mut command = Command::new(CAPSTAN);
    command.args(["classic", program, address]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Binds a port at every address as a program does that asks for nothing special: not even a port whose last connections
/// the kernel still remembers is given to it.
pub fn bind_plainly(port: u16) -> Result<(), rustix::io::Errno> {
    for address in [format!("0.0.0.0:{port}"), format!("[::]:{port}")] {
        let address: std::net::SocketAddr = address.parse().unwrap();
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = rustix::net::socket(family, SocketType::STREAM, None)?;
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&socket, true)?;
        }
        bind(&socket, &address)?;
    }
    Ok(())
}

/// A pause of up to so many milliseconds: a fault comes at any moment.
pub async fn some_time(millis_max: u64, random: &mut Random) {
    tokio::time::sleep(Duration::from_millis(random.below(millis_max))).await;
}
