//! A server: an ordinary node whose clients are those of the store, alone or with the others of a list.
//!
//! ```text
//!   PORT           clients
//!   PORT + 1000    the other servers of its list
//!   PORT + 2000    clients of nodes, as `capstan cluster dump`, where it has a list
//! ```
//!
//! The servers of a list found a cluster, whose keyspace `default` is the store's: one shard with all keys, a copy at each of them.

use std::path::PathBuf;
use std::sync::Arc;

use dialects::classic::versioned::Versioned;
use dialects::native::Native;
use kv::Protocol;
use kv::keyspace::{Broker, Bus};
use server::{Config, History, Kind, Listen, Moves, Stderr};

use super::PORT;
use crate::classic::host;
use crate::exit::{Code, Error};
use crate::{parse, serve};

/// How the servers of a list agree: the one place that says it.
const SEVERAL: Protocol = Protocol::Broadcast;
const ALONE: Protocol = Protocol::Single;
/// All keys are of one shard: a range is read as of one moment.
const SHARDS: u32 = 1;
/// From the port of a server's clients to that of the other servers, and to that of the clients of nodes.
const PEERS: u16 = 1_000;
const NATIVE: u16 = 2_000;
/// The highest port of clients that leaves room for the others.
const PORT_MAX: u16 = u16::MAX - NATIVE;
/// The name of a server that is alone.
const NAME: &str = "versioned-server";

/// The options of a server.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where clients connect, on every address of this machine
    #[arg(long, alias = "porta", value_name = "PORT", default_value_t = PORT, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Keep the store in this folder [default: it ends with the server]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The servers that share the store, this one too, the same list at each
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', value_parser = parse::address, requires = "data")]
    peers: Vec<String>,
    /// Which of --peers this one is [default: the one with its port]
    #[arg(long, value_name = "HOST:PORT", value_parser = parse::address, requires = "peers")]
    advertise: Option<String>,
    /// The MQTT broker that carries what is written to the other servers of --peers [default: their own connections]
    #[arg(long, value_name = "mqtt://HOST:PORT", value_parser = Broker::parse)]
    broker: Option<Broker>,
}

/// Runs a server until a signal stops it.
pub fn run(args: Args) -> Result<Code, Error> {
    serve::start(config(args)?)?;
    Ok(Code::Done)
}

/// Its settings: those of `capstan serve` where nothing else is said.
fn config(args: Args) -> Result<Config, Error> {
    let Args { port, data, peers, advertise, broker } = args;
    if let Some(broker) = broker.as_ref().filter(|_| peers.is_empty()) {
        return Err(Error::Usage(format!(
            "--broker {broker}: a broker carries what is written, and which servers there are says a list: add --peers HOST:PORT,.. with all of \
             them, this one too"
        )));
    }
    let dialect = Listen::new(Arc::new(Versioned::new()), format!("*:{port}"));
    let own = match peers.is_empty() {
        true => None,
        false => Some(own_of(&peers, port, advertise)?),
    };
    let reached = own.clone().unwrap_or_else(|| format!("{}:{port}", host::full_name()));
    let mut listen = vec![Listen { advertise: Some(reached.clone()), ..dialect }];
    let mut ready = format!("{NAME}: serving at {reached}; Ctrl-C or SIGTERM ends it");
    if let Some(own) = &own {
        let native = beside(own, NATIVE)?;
        ready = format!(
            "{NAME}: serving at {own}, for 'capstan --connect {native}' too; Ctrl-C or SIGTERM ends it"
        );
        let at = Listen::new(Arc::new(Native::new()), format!("*:{}", port + NATIVE));
        // The first of all is the one that the cluster is told.
        listen.insert(0, Listen { advertise: Some(native), ..at });
    }
    let is_alone = own.is_none();
    let peers = peers.into_iter().map(|peer| Ok((peer.clone(), beside(&peer, PEERS)?)));
    let peers = peers.collect::<Result<Vec<_>, Error>>()?;
    Ok(Config {
        listen_peer: (!is_alone).then(|| format!("*:{}", port + PEERS)),
        name: own.unwrap_or_else(|| NAME.into()),
        engine: if data.is_some() { Kind::Disk } else { Kind::Memory },
        data,
        listen,
        join: Vec::new(),
        advertise_peer: None,
        zone: None,
        history: Some(History::All),
        deleted_micros: None,
        shards: Some(SHARDS),
        replicas: u16::try_from(peers.len().max(1)).ok(),
        protocol: Some(if is_alone { ALONE } else { SEVERAL }),
        weighed: None,
        peers,
        cores: None,
        entry_cache_bytes: Config::ENTRY_CACHE_BYTES,
        moves: Moves::default(),
        checkpoint_bytes: Config::CHECKPOINT_BYTES,
        lab: false,
        by_zones: false,
        ends_when_left: false,
        bus: broker.map_or(Bus::Peers, Bus::Mqtt),
        stderr: Stderr::Line(ready),
    })
}

