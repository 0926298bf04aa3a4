//! A server: a node by itself, or one of a shard master's.
//!
//! Which of both it is stands in its folder. When that changes the node ends in the ordinary way, and the process becomes this program
//! again (exec): nothing of the old one is left but the folder.

use std::env;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{io, process, thread};

use dialects::classic::shards::{Office, Seat, ShardMasterClient, ShardServer};
use dialects::native::Native;
use kv::Protocol;
use server::{Config, Failure, Listen};

use super::kept::{self, Kept, Program};
use super::node::{self, host_of, reached, remove, temporary};
use crate::exit::{Code, Error};
use crate::{connect, parse};

/// Its name as a node by itself.
const NAME: &str = "shard-server";
/// The folder of the node by itself, and of the one with a master.
const ALONE: &str = "alone";
const JOINED: &str = "joined";
/// A shard master that is away, or busy, is asked again after this.
const AGAIN: Duration = Duration::from_millis(500);

/// The options of a server.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where clients connect
    #[arg(value_name = "HOST:PORT", value_parser = parse::address)]
    listen: String,
    /// Keep the data in this folder [default: it ends with the server]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Ask this shard master for a range, or for a place in a group
    #[arg(long, value_name = "HOST:PORT", value_parser = parse::address)]
    shard_master: Option<String>,
    /// Secondaries that have a write before it is answered, or all while there are fewer. The first server of a group says it for the
    /// group [default: all]
    #[arg(long, value_name = "N", requires = "shard_master")]
    consistency: Option<u32>,
    /// The folder that this process had before it began anew
    #[arg(long, value_name = "DIR", hide = true, conflicts_with = "data")]
    temporary: Option<PathBuf>,
    /// It was let go while it ran: it asks for no place by itself
    #[arg(long, hide = true)]
    left: bool,
}

/// Runs a server until a signal stops it.
pub fn run(args: &Args) -> Result<Code, Error> {
    let own = args.data.as_ref().or(args.temporary.as_ref());
    let folder = own.cloned().map_or_else(temporary, Ok)?;
    let ended = kept::open(&folder, Program::ShardServer, host_of(&args.listen))
        .and_then(|kept| serve(args, folder.clone(), kept));
    if !matches!(ended, Ok(Ended::Joined | Ended::Left)) {
        if args.data.is_none() {
            // What cannot be removed is the system's to remove.
            let _ = remove(&folder);
        }
        return ended.map(|_| Code::Done);
    }
    Err(again(args, folder, matches!(ended, Ok(Ended::Left))))
}

/// How a node ended.
enum Ended {
    /// A signal stopped it.
    Stopped,
    /// The server is to be one of a shard master.
    Joined,
    /// The server is to be by itself.
    Left,
}

/// Runs the node that the server is now.
fn serve(args: &Args, folder: PathBuf, kept: Kept) -> Result<Ended, Error> {
    let failed = |error| Error::Unavailable(format!("clearing {}: {error}", folder.display()));
    let seat: Option<Seat> = kept.seat.clone().map(Into::into);
    // Of the other one what was worth keeping is elsewhere.
    remove(&folder.join(if seat.is_some() { ALONE } else { JOINED })).map_err(failed)?;
    let was = seat.is_some();
    if let (Some(master), None, false) = (&args.shard_master, &seat, args.left) {
        let (master, own) = (ShardMasterClient::new(master)?, args.listen.clone());
        thread::spawn(move || ask_for_a_place(&master, own));
    }
    let desk =
        Arc::new(Desk { folder: folder.clone(), kept: Mutex::new(kept), consistency: args.consistency });
    match server::run(config(args, &desk, seat)) {
        Ok(()) if !was && desk.kept().seat.is_some() => Ok(Ended::Joined),
        Ok(()) => Ok(Ended::Stopped),
        Err(Failure::Left(_)) => {
            desk.note(None)?;
            Ok(Ended::Left)
        }
        Err(Failure::Refused(why)) => Err(Error::Usage(why)),
        Err(Failure::Failed(why)) => Err(Error::Unavailable(why)),
    }
}

/// Asks a shard master to let this server in, for as long as it does not; it then begins anew. Where that cannot be the process ends.
fn ask_for_a_place(master: &ShardMasterClient, own: String) {
    let asked = connect::runtime().block_on(async {
        loop {
            match master.join_replica(own.clone()).await {
                Err(error) if error.is_transient() => tokio::time::sleep(AGAIN).await,
                answer => return answer,
            }
        }
    });
    if let Err(error) = asked {
        let error = Error::from(error);
        // When nobody reads, nobody is told.
        let _ = writeln!(io::stderr(), "error: {error}");
        process::exit(error.code() as i32);
    }
}

/// Begins anew, after it was let go or not. Returns only where that cannot be.
fn again(args: &Args, folder: PathBuf, left: bool) -> Error {
    let mut words: Vec<OsString> = env::args_os().skip(1).collect();
    if args.data.is_none() && args.temporary.is_none() {
        words.extend(["--temporary".into(), folder.into_os_string()]);
    }
    if left && !args.left {
        words.push("--left".into());
    }
    // The very file of this process, too where another one has its name by now.
    let error = Command::new("/proc/self/exe").args(words).exec();
    Error::Unavailable(format!("beginning anew: {error}; start this server again"))
}

/// The settings of the node that the server is now.
fn config(args: &Args, desk: &Arc<Desk>, seat: Option<Seat>) -> Config {
    let (host, advertise) = (host_of(&args.listen), reached(&args.listen));
    let own = |port: u16| format!("{host}:{port}");
    let reach = |port: u16| Some(reached(&own(port)));
    let dialect = Arc::new(ShardServer::new(desk.clone()));
    let listen = Listen {
        advertise: Some(advertise.clone()),
        may_end: true,
        ..Listen::new(dialect, args.listen.clone())
    };
    let Some(seat) = seat else {
        let ready = format!("shard-server: serving at {advertise}; Ctrl-C or SIGTERM ends it");
        let data = args.data.is_some().then(|| desk.folder.join(ALONE));
        return Config { protocol: Some(Protocol::Single), ..node::config(NAME, data, vec![listen], ready) };
    };
    let kept = desk.kept();
    let native = Listen {
        advertise: reach(kept.native_port),
        ..Listen::new(Arc::new(Native::new()), own(kept.native_port))
    };
    let ready = format!("shard-server: {advertise} serves for its shard master");
    Config {
        join: seat.join,
        zone: Some(seat.zone),
        listen_peer: Some(own(kept.peer_port)),
        advertise_peer: reach(kept.peer_port),
        ends_when_left: true,
        ..node::config(&seat.name, Some(desk.folder.join(JOINED)), vec![native, listen], ready)
    }
}

/// What the server is, and is to be.
#[derive(Debug)]
struct Desk {
    folder: PathBuf,
    kept: Mutex<Kept>,
    consistency: Option<u32>,
}

impl Desk {
    fn kept(&self) -> Kept {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its place from now on.
    fn note(&self, seat: Option<Seat>) -> Result<(), Error> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let next = Kept { seat: seat.map(Into::into), ..kept.clone() };
        kept::write(&self.folder, &next)?;
        *kept = next;
        Ok(())
    }
}

impl Office for Desk {
    fn seat(&self) -> Option<Seat> {
        self.kept().seat.map(Into::into)
    }

    fn consistency(&self) -> Option<u32> {
        self.consistency
    }

    fn enter(&self, seat: Seat) -> Result<(), kv::Error> {
        self.note(Some(seat)).map_err(|error| kv::Error::Unavailable(error.to_string()))
    }
}
