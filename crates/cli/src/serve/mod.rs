//! One node, in the foreground, until a signal stops it.
//!
//! What it is comes from options and from a file ([`file`]) whose keys are the same; an option wins.

pub mod file;
mod key;
mod listen;

use std::path::PathBuf;

use rustix::process::{Pid, Signal};
use server::Stderr;

use self::file::File;
use crate::exit::{Code, Error};
use crate::pace::Pace;
use crate::parse::{self, Deleted, Engine, History};

/// The options of `capstan serve`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// A file (TOML) that says what the options say, and more than one --listen
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Its name in the cluster; the data folder belongs to it
    #[arg(long, value_parser = parse::name, required_unless_present = "config")]
    pub name: Option<String>,
    /// Its data folder; made when it is not there
    #[arg(long, value_name = "FOLDER", required_unless_present = "config")]
    pub data: Option<PathBuf>,
    /// Where clients connect; of a name, all its addresses
    #[arg(long, value_name = "HOST:PORT", value_parser = parse::address, required_unless_present = "config")]
    pub listen: Option<String>,
    /// Where clients are told to connect [default: the first address of --listen]
    #[arg(long, value_name = "HOST:PORT", value_parser = parse::address)]
    pub advertise: Option<String>,
    /// Found a cluster of these nodes, this one too: where nodes connect
    #[arg(long, value_name = "NAME=HOST:PORT,..", value_delimiter = ',', value_parser = parse::peer)]
    pub peers: Vec<(String, String)>,
    /// Join a cluster that is there: where clients connect to nodes of it; of no use once it has joined
    #[arg(long, value_name = "HOST:PORT,..", value_delimiter = ',', value_parser = parse::address)]
    pub join: Vec<String>,
    /// Where other nodes are told to connect [default: as --peers has this node]
    #[arg(long, value_name = "HOST:PORT", value_parser = parse::address)]
    pub advertise_peer: Option<String>,
    /// Where other nodes connect [default: --advertise-peer]
    #[arg(long, value_name = "HOST:PORT", value_parser = parse::address)]
    pub listen_peer: Option<String>,
    /// What fails together with it, as a rack; kept until it is said anew
    #[arg(long, value_name = "ZONE", value_parser = parse::zone)]
    pub zone: Option<String>,
    /// Where rows are kept [default: disk]
    #[arg(long, value_enum)]
    pub engine: Option<Engine>,
    /// How many revisions of a key are kept: a count, or all [default: 16]
    #[arg(long, value_name = "N|all")]
    pub history: Option<History>,
    /// How long those of a deleted key are kept: a duration, or all [default: 5m]
    #[arg(long, value_name = "DURATION|all")]
    pub deleted_history: Option<Deleted>,
    /// How many shards; the same on all nodes [default: 4]
    #[arg(long, value_name = "N", value_parser = parse::shards)]
    pub shards: Option<u32>,
    /// On how many nodes each shard is, where there are so many; the same on all nodes [default: 3]
    #[arg(long, value_name = "N", value_parser = parse::replicas)]
    pub replicas: Option<u16>,
    /// How many cores to use [default: all]
    #[arg(long, value_name = "N", value_parser = parse::cores)]
    pub cores: Option<usize>,
    /// Memory for entries that a slow node may still need [default: 64M]
    #[arg(long, value_name = "SIZE", value_parser = parse::size)]
    pub entry_cache: Option<usize>,
    /// How much the log grows before rows are flushed and the old log goes [default: 64M]
    #[arg(long, value_name = "SIZE", value_parser = parse::size)]
    pub checkpoint_log: Option<usize>,
    /// How replicas go from node to node
    #[command(flatten)]
    pub pace: Pace,
    /// Take faults (capstan fault): for tests, not for data that matters
    #[arg(long)]
    pub lab: bool,
    /// Write the journal to its files only, not to standard error
    #[arg(long)]
    pub quiet: bool,
    /// End when this process ends
    #[arg(long, value_name = "PID", hide = true)]
    pub parent: Option<i32>,
}

const HELP: &str = concat!(
    "\
Examples:
  capstan serve --name n1 --data /var/lib/capstan --listen 127.0.0.1:7401
      a cluster of one
  capstan serve --name n1 --data /var/lib/capstan --listen 10.0.0.1:7401 \\
      --peers n1=10.0.0.1:7421,n2=10.0.0.2:7421,n3=10.0.0.3:7421
      one of three; the others run the same with their own name and address
  capstan serve --name n1 --data /var/lib/capstan --listen 0.0.0.0:7401 \\
      --advertise n1.example.com:7401
      on every address of the machine; clients are told this one
      (--listen-peer and --advertise-peer are the same for nodes)
  capstan serve --name n4 --data /var/lib/capstan --listen 10.0.0.4:7401 \\
      --listen-peer 10.0.0.4:7421 --join 10.0.0.1:7401,10.0.0.2:7401
      a new node of a cluster that is there; started again, it needs no --join
  capstan serve --config /etc/capstan.toml
      the same from a file; an option beside it wins over the file
The keys of the file are the options. A table [[listen]] is a listener; the
first native one is where clients and tools find the node:
",
    include_str!("example.toml"),
    "SIGTERM stops it. Exit code 2: starting it again as it is would not help."
);

