//! A cluster on this machine: starts its nodes, starts them again when they end, stops them all.
//!
//! The main thread owns the nodes and does nothing but wait for events: signals, the nodes' readiness, the end of the
//! shell. The shell, when standard input is a terminal, has a thread of its own. Which nodes there are is kept in the folder and
//! follows what the cluster says of itself, see [`roster`]: a node that has left it is stopped, one that was lost and given up
//! joins it again.
//!
//! # Caveats
//!
//! When this process is killed, the kernel kills the nodes. That is no harm: they are made to be killed. They end a little
//! later than it; the next start waits for them ([`wait`]).

mod args;
pub mod folder;
mod member;
mod moving;
mod nodes;
mod ready;
pub mod restart;
pub mod roster;
pub mod wait;

use std::collections::BTreeMap;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use kv::cluster::{NodeStatus, Status};
use reedline::ExternalPrinter;
use rustix::fs::Mode;
use rustix::process::umask;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};

use crate::connect;
use crate::exit::{Code, Error};
use crate::options::Options;
use crate::print::Output;
use crate::shell::{Prompt, Shell, run_prompt};
use member::{Came, Entry, Member, name};
use nodes::{Launch, Nodes};
use ready::{Look, Waiting};
use roster::{Followed, Roster};
use wait::patiently;

pub use args::Args;

/// How often the nodes are looked after: a fraction of the shortest delay of a restart.
const TICK: Duration = Duration::from_millis(50);
/// How long a node may take to stop before it is killed.
const STOP_MAX: Duration = Duration::from_secs(10);
/// How long the shell may take to give the terminal back.
const SHELL_STOP_MAX: Duration = Duration::from_secs(1);
/// How often it is told who is not ready, where there is no progress bar, and what those say who wait for others.
const WAITING_NOTE: Duration = Duration::from_secs(10);

/// Runs `capstan up`.
pub fn run(args: &Args, options: &Options) -> Result<Code, Error> {
    // What is stored is for this user alone.
    umask(Mode::RWXG | Mode::RWXO);
    let lock = patiently(|| folder::lock(&args.data))?;
    let (shell, is_old) = (io::stdin().is_terminal(), folder::is_old(&args.data));
    let roster = settle(args)?;
    let launch = launch(args, &roster, shell)?;
    let mut up = Up::new(launch, roster, args, options, is_old)?;
    let code = up.run_to_end();
    up.stop();
    drop(lock);
    code
}

/// What happens.
enum Event {
    /// Ctrl-C.
    Interrupt,
    /// This signal to stop; the terminal being gone is one.
    Terminate(&'static str),
    /// This is what nodes see of the cluster.
    Looked(Vec<Look>),
    /// This is to be told.
    News(String),
    /// The shell was left.
    ShellEnded,
}

struct Up {
    nodes: Nodes,
    roster: Roster,
    /// The nodes that this start lets join.
    newcomers: Vec<String>,
    data: PathBuf,
    options: Options,
    runtime: Handle,
    events: Receiver<Event>,
    send: Sender<Event>,
    has_shell: bool,
    shell: Option<ShellThread>,
    progress: ProgressBar,
    /// The cluster was started before.
    is_old: bool,
    ready: Arc<AtomicBool>,
    noted: Instant,
}

struct ShellThread {
    news: SyncSender<String>,
    stop: Arc<AtomicBool>,
}

/// The nodes that the folder is to have, written down before any is started.
fn settle(args: &Args) -> Result<Roster, Error> {
    let roster = folder::settle(args)?;
    let members = roster.members();
    patiently(|| folder::check_free(&args.data, &members))?;
    patiently(|| nodes::check_ports(&members))?;
    folder::keep(&args.data, &roster)?;
    for left in roster.left() {
        note_left(&args.data, left, &mut |text| tell(None, &ProgressBar::hidden(), &text));
    }
    Ok(roster)
}

fn launch(args: &Args, roster: &Roster, quiet: bool) -> Result<Launch, Error> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let program = std::env::current_exe();
    let program = program.map_err(|error| Error::Usage(format!("finding this program: {error}")))?;
    let members = roster.members();
    Ok(Launch {
        program,
        folder: args.data.clone(),
        founders: roster.founders(),
        cores: (cpus / members.len()).max(1),
        members,
        fixed: roster.fixed.clone(),
        entry_cache: args.entry_cache,
        lab: args.lab,
        pace: args.pace.clone(),
        quiet,
    })
}

