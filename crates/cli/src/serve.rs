//! One node, in the foreground, until a signal stops it.

use std::path::PathBuf;
use std::sync::Arc;

use dialects::native::Native;
use rustix::process::{Pid, Signal};
use server::Stderr;

use crate::exit::{Code, Error};
use crate::parse::{self, Deleted, Engine, History};

/// The options of `capstan serve`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  capstan serve --name n1 --data /var/lib/capstan --listen 127.0.0.1:7401
      a cluster of one
  capstan serve --name n1 --data /var/lib/capstan --listen 10.0.0.1:7401 \\
      --peers n1=10.0.0.1:7421,n2=10.0.0.2:7421,n3=10.0.0.3:7421
      one of three; the others run the same with their own name and address
  capstan serve --name n1 --data /var/lib/capstan --listen 0.0.0.0:7401 \\
      --advertise n1.example.com:7401
      on every address of the machine; clients are told this one
SIGTERM stops it. Exit code 2: starting it again as it is would not help.")]
pub struct Args {
    /// Its name in the cluster; the data folder belongs to it
    #[arg(long, value_parser = parse::name)]
    pub name: String,
    /// Its data folder; made when it is not there
    #[arg(long, value_name = "FOLDER")]
    pub data: PathBuf,
    /// Where clients connect; of a name, all its addresses
    #[arg(long, value_name = "HOST:PORT", value_parser = parse::address)]
    pub listen: String,
    /// Where clients are told to connect [default: the first address of --listen]
    #[arg(long, value_name = "HOST:PORT", value_parser = parse::address)]
    pub advertise: Option<String>,
    /// All nodes of the cluster, this one too, where nodes connect
    #[arg(long, value_name = "NAME=HOST:PORT,..", value_delimiter = ',', value_parser = parse::peer)]
    pub peers: Vec<(String, String)>,
    /// Where rows are kept
    #[arg(long, value_enum, default_value_t = Engine::Disk)]
    pub engine: Engine,
    /// How many revisions of a key are kept: a count, or all
    #[arg(long, value_name = "N|all", default_value_t = History::Count(server::Config::HISTORY))]
    pub history: History,
    /// How long those of a deleted key are kept: a duration, or all
    #[arg(long, value_name = "DURATION|all", default_value_t = Deleted::USUAL)]
    pub deleted_history: Deleted,
    /// How many shards; the same on all nodes
    #[arg(long, value_name = "N", default_value_t = server::Config::SHARDS, value_parser = clap::value_parser!(u32).range(1..=SHARDS_MAX))]
    pub shards: u32,
    /// How many cores to use [default: all]
    #[arg(long, value_name = "N", value_parser = cores)]
    pub cores: Option<usize>,
    /// Memory for entries that a slow node may still need
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = parse::size)]
    pub entry_cache: usize,
    /// How much the log grows before rows are flushed and the old log goes
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = parse::size)]
    pub checkpoint_log: usize,
    /// Come back as a node whose data folder was lost: the others make it whole before it votes
    #[arg(long)]
    pub rejoin: bool,
    /// Write the journal to its files only, not to standard error
    #[arg(long)]
    pub quiet: bool,
    /// End when this process ends
    #[arg(long, value_name = "PID", hide = true)]
    pub parent: Option<i32>,
}

/// More shards than this cost more than they bring: each has elections and heartbeats.
pub const SHARDS_MAX: i64 = 1024;

/// From the port of clients to the port of peers, where nobody says otherwise.
pub const PEER_PORT_OFFSET: u16 = 20;

/// Runs `capstan serve`.
pub fn run(args: Args) -> Result<Code, Error> {
    if let Some(parent) = args.parent {
        end_with(parent)?;
    }
    start(config(args)?)?;
    Ok(Code::Done)
}

/// Runs the node until a signal stops it. An error of usage means that starting it again would not help.
pub fn start(config: server::Config) -> Result<(), Error> {
    server::run(config).map_err(|failure| match failure {
        server::Failure::Refused(why) => Error::Usage(why),
        server::Failure::Failed(why) => Error::Unavailable(why),
    })
}