/// Runs `capstan serve`.
pub fn run(args: Args) -> Result<Code, Error> {
    if let Some(parent) = args.parent {
        end_with(parent)?;
    }
    let file = args.config.as_deref().map(file::read).transpose()?.unwrap_or_default();
    start(config(args, file)?)?;
    Ok(Code::Done)
}

/// Runs the node until a signal stops it. An error of usage means that starting it again would not help.
pub fn start(config: server::Config) -> Result<(), Error> {
    server::run(config).map_err(|failure| match failure {
        server::Failure::Refused(why) | server::Failure::Left(why) => Error::Usage(why),
        server::Failure::Failed(why) => Error::Unavailable(why),
    })
}

/// The options, and where they say nothing, the file.
fn config(args: Args, file: File) -> Result<server::Config, Error> {
    let moves = args.pace.or(file.pace()).moves();
    let name = needed(args.name.or(file.name), "name")?;
    let peers = if args.peers.is_empty() { file.peers } else { args.peers };
    check_peers(&name, &peers).map_err(Error::Usage)?;
    let join = if args.join.is_empty() { file.join } else { args.join };
    let advertise = args.advertise.or(file.advertised);
    Ok(server::Config {
        listen: listen::all(file.listeners, args.listen, advertise).map_err(Error::Usage)?,
        name,
        data: Some(needed(args.data.or(file.data), "data")?),
        peers,
        join,
        advertise_peer: args.advertise_peer.or(file.advertise_peer),
        listen_peer: args.listen_peer.or(file.listen_peer),
        zone: args.zone.or(file.zone),
        engine: match args.engine.or(file.engine).unwrap_or(Engine::Disk) {
            Engine::Memory => server::Kind::Memory,
            Engine::Disk => server::Kind::Disk,
        },
        history: args.history.or(file.history).map(|history| match history {
            History::Count(count) => server::History::Count(count),
            History::All => server::History::All,
        }),
        deleted_micros: args.deleted_history.or(file.deleted_history).map(|deleted| deleted.micros),
        shards: args.shards.or(file.shards),
        replicas: args.replicas.or(file.replicas),
        cores: args.cores.or(file.cores),
        entry_cache_bytes: args.entry_cache.or(file.entry_cache).unwrap_or(server::Config::ENTRY_CACHE_BYTES),
        checkpoint_bytes: args
            .checkpoint_log
            .or(file.checkpoint_log)
            .map_or(server::Config::CHECKPOINT_BYTES, |bytes| bytes as u64),
        moves,
        protocol: None,
        weighed: None,
        lab: args.lab || file.lab,
        by_zones: false,
        ends_when_left: false,
        bus: Default::default(),
        stderr: if args.quiet || file.quiet { Stderr::Nothing } else { Stderr::Journal },
    })
}

fn needed<T>(value: Option<T>, key: &str) -> Result<T, Error> {
    value.ok_or_else(|| {
        Error::Usage(format!("a node needs a {key}: give --{key}, or write the key {key} into the file"))
    })
}

/// That the nodes are named and placed once each, this one too. None = it is alone.
fn check_peers(own: &str, peers: &[(String, String)]) -> Result<(), String> {
    if !peers.is_empty() && !peers.iter().any(|(name, _)| name == own) {
        return Err(format!("--peers does not name {own}: name all nodes, this one too"));
    }
    for (index, (name, address)) in peers.iter().enumerate() {
        if peers[..index].iter().any(|(other, at)| other == name || at == address) {
            return Err(format!("--peers has {name}={address} or a part of it twice"));
        }
    }
    Ok(())
}