/// Which of the servers of a list is the one at a port.
fn own_of(peers: &[String], port: u16, said: Option<String>) -> Result<String, Error> {
    let list = peers.join(",");
    if let Some(twice) = (1..peers.len()).find(|place| peers[..*place].contains(&peers[*place])) {
        return Err(Error::Usage(format!("--peers {list}: {} is there twice", peers[twice])));
    }
    let is_at_port = |peer: &&String| peer.rsplit_once(':').is_some_and(|(_, at)| at.parse() == Ok(port));
    match (said, &peers.iter().filter(is_at_port).collect::<Vec<_>>()[..]) {
        (Some(said), _) if !peers.contains(&said) => Err(Error::Usage(format!(
            "--advertise {said} is none of --peers {list}: list all servers, this one too, the same at each"
        ))),
        (Some(said), _) if !is_at_port(&&said) => Err(Error::Usage(format!(
            "--advertise {said} has another port than --port {port}: give both the same"
        ))),
        (Some(said), _) => Ok(said),
        (None, [own]) => Ok((*own).clone()),
        (None, []) => Err(Error::Usage(format!(
            "--peers {list}: none has the port of this server, {port}: list all servers, this one too, the same at each"
        ))),
        (None, [one, ..]) => Err(Error::Usage(format!(
            "--peers {list}: several have the port {port}: say which is this one, as in --advertise {one}"
        ))),
    }
}

/// The address of a server for others than its clients.
fn beside(server: &str, offset: u16) -> Result<String, Error> {
    let (host, port) = server.rsplit_once(':').unwrap_or((server, ""));
    let port = port.parse::<u16>().ok().filter(|port| (1..=PORT_MAX).contains(port));
    port.map(|port| format!("{host}:{}", port + offset)).ok_or_else(|| {
        Error::Usage(format!(
            "{server}: a server of a list needs the ports {PEERS} and {NATIVE} above its own too, so take one up to {PORT_MAX}"
        ))
    })
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
        let line = Line::try_parse_from([&[NAME], words].concat()).map_err(|error| error.to_string())?;
        config(line.args).map_err(|error| error.to_string())
    }

    #[test]
    fn server_alone_listens_at_its_port_in_either_language() {
        for (words, port) in [(&[][..], "*:40000"), (&["--port", "7"], "*:7"), (&["--porta", "7"], "*:7")] {
            let config = parsed(words).expect("it needs nothing else");
            assert_eq!((config.listen.len(), config.listen[0].address.as_str()), (1, port));
            assert_eq!((config.engine, config.protocol, config.data), (Kind::Memory, Some(ALONE), None));
        }
        let config = parsed(&["--data", "d"]).expect("it needs nothing else");
        assert_eq!((config.engine, config.history), (Kind::Disk, Some(History::All)));
    }

    #[test]
    fn servers_of_a_list_hear_each_other_beside_their_clients() {
        let list = "h:40000,h:40001,i:40002";
        let config = parsed(&["--port", "40001", "--data", "d", "--peers", list]).expect("it is in the list");
        assert_eq!((config.name.as_str(), config.replicas), ("h:40001", Some(3)));
        assert_eq!(config.listen_peer.as_deref(), Some("*:41001"));
        let peers: Vec<&str> = config.peers.iter().map(|(_, at)| at.as_str()).collect();
        assert_eq!(peers, ["h:41000", "h:41001", "i:41002"]);
        let listens: Vec<&str> = config.listen.iter().map(|listen| listen.address.as_str()).collect();
        assert_eq!(listens, ["*:42001", "*:40001"]);
        let same = "a:40000,b:40000";
        let config = parsed(&["--data", "d", "--peers", same, "--advertise", "b:40000"]);
        assert_eq!(config.expect("it says which it is").name, "b:40000");
    }

    #[test]
    fn lists_that_cannot_be_are_told() {
        let refused = |words: &[&str]| parsed(&[&["--data", "d"], words].concat()).expect_err("it cannot be");
        for (words, why) in [
            (&["--peers", "h:1,i:2"][..], "none has the port of this server, 40000"),
            (
                &["--peers", "a:40000,b:40000"],
                "several have the port 40000: say which is this one, as in --advertise a:40000",
            ),
            (&["--peers", "a:40000,a:40000"], "a:40000 is there twice"),
            (&["--peers", "a:40000", "--advertise", "b:40000"], "is none of --peers a:40000"),
            (&["--peers", "a:40000,a:1", "--advertise", "a:1"], "another port than --port 40000"),
            (&["--port", "65000", "--peers", "a:65000"], "take one up to 63535"),
            (&["--peers", "a"], "an address is HOST:PORT"),
        ] {
            let told = refused(words);
            assert!(told.contains(why), "{told}");
        }
        let told = parsed(&["--peers", "a:40000"]).expect_err("it has no folder");
        assert!(told.contains("--data"), "{told}");
    }

    #[test]
    fn broker_carries_what_the_servers_of_a_list_write() {
        let (list, broker) = (["--data", "d", "--peers", "h:40000,h:40001"], ["--broker", "mqtt://h:1883"]);
        let config = parsed(&[&list[..], &broker].concat()).expect("it is sound");
        assert_eq!(config.bus, Bus::parse("mqtt://h:1883").expect("it is an address"));
        assert_eq!(parsed(&list).expect("it is sound").bus, Bus::Peers);
        let told = parsed(&broker).expect_err("nobody says which servers there are");
        assert!(told.contains("add --peers HOST:PORT"), "{told}");
        let told = parsed(&["--broker", "h:1883"]).expect_err("it is none");
        assert!(told.contains("mqtt://"), "{told}");
    }
}