fn note_left(data: &Path, number: u16, tell: &mut dyn FnMut(String)) {
    let (name, folder) = (name(number), data.join(name(number)));
    tell(format!("node {name} has left the cluster: its folder {} may be removed", folder.display()));
}

impl Up {
    fn new(
        launch: Launch,
        roster: Roster,
        args: &Args,
        options: &Options,
        is_old: bool,
    ) -> Result<Up, Error> {
        let (send, events) = mpsc::channel();
        let runtime = connect::background_runtime();
        let has_shell = launch.quiet;
        let is_new = |member: &&Member| member.came == Came::Joined && !member.has_been;
        let newcomers = launch.members.iter().filter(is_new).map(|member| member.name.clone()).collect();
        let ready = Arc::new(AtomicBool::new(false));
        watch_signals(&runtime, &send)?;
        let looked = send.clone();
        // The main thread may be past listening.
        let tell = move |looks| looked.send(Event::Looked(looks)).is_ok();
        ready::watch(&runtime, &launch.members, ready.clone(), tell)?;
        Ok(Up {
            progress: progress(launch.members.len()),
            nodes: Nodes::new(launch),
            roster,
            newcomers,
            data: args.data.clone(),
            options: options.clone(),
            runtime,
            events,
            send,
            has_shell,
            shell: None,
            is_old,
            ready,
            noted: Instant::now(),
        })
    }

    /// Looks after the nodes until something ends the cluster.
    fn run_to_end(&mut self) -> Result<Code, Error> {
        loop {
            self.look_after();
            if let Some(error) = self.hopeless() {
                return Err(error);
            }
            match self.events.recv_timeout(TICK) {
                Ok(Event::Interrupt) if self.shell.is_some() => {}
                Ok(Event::Interrupt) => return Ok(self.stopped_by("SIGINT")),
                Ok(Event::Terminate(signal)) => return Ok(self.stopped_by(signal)),
                Ok(Event::ShellEnded) => {
                    self.shell = None;
                    return Ok(self.stopped_by("the shell was left"));
                }
                Ok(Event::Looked(looks)) => self.looked(&looks),
                Ok(Event::News(text)) => self.tell(&text),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => unreachable!("this struct holds a sender"),
            }
        }
    }

    fn stopped_by(&mut self, reason: &str) -> Code {
        self.stop_shell();
        tell(None, &self.progress, &format!("stopping the cluster: {reason}"));
        Code::Done
    }

    fn look_after(&mut self) {
        let Up { nodes, shell, progress, .. } = self;
        nodes.tick(Instant::now(), &mut |text| tell(shell.as_ref(), progress, &text));
    }