/// Sees to it that this process does not outlive its parent, even if that was killed: its owner is gone then, and the
/// ports and folders it holds are wanted by the next one.
pub fn end_with(parent: i32) -> Result<(), Error> {
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
    use std::collections::BTreeSet;

    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parsed(words: &[&str], file: &str) -> Result<server::Config, String> {
        let line = Line::try_parse_from([&["serve"], words].concat()).map_err(|error| error.to_string())?;
        let file = file::decode(file.as_bytes()).map_err(|wrong| wrong.why)?;
        config(line.args, file).map_err(|error| error.to_string())
    }

    fn of_options(more: &[&str]) -> Result<server::Config, String> {
        parsed(&[&["--name", "n1", "--data", "d", "--listen", "h:7401"], more].concat(), "")
    }

    /// With a file; what is wrong in it is not of these tests.
    fn with_file(more: &[&str], file: &str) -> Result<server::Config, String> {
        parsed(&[&["--config", "f"], more].concat(), file)
    }

    fn listeners(config: &server::Config) -> Vec<(&str, &str, Option<&str>)> {
        let mut shown = Vec::new();
        for listen in &config.listen {
            shown.push((listen.dialect.name(), listen.address.as_str(), listen.advertise.as_deref()));
        }
        shown
    }

    #[test]
    fn serve_without_peers_is_a_cluster_of_one() {
        let settings = of_options(&[]).unwrap();
        assert!(settings.peers.is_empty());
        assert_eq!((settings.shards, settings.entry_cache_bytes), (None, 64 << 20));
        assert_eq!(settings.checkpoint_bytes, server::Config::CHECKPOINT_BYTES);
        assert_eq!(of_options(&["--checkpoint-log", "1M"]).unwrap().checkpoint_bytes, 1 << 20);
    }

    #[test]
    fn serve_with_peers_takes_all_of_them() {
        let settings = of_options(&["--peers", "n1=a:1,n2=b:1"]).unwrap();
        assert_eq!((settings.peers.len(), settings.shards), (2, None));
        assert_eq!(of_options(&["--peers", "n1=a:1,n2=b:1", "--shards", "8"]).unwrap().shards, Some(8));
    }

    #[test]
    fn serve_peers_that_contradict_are_refused() {
        assert!(of_options(&["--peers", "n2=b:1"]).unwrap_err().contains("does not name n1"));
        assert!(of_options(&["--peers", "n1=a:1,n1=b:1"]).unwrap_err().contains("twice"));
        assert!(of_options(&["--peers", "n1=a:1,n2=a:1"]).unwrap_err().contains("twice"));
        let file = "name = 'n1'\ndata = 'd'\nlisten = 'h:1'\npeers = ['n1=a:1', 'n2=a:1']";
        assert!(with_file(&[], file).unwrap_err().contains("twice"));
    }

    #[test]
    fn serve_options_that_are_missing_are_asked_for() {
        let error = parsed(&["--name", "n1"], "").unwrap_err();
        assert!(error.contains("--data <FOLDER>") && error.contains("--listen <HOST:PORT>"), "{error}");
        assert!(with_file(&[], "data = 'd'\nlisten = 'h:1'").unwrap_err().contains("needs a name"));
        assert!(with_file(&[], "name = 'n'\nlisten = 'h:1'").unwrap_err().contains("needs a data"));
        assert!(with_file(&[], "name = 'n'\ndata = 'd'").unwrap_err().contains("--listen HOST:PORT"));
    }

    #[test]
    fn serve_defaults_are_those_that_the_help_tells() {
        let config = of_options(&[]).unwrap();
        assert_eq!(config.engine, server::Kind::Disk);
        let command = Line::command();
        let told = |option: &str| {
            let argument =
                command.get_arguments().find(|argument| argument.get_long() == Some(option)).unwrap();
            let help = argument.get_help().unwrap().to_string();
            help.split_once("[default: ").unwrap().1.trim_end_matches(']').to_owned()
        };
        assert_eq!(told("engine"), config.engine.name());
        assert_eq!(told("history").parse(), Ok(History::Count(server::Config::HISTORY)));
        assert_eq!(
            told("deleted-history").parse().map(|kept: Deleted| kept.micros),
            Ok(server::Config::DELETED_MICROS)
        );
        assert_eq!(parse::shards(&told("shards")), Ok(server::Config::SHARDS));
        assert_eq!(parse::replicas(&told("replicas")), Ok(server::Config::REPLICAS));
        assert_eq!(parse::size(&told("entry-cache")), Ok(config.entry_cache_bytes));
        assert_eq!(parse::size(&told("checkpoint-log")), Ok(config.checkpoint_bytes as usize));
        let grace = parse::duration(&told("grace")).map(|grace| grace.as_micros() as u64);
        assert_eq!(grace, Ok(config.moves.grace_micros));
        assert_eq!(parse::moves(&told("moves-max")), Ok(config.moves.max));
        assert_eq!(parse::size(&told("move-rate")), Ok(config.moves.bytes_per_second as usize));
    }

    const FILE: &str = "
        name = 'n1'
        data = 'd'
        peers = ['n1=a:1', 'n2=b:1']
        engine = 'memory'
        history = 'all'
        deleted-history = '1h'
        shards = 7
        replicas = 2
        cores = 3
        entry-cache = '1M'
        checkpoint-log = 2097152
        grace = '90s'
        moves-max = 4
        move-rate = '2M'
        quiet = true
        lab = true
        advertise-peer = 'public:7421'
        listen-peer = '*:7421'
        zone = 'rack 1'
        listen = 'h:7401'
        advertise = 'public:7401'
    ";

    #[test]
    fn serve_file_says_what_options_say() {
        let options = "--name n1 --data d --peers n1=a:1,n2=b:1 --engine memory --history all --deleted-history 1h --shards 7 --replicas 2 \
                       --cores 3 --entry-cache 1M --checkpoint-log 2M --quiet --lab --listen h:7401 --advertise public:7401 \
                       --grace 90s --moves-max 4 --move-rate 2M \
                       --advertise-peer public:7421 --listen-peer *:7421 --zone";
        let options: Vec<&str> = options.split_whitespace().chain(["rack 1"]).collect();
        let shown = |config: server::Config| format!("{config:?}");
        assert_eq!(with_file(&[], FILE).map(shown), parsed(&options, "").map(shown));
    }

    #[test]
    fn serve_option_wins_over_the_file() {
        let mut words =
            vec!["--name", "n2", "--data", "e", "--peers", "n2=c:1", "--engine", "disk", "--history", "5"];
        words.extend([
            "--deleted-history",
            "all",
            "--shards",
            "1",
            "--replicas",
            "1",
            "--cores",
            "1",
            "--entry-cache",
            "2K",
        ]);
        words.extend(["--checkpoint-log", "5M", "--listen", "i:1", "--advertise", "j:1"]);
        words.extend(["--grace", "2h", "--moves-max", "1", "--move-rate", "0"]);
        words.extend(["--advertise-peer", "k:1", "--listen-peer", "l:1", "--zone", "other"]);
        let (alone, both) = (parsed(&words, "").unwrap(), with_file(&words, FILE).unwrap());
        let quiet = server::Config { stderr: Stderr::Nothing, lab: true, ..alone };
        assert_eq!(format!("{both:?}"), format!("{quiet:?}"));
    }

    #[test]
    fn serve_example_of_the_help_is_such_a_file() {
        let config = with_file(&[], include_str!("example.toml")).unwrap();
        assert_eq!((config.name.as_str(), config.peers.len(), config.listen.len()), ("n1", 3, 2));
    }

    #[test]
    fn serve_file_has_the_keys_that_there_are_options_for() {
        let wrong = file::decode(b"x = 1").unwrap_err().why;
        let keys: BTreeSet<&str> = wrong.split('`').skip(3).step_by(2).collect();
        let command = Line::command();
        let options = command.get_arguments().filter_map(|argument| argument.get_long());
        // What is of one start only.
        let kept = options.filter(|option| !["config", "parent"].contains(option));
        assert_eq!(keys, kept.collect());
    }

    const LISTENERS: &str = "
        name = 'n1'
        data = 'd'
        [[listen]]
        dialect = 'classic/pairs'
        address = '*:7500'
        advertise = 'pairs:7500'
        may-end = true
        [[listen]]
        address = 'h:7401'
        advertise = 'public:7401'
        [[listen]]
        address = 'i:7401'
        keyspace = 'default'
    ";

    #[test]
    fn serve_listeners_of_the_file_begin_with_the_first_native_one() {
        let config = with_file(&[], LISTENERS).unwrap();
        let pairs = ("classic/pairs", "*:7500", Some("pairs:7500"));
        let second = ("native", "i:7401", None);
        assert_eq!(listeners(&config), [("native", "h:7401", Some("public:7401")), pairs, second]);
        assert_eq!(config.listen.iter().map(|it| it.may_end).collect::<Vec<_>>(), [false, true, false]);
        assert!(config.listen.iter().all(|it| it.keyspace == "default"));

        let moved = with_file(&["--listen", "k:1"], LISTENERS).unwrap();
        assert_eq!(listeners(&moved), [("native", "k:1", Some("public:7401")), pairs, second]);
        let told = with_file(&["--advertise", "k:1"], LISTENERS).unwrap();
        assert_eq!(listeners(&told), [("native", "h:7401", Some("k:1")), pairs, second]);
        let taken = with_file(&["--listen", "I:7401"], LISTENERS).unwrap_err();
        assert!(taken.contains("another one at i:7401"), "{taken}");
    }

    #[test]
    fn serve_short_form_beside_listeners_without_a_native_one_adds_it() {
        let file = "name = 'n1'\ndata = 'd'\n[[listen]]\ndialect = 'classic/central'\naddress = '*:7500'";
        let error = with_file(&[], file).unwrap_err();
        assert!(error.contains("no listener of the dialect native"), "{error}");
        let config = with_file(&["--listen", "h:1", "--advertise", "i:1"], file).unwrap();
        assert_eq!(listeners(&config), [("native", "h:1", Some("i:1")), ("classic/central", "*:7500", None)]);
    }
}
