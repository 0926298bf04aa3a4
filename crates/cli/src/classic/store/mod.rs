//! The program `classic store`: every node of a file as a process of its own, until a signal stops them all.
//!
//! ```text
//!   store.yaml ──▶ capstan classic store ──┬──▶ master    its port of the file   ◀── puts, gets
//!                     │ starts, starts     ├──▶ slave_1   ..                    ◀── gets, puts that it passes on
//!                     │ again, stops       └──▶ slave_2   ..
//!                     └ DIR: store.json, lock, and a data folder for each node
//! ```
//!
//! With a list `nodes:` in the file there is no master: its nodes weigh something, and any of them takes gets and puts.
//!
//! The nodes are ordinary ones ([`node`]) of one cluster, whose keyspace `default` is that of the store. They hear each other on ports of
//! their own, which are free ones at each start. A node that ends is started again; where that would not help it stays down, and the
//! program ends where it had not served yet, or when no node is left.
//!
//! # Caveats
//!
//! All nodes run on this machine. When this process is killed, the kernel kills the nodes; the next start waits for them.

pub mod file;
mod kept;
mod node;
mod nodes;
mod ports;

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use dialects::classic::store::StoreClient;
use rustix::fs::Mode;
use rustix::process::umask;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep};

use crate::connect;
use crate::exit::{Code, Error};
use crate::keyspace::weighed;
use crate::up::folder;
use crate::up::wait::patiently;
use file::Node;
use kept::Kept;
use nodes::Nodes;

pub use node::{Args as NodeArgs, run as run_node};

/// The options of `capstan classic store`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The file of the store (YAML)
    #[arg(value_name = "CONFIG.yaml")]
    config: PathBuf,
    /// The folder of its data; made when it is not there
    #[arg(long, value_name = "DIR", default_value = "./capstan-store")]
    data: PathBuf,
}

/// How often the nodes are looked after.
const TICK: Duration = Duration::from_millis(50);
/// How long a node may take to stop before it is killed.
const STOP_MAX: Duration = Duration::from_secs(10);

/// Runs the store until a signal stops it.
pub fn run(args: &Args) -> Result<Code, Error> {
    // What is stored is for this user alone.
    umask(Mode::RWXG | Mode::RWXO);
    let store = file::read(&args.config)?;
    let all = &store.nodes;
    let lock = patiently(|| folder::lock(&args.data))?;
    let kept = kept::settle(&args.data, &store)?;
    patiently(|| ports::check(all))?;
    let peers = ports::for_peers(all)?;
    if let Some(alone) = store.weighed.and_then(weighed::alone) {
        note(format!("store: {alone}"));
    }
    let ended = connect::runtime().block_on(async {
        // Before there is anything that they would leave behind.
        let mut signals = Signals::new()?;
        let mut nodes = Nodes::new(&store, &peers, &args.data)?;
        let ended = look_after(&mut nodes, all, (args, kept), &mut signals).await;
        stop(&mut nodes, &mut signals).await;
        ended
    });
    drop(lock);
    ended
}

/// Looks after the nodes until something ends the store.
async fn look_after(
    nodes: &mut Nodes,
    all: &[Node],
    (args, mut kept): (&Args, Kept),
    signals: &mut Signals,
) -> Result<Code, Error> {
    let mut ready = std::pin::pin!(serve(all));
    let mut is_ready = false;
    loop {
        nodes.tick(&mut note);
        let may_miss = if is_ready { all.len() - 1 } else { 0 };
        if nodes.given_up() > may_miss {
            let why = if is_ready { "no node is left" } else { "a node cannot start: see above" };
            return Err(Error::Usage(format!("{why}; the journals are in {}", args.data.display())));
        }
        tokio::select! {
            () = signals.next() => return Ok(Code::Done),
            () = &mut ready, if !is_ready => {
                is_ready = true;
                kept::note_begun(&args.data, &mut kept)?;
                let at: Vec<String> = all.iter().map(|node| format!("{} at {}", node.name, node.reached)).collect();
                note(format!("store: serving: {}; Ctrl-C or SIGTERM ends it", at.join(", ")));
            }
            () = sleep(TICK) => {}
        }
    }
}

/// Until every node answers a get.
async fn serve(all: &[Node]) {
    for node in all {
        let client = StoreClient::new(&node.reached).expect("it was listened on there already");
        while client.get(String::new()).await.is_err() {
            sleep(TICK).await;
        }
    }
}

/// Stops all nodes; those that do not stop in time, or while another signal comes, are killed.
async fn stop(nodes: &mut Nodes, signals: &mut Signals) {
    nodes.terminate();
    let until = Instant::now() + STOP_MAX;
    while !nodes.stopped() {
        let is_impatient = tokio::select! {
            () = signals.next() => true,
            () = sleep(TICK) => false,
        };
        if is_impatient || Instant::now() >= until {
            note("killing the nodes that did not stop".into());
            nodes.kill();
        }
    }
}

fn note(text: String) {
    // When nobody reads, nobody is told.
    let _ = writeln!(io::stderr(), "{text}");
}

/// The signals that end the store.
struct Signals([Signal; 3]);

impl Signals {
    fn new() -> Result<Signals, Error> {
        let failed = |error| Error::Unavailable(format!("listening for signals: {error}"));
        let listen = |kind| signal(kind).map_err(failed);
        Ok(Signals([
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
        ]))
    }

    async fn next(&mut self) {
        let Signals([interrupt, terminate, hangup]) = self;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
