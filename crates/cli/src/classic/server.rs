//! A pair server or a central server: an ordinary node of one, set up as the programs are.
//!
//! The rows are those of the keyspace `default` in the usual shards, so its data folder is one that `capstan serve` opens, and
//! the other way round. Without a folder nothing is on the disk, and the store ends with the process.

use std::path::PathBuf;
use std::sync::Arc;

use dialects::Dialect;
use dialects::classic::pairs::{Central, Pairs};
use server::{Config, Kind, Listen, Moves, Stderr};

use super::host;
use crate::exit::{Code, Error};
use crate::{parse, serve};

/// What both servers are given.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where clients connect, on every address of this machine
    #[arg(value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Keep the store in this folder [default: it ends with the server]
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Where others reach it [default: this machine's full name and PORT]
    #[arg(long, value_name = "HOST:PORT", value_parser = parse::address)]
    advertise: Option<String>,
}

/// Runs a pair server; `activate` = its clients may have it register its keys.
pub fn pairs(args: Args, activate: bool) -> Result<Code, Error> {
    serve::start(config("pair-server", args, Arc::new(Pairs::new(activate))))?;
    Ok(Code::Done)
}

/// Runs a central server; `check` = a key keeps its text.
pub fn central(args: Args, check: bool) -> Result<Code, Error> {
    serve::start(config("central-server", args, Arc::new(Central::new(check))))?;
    Ok(Code::Done)
}

/// The settings of such a server: those of `capstan serve` where nothing else is said.
fn config(name: &str, args: Args, dialect: Arc<dyn Dialect>) -> Config {
    let Args { port, data, advertise } = args;
    let advertise = advertise.unwrap_or_else(|| format!("{}:{port}", host::full_name()));
    let ready = format!("{name}: serving at {advertise}; T from a client, Ctrl-C or SIGTERM ends it");
    let listen = Listen::new(dialect, format!("*:{port}"));
    let listen = Listen { advertise: Some(advertise), may_end: true, ..listen };
    Config {
        name: name.into(),
        engine: if data.is_some() { Kind::Disk } else { Kind::Memory },
        data,
        listen: vec![listen],
        peers: Vec::new(),
        join: Vec::new(),
        advertise_peer: None,
        listen_peer: None,
        zone: None,
        history: None,
        deleted_micros: None,
        shards: None,
        replicas: None,
        cores: None,
        entry_cache_bytes: Config::ENTRY_CACHE_BYTES,
        moves: Moves::default(),
        checkpoint_bytes: Config::CHECKPOINT_BYTES,
        protocol: None,
        weighed: None,
        lab: false,
        by_zones: false,
        ends_when_left: false,
        bus: Default::default(),
        stderr: Stderr::Line(ready),
    }
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

    fn parsed(words: &[&str]) -> Result<Config, String> {
        let line =
            Line::try_parse_from([&["pair-server"], words].concat()).map_err(|error| error.to_string())?;
        Ok(config("pair-server", line.args, Arc::new(Pairs::new(false))))
    }

    #[test]
    fn server_without_a_folder_has_nothing_on_the_disk() {
        let config = parsed(&["50051"]).unwrap();
        assert_eq!((config.data, config.engine), (None, Kind::Memory));
        let config = parsed(&["50051", "--data", "d"]).unwrap();
        assert_eq!((config.data, config.engine), (Some("d".into()), Kind::Disk));
    }

    #[test]
    fn server_listens_everywhere_and_says_its_full_name() {
        let listen = |words: &[&str]| parsed(words).unwrap().listen.remove(0);
        let usual = listen(&["50051"]);
        assert_eq!((usual.address.as_str(), usual.may_end), ("*:50051", true));
        assert_eq!(usual.advertise, Some(format!("{}:50051", host::full_name())));
        assert_eq!(listen(&["1", "--advertise", "h:2"]).advertise.as_deref(), Some("h:2"));
    }

    #[test]
    fn port_that_is_none_is_refused() {
        for port in ["0", "65536", "-1", "x", "", "localhost:50051"] {
            assert!(parsed(&[port]).is_err(), "{port}");
        }
        assert!(parsed(&["65535"]).is_ok() && parsed(&[]).is_err());
    }
}