fn config(args: Args) -> Result<server::Config, Error> {
    let peers = peers(&args)?;
    let native = server::Listen::new(Arc::new(Native::new()), args.listen);
    Ok(server::Config {
        peers,
        name: args.name,
        data: Some(args.data),
        listen: vec![server::Listen { advertise: args.advertise, ..native }],
        engine: match args.engine {
            Engine::Memory => server::Kind::Memory,
            Engine::Disk => server::Kind::Disk,
        },
        history: match args.history {
            History::Count(count) => server::History::Count(count),
            History::All => server::History::All,
        },
        deleted_micros: args.deleted_history.micros,
        shards: args.shards,
        cores: args.cores,
        entry_cache_bytes: args.entry_cache,
        checkpoint_bytes: args.checkpoint_log as u64,
        rejoin: args.rejoin,
        stderr: if args.quiet { Stderr::Nothing } else { Stderr::Journal },
    })
}

/// All nodes; without any named, this one alone.
fn peers(args: &Args) -> Result<Vec<(String, String)>, Error> {
    if args.peers.is_empty() {
        return Ok(vec![(args.name.clone(), peer_address(&args.listen)?)]);
    }
    if !args.peers.iter().any(|(name, _)| *name == args.name) {
        return Err(Error::Usage(format!(
            "--peers does not name {}: name all nodes, this one too",
            args.name
        )));
    }
    for (index, (name, address)) in args.peers.iter().enumerate() {
        if args.peers[..index].iter().any(|(other, at)| other == name || at == address) {
            return Err(Error::Usage(format!("--peers has {name}={address} or a part of it twice")));
        }
    }
    Ok(args.peers.clone())
}

fn peer_address(listen: &str) -> Result<String, Error> {
    let (host, port) = listen.rsplit_once(':').expect("an address has a port, its parser saw to it");
    let port: u16 = port.parse().expect("a port is a number, its parser saw to it");
    let port = port.checked_add(PEER_PORT_OFFSET).ok_or_else(|| {
        Error::Usage(format!("port {port} leaves no room for the peer port {PEER_PORT_OFFSET} above it"))
    })?;
    Ok(format!("{host}:{port}"))
}

fn cores(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&cores| cores > 0).ok_or_else(|| "a node uses 1 core or more".into())
}

/// Sees to it that this process does not outlive its parent, even if that was killed: its owner is gone then, and the
/// ports and folders it holds are wanted by the next one.
fn end_with(parent: i32) -> Result<(), Error> {
    let failed = |error| Error::Unavailable(format!("asking to end with the parent process: {error}"));
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(failed)?;
    // It may have ended before we asked; then nobody will tell us.
    if rustix::process::getppid() != Pid::from_raw(parent) {
        return Err(Error::Usage(format!("the parent process {parent} is gone")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parsed(more: &[&str]) -> Result<server::Config, String> {
        let base = ["serve", "--name", "n1", "--data", "d", "--listen", "h:7401"];
        let line = Line::try_parse_from(base.iter().chain(more)).map_err(|error| error.to_string())?;
        config(line.args).map_err(|error| error.to_string())
    }

    #[test]
    fn serve_without_peers_is_a_cluster_of_one() {
        let settings = parsed(&[]).unwrap();
        assert_eq!(settings.peers, [("n1".to_string(), "h:7421".to_string())]);
        assert_eq!((settings.shards, settings.entry_cache_bytes), (4, 64 << 20));
        assert_eq!(settings.checkpoint_bytes, server::Config::CHECKPOINT_BYTES);
        assert_eq!(parsed(&["--checkpoint-log", "1M"]).unwrap().checkpoint_bytes, 1 << 20);
    }

    #[test]
    fn serve_with_peers_takes_all_of_them() {
        let settings = parsed(&["--peers", "n1=a:1,n2=b:1"]).unwrap();
        assert_eq!((settings.peers.len(), settings.shards), (2, 4));
        assert_eq!(parsed(&["--peers", "n1=a:1,n2=b:1", "--shards", "8"]).unwrap().shards, 8);
    }

    #[test]
    fn serve_peers_that_contradict_are_refused() {
        assert!(parsed(&["--peers", "n2=b:1"]).unwrap_err().contains("does not name n1"));
        assert!(parsed(&["--peers", "n1=a:1,n1=b:1"]).unwrap_err().contains("twice"));
        assert!(parsed(&["--peers", "n1=a:1,n2=a:1"]).unwrap_err().contains("twice"));
    }
}
