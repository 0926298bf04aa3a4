//! What a line does: it is split, parsed, run against one store, and how it ended is told.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;

use super::help;
use super::line::{self, Command};
use crate::connect::{self, Store};
use crate::exit::{Code, Error};
use crate::options::Options;
use crate::print::Output;
use crate::{cluster, data, fault, keyspace, words};

/// How a line ended; why it failed is told.
pub fn tell(result: Result<Code, Error>, out: &mut Output<'_>) -> Code {
    let error = match out.end(result) {
        Ok(code) => return code,
        Err(error) => error,
    };
    // That nobody reads on is no news line by line.
    if !error.is_closed_pipe() {
        // Fails only for the data before it, which was told.
        let _ = out.note(&format!("error: {error}"));
    }
    error.code()
}

/// Names are completed while somebody types: a node that does not answer in this time is not waited for.
const NAMES_WAIT: Duration = Duration::from_millis(200);

/// What a line did.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It ended like this.
    Ran(Code),
    /// It asked to leave.
    Quit,
}

/// Runs lines against one store.
pub struct Shell {
    store: Arc<dyn Store>,
    runtime: Handle,
    options: Options,
    /// The keyspace that lines ask which name none.
    keyspace: Mutex<Option<String>>,
}

impl Shell {
    /// A shell on a store. The runtime is driven by another thread.
    pub fn new(store: Arc<dyn Store>, options: &Options, runtime: Handle) -> Shell {
        let keyspace = Mutex::new(options.keyspace.clone());
        Shell { store, runtime, options: options.clone(), keyspace }
    }

    /// A shell on the store at these addresses.
    pub fn connect(addresses: &[String], options: &Options, runtime: Handle) -> Result<Shell, Error> {
        let inside = runtime.enter();
        let store = connect::store(addresses, 1)?;
        drop(inside);
        Ok(Shell::new(store, options, runtime))
    }

    /// The keyspace that lines ask which name none; `None` = the usual one.
    pub fn keyspace(&self) -> Option<String> {
        self.keyspace.lock().expect("no holder of the name panics").clone()
    }

    /// The names of the keyspaces that there are, as the node at hand knows them; none when it is not there at once.
    pub fn keyspaces(&self) -> Vec<String> {
        let status = async { tokio::time::timeout(NAMES_WAIT, self.store.status()).await };
        let shards = self.runtime.block_on(status).ok().and_then(Result::ok).map(|status| status.shards);
        let names: BTreeSet<String> = shards.into_iter().flatten().map(|shard| shard.keyspace).collect();
        names.into_iter().collect()
    }

    /// Asks another keyspace from now on, if it is there.
    async fn use_keyspace(&self, name: &str, out: &mut Output<'_>) -> Result<Code, Error> {
        let is_known = self.store.status().await?.shards.iter().any(|shard| shard.keyspace == name);
        // The node at hand may not have heard of it yet.
        if !is_known
            && !keyspace::all(&*self.store, &self.options).await?.iter().any(|known| known.name == name)
        {
            return Err(kv::Error::NoKeyspace(name.into()).into());
        }
        *self.keyspace.lock().expect("no holder of the name panics") = Some(name.into());
        out.note(&format!("from now on {name} is asked"))?;
        Ok(Code::Done)
    }

    /// Runs a line; what goes wrong is told.
    pub fn execute(&self, line: &[u8], out: &mut Output<'_>) -> Outcome {
        out.json = self.options.json;
        let result = match self.parse(line, out) {
            Ok(None) => Ok(Code::Done),
            Ok(Some(line::Line { command: Command::Quit, .. })) => return Outcome::Quit,
            Ok(Some(line)) => self.command(line, out),
            Err(error) => Err(error),
        };
        Outcome::Ran(tell(result, out))
    }

    /// The command of a line; none in an empty one, or when all it wants is to be told about itself.
    fn parse(&self, line: &[u8], out: &mut Output<'_>) -> Result<Option<line::Line>, Error> {
        let words = words::split(line).map_err(Error::Usage)?;
        if words.is_empty() {
            return Ok(None);
        }
        match line::parse(words) {
            Ok(line) => Ok(Some(line)),
            Err(line::Refusal::Wrong(text)) => Err(Error::Usage(text)),
            Err(line::Refusal::Help(text)) => {
                out.line(&text)?;
                Ok(None)
            }
        }
    }

    fn command(&self, line: line::Line, out: &mut Output<'_>) -> Result<Code, Error> {
        let options = line.options.or(&Options { keyspace: self.keyspace(), ..self.options.clone() });
        out.json = options.json;
        let run = async {
            match &line.command {
                Command::Data(command) => data::run(command, &*self.store, &options, None, out).await,
                Command::Fault(command) => fault::run(command, &*self.store, &options, out).await,
                Command::Cluster(command) => cluster::run(command, &*self.store, &options, out).await,
                Command::Keyspace(command) => keyspace::run(command, &*self.store, &options, out).await,
                Command::Use { keyspace } => self.use_keyspace(keyspace, out).await,
                Command::Status => {
                    let command = cluster::Command::Status { all: false };
                    cluster::run(&command, &*self.store, &options, out).await
                }
                Command::Nodes => cluster::run(&cluster::Command::Nodes, &*self.store, &options, out).await,
                Command::Dump => data::dump(&*self.store, &options, out).await,
                Command::Help { command } => help::print(command, out),
                Command::Quit => Ok(Code::Done),
            }
        };
        // A watch goes on until then, and is not given up.
        let is_watch = matches!(line.command, Command::Data(data::Command::Watch(_)));
        self.runtime.block_on(async {
            tokio::select! {
                result = run => result,
                () = interrupted(), if !is_watch => Err(Error::Store(kv::Error::InDoubt("given up with Ctrl-C".into()))),
            }
        })
    }
}

/// Waits for Ctrl-C at a prompt. A script dies from it, as every program does.
async fn interrupted() {
    if !io::stdin().is_terminal() || tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}