    /// A cluster that is new needs all its nodes: a mistake shows at once. One that was started before needs a majority to
    /// start again, so that the others serve and make whole the one whose data was lost. One that runs needs any.
    fn hopeless(&self) -> Option<Error> {
        let (given_up, all, ready) = (self.nodes.given_up(), self.nodes.count(), self.is_ready());
        let may_miss = match (ready, self.is_old) {
            (true, _) => all.saturating_sub(1),
            (false, true) => all.saturating_sub(1) / 2,
            (false, false) => 0,
        };
        if given_up <= may_miss {
            return None;
        }
        let text = if ready { "no node is left" } else { "too few nodes can start; stopping the others" };
        Some(Error::Usage(format!("{text}: see above, and the journals in {}", self.data.display())))
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    fn looked(&mut self, looks: &[Look]) {
        for status in looks.iter().filter_map(|look| look.seen.as_ref().ok()) {
            self.follow(status);
        }
        // The last looks at all may come when the cluster is ready already.
        if self.is_ready() {
            return;
        }
        let awaited = self.nodes.pids().into_iter().map(|(member, _)| member.name.clone());
        let awaited: Vec<String> = awaited.filter(|name| !self.nodes.has_given_up(name)).collect();
        match ready::waiting(looks, &awaited) {
            waiting if waiting.is_empty() => self.become_ready(),
            waiting => self.note_waiting(&waiting),
        }
    }

    /// Does what follows from how a node sees the cluster: writes down who came, stops who left.
    fn follow(&mut self, status: &Status) {
        let pids = self.nodes.pids();
        let runs = |node: &NodeStatus| {
            pids.iter().any(|(member, pid)| member.name == node.name && *pid == Some(node.pid))
        };
        let listed: BTreeMap<u16, bool> =
            status.nodes.iter().filter_map(|node| Some((member::number(&node.name)?, runs(node)))).collect();
        let Followed { came, left } = self.roster.follow(status.revision, &listed);
        if came.is_empty() && left.is_empty() {
            return;
        }
        came.into_iter().for_each(|number| self.nodes.came(number));
        for number in left {
            if self.nodes.is_lost(number) {
                self.roster.nodes.insert(number, Entry::new(Came::Joined));
                self.nodes.join_anew(number, Instant::now());
                self.tell(&format!("node {} was given up, and joins again as a new one", name(number)));
            } else {
                self.nodes.dismiss(number);
                note_left(&self.data, number, &mut |text| self.tell(&text));
            }
        }
        if let Err(error) = folder::keep(&self.data, &self.roster) {
            self.tell(&format!("error: {error}"));
        }
    }

    fn tell(&self, text: &str) {
        tell(self.shell.as_ref(), &self.progress, text);
    }

    fn note_waiting(&mut self, waiting: &[Waiting]) {
        self.progress.set_position((self.nodes.count() - waiting.len()) as u64);
        let has_news = self.progress.is_hidden() || waiting.iter().any(|node| node.why.is_some());
        if has_news && self.noted.elapsed() >= WAITING_NOTE {
            self.noted = Instant::now();
            let waiting: Vec<String> = waiting.iter().map(Waiting::to_string).collect();
            tell(None, &self.progress, &format!("waiting for {}", waiting.join(", ")));
        }
    }

    fn become_ready(&mut self) {
        self.ready.store(true, Ordering::Relaxed);
        self.progress.finish_and_clear();
        // The cluster runs, whether or not somebody reads this.
        let _ = self.print_ready();
        self.watch_moves();
        if self.has_shell {
            self.start_shell();
        }
    }

    /// Has it told what moves to the nodes that have just joined.
    fn watch_moves(&self) {
        if self.newcomers.is_empty() {
            return;
        }
        let send = self.send.clone();
        // The main thread may be past listening.
        let tell = move |text| drop(send.send(Event::News(text)));
        let watched = moving::watch(&self.runtime, &self.addresses(), self.newcomers.clone(), tell);
        watched.expect("these are addresses, and the cluster was asked at them already");
    }

    fn print_ready(&self) -> io::Result<()> {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        let mut out = BufWriter::new(stdout.lock());
        let mut out = Output { out: &mut out, err: &mut io::stderr(), terminal, json: self.options.json };
        if out.json {
            for (member, pid) in self.nodes.pids() {
                out.object(&json!({"name": member.name, "address": member.address, "pid": pid}))?;
            }
            return out.out.flush();
        }
        let row = |(member, pid): (&Member, Option<u32>)| {
            let pid = pid.map_or_else(|| "-".into(), |pid| pid.to_string());
            vec![member.name.clone(), pid, member.address.clone()]
        };
        let rows: Vec<_> = self.nodes.pids().into_iter().map(row).collect();
        out.table(&["NODE", "PID", "ADDRESS"], &rows)?;
        out.line(&self.how_to())?;
        out.out.flush()
    }

    fn how_to(&self) -> String {
        let data = self.data.display();
        let members = self.nodes.pids();
        let nodes = match members.len() - self.nodes.given_up() {
            ready if ready == members.len() => plural(ready, "node"),
            ready => format!("{ready} of {}", plural(members.len(), "node")),
        };
        let shards = plural(self.roster.fixed.shards as usize, "shard");
        let replicas = plural(members.len().min(usize::from(self.roster.fixed.replicas)), "replica");
        // Three addresses outlive two losses, and fit a line.
        let some: Vec<&str> = members.iter().take(3).map(|(member, _)| member.address.as_str()).collect();
        let connect = some.join(",");
        let stop = match self.has_shell {
            true => "quit".into(),
            false => format!("kill {}", std::process::id()),
        };
        format!(
            "\nReady: {nodes}, {shards} of {replicas}, data in {data}\n\
             Connect:  capstan shell --connect {connect}\n\
             Stop:     {stop}"
        )
    }

    fn addresses(&self) -> Vec<String> {
        self.nodes.pids().into_iter().map(|(member, _)| member.address.clone()).collect()
    }

    fn start_shell(&mut self) {
        let addresses = self.addresses();
        let (options, runtime, ended) = (self.options.clone(), self.runtime.clone(), self.send.clone());
        let news = ExternalPrinter::default();
        let stop = Arc::new(AtomicBool::new(false));
        self.shell = Some(ShellThread { news: news.sender(), stop: stop.clone() });
        let run = move || {
            let prompt = Prompt { news: Some(news), stop };
            let left = Shell::connect(&addresses, &options, runtime)
                .and_then(|shell| run_prompt(&Arc::new(shell), prompt));
            if let Err(error) = left {
                let _ = writeln!(io::stderr(), "error: {error}");
            }
            // The main thread may be past waiting.
            let _ = ended.send(Event::ShellEnded);
        };
        std::thread::Builder::new().name("shell".into()).spawn(run).expect("a process can start a thread");
    }

    /// Stops the shell and all nodes; a second signal kills those that are left.
    fn stop(&mut self) {
        self.progress.finish_and_clear();
        self.stop_shell();
        self.nodes.terminate();
        let until = Instant::now() + STOP_MAX;
        while !self.nodes.stopped() {
            let impatient =
                matches!(self.events.recv_timeout(TICK), Ok(Event::Interrupt | Event::Terminate(_)));
            if impatient || Instant::now() >= until {
                tell(None, &self.progress, "killing the nodes that did not stop");
                self.nodes.kill();
            }
        }
    }

    /// Waits until the terminal is as it was.
    fn stop_shell(&mut self) {
        let Some(shell) = self.shell.take() else { return };
        shell.stop.store(true, Ordering::Relaxed);
        let until = Instant::now() + SHELL_STOP_MAX;
        while Instant::now() < until {
            if let Ok(Event::ShellEnded) = self.events.recv_timeout(TICK) {
                return;
            }
        }
    }
}

/// Tells what happened to the nodes: above the prompt when there is one.
fn tell(shell: Option<&ShellThread>, progress: &ProgressBar, text: &str) {
    // When nobody reads, nobody is told.
    let _ = match shell {
        Some(shell) => shell.news.try_send(text.into()).map_err(io::Error::other),
        None => progress.suspend(|| writeln!(io::stderr(), "{text}")),
    };
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// A progress bar; it hides itself where there is no terminal.
fn progress(nodes: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("starting {wide_bar} {pos} of {len} nodes ready");
    ProgressBar::new(nodes as u64).with_style(style.expect("the template is a constant and well-formed"))
}

fn watch_signals(runtime: &Handle, send: &Sender<Event>) -> Result<(), Error> {
    let inside = runtime.enter();
    let failed = |error| Error::Unavailable(format!("listening for signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    drop(inside);
    let send = send.clone();
    runtime.spawn(async move {
        loop {
            let event = tokio::select! {
                _ = interrupt.recv() => Event::Interrupt,
                _ = terminate.recv() => Event::Terminate("SIGTERM"),
                _ = hangup.recv() => Event::Terminate("SIGHUP"),
            };
            if send.send(event).is_err() {
                return;
            }
        }
    });
    Ok(())
}
