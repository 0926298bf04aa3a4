//! The life of a node: open, recover, serve, stop.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use kv::{NodeId, Protocol, ShardId};
use node::route::ShardMap;
use node::{Driver, Executor, Recovery};
use storage::{Applied, Kind, Options, Table};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::connections::{self, listen};
use crate::core::Core;
use crate::engine::Engine;
use crate::folder::Folder;
use crate::handle::{Handle, View};
use crate::inbox::Inbox;
use crate::transport::{Identities, Transport};
use crate::{Config, Failure, journal, log, time};

/// Runs a node until SIGTERM or SIGINT, or until it cannot go on.
pub fn run(config: Config) -> Result<(), Failure> {
    config.validate().map_err(Failure::Refused)?;
    let folder = Folder::open(&config)?;
    let journal_folder = Folder::journal(&config.data);
    std::fs::create_dir_all(&journal_folder)
        .map_err(|error| Failure::Refused(format!("cannot make {}: {error}", journal_folder.display())))?;
    let _journal = journal::start(&journal_folder, config.journal_stderr).map_err(Failure::Refused)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("cannot start a runtime: {error}")))?;
    let ended = runtime.block_on(serve(config, folder));
    if let Err(failure) = &ended {
        tracing::error!(%failure, "the node ends");
    }
    ended
}

async fn serve(config: Config, folder: Folder) -> Result<(), Failure> {
    let clients = listen(&config.listen, "clients")?;
    let peers = own_address(&config).map(|address| listen(address, "other nodes")).transpose()?;
    let address = clients.local_addr().map_or_else(|_| config.listen.clone(), |address| address.to_string());
    let node = node_config(&config, &folder, address.clone());
    let inbox = Arc::new(Inbox::default());
    let (driver, executor, log) = recover(&folder, &node, &config)?;
    let requests = log.requests();
    let log_thread = log.start(inbox.clone());
    let engine = Engine::new(executor, config.engine, inbox.clone(), requests.clone());
    let view = Arc::new(View::default());
    let handle = Arc::new(Handle::new(inbox.clone(), node.map.clone(), view.clone()));
    let addresses = peer_addresses(&config, &node);
    let identities = Identities::new(folder, node.me)?;
    let failed = |error: std::io::Error| Failure::Failed(format!("cannot start: {error}"));
    let transport = Transport::start(peers, addresses, identities, inbox.clone()).map_err(failed)?;
    let mut core = Core::new(driver, inbox, view, engine, requests.clone(), transport);

    let (stop_connections, stopped) = watch::channel(false);
    let service = connections::dialects(handle);
    let cores =
        config.cores.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
    tokio::spawn(connections::serve(clients, service.routes, cores, stopped));
    tracing::info!(node = %config.name, address, data = %config.data.display(), "ready");
    let health = service.health.clone();
    let stop = Box::pin(async move {
        stop_signal().await;
        tracing::info!("stopping: leaderships are handed over");
        health.set_serving(false).await;
    });
    let ended = core.run(stop).await;
    // Connections end with the runtime; what was not answered by now is in doubt for its client.
    let _ = stop_connections.send(true);
    let _ = requests.send(log::Request::Stop);
    if ended.is_ok() && log_thread.join().is_err() {
        return Err(Failure::Failed("the log's thread panicked".into()));
    }
    tracing::info!("stopped");
    ended
}

async fn stop_signal() {
    let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be handled");
    let mut interrupt = signal(SignalKind::interrupt()).expect("SIGINT can be handled");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn own_address(config: &Config) -> Option<&str> {
    let own = config.peers.iter().find(|(name, _)| *name == config.name);
    own.filter(|_| config.peers.len() > 1).map(|(_, address)| address.as_str())
}

fn peer_addresses(config: &Config, node: &node::Config) -> BTreeMap<NodeId, String> {
    let id = |name: &str| node.nodes.iter().find(|(_, known)| known == name).map(|(id, _)| *id);
    let others = config.peers.iter().filter(|(name, _)| *name != config.name);
    others.filter_map(|(name, address)| Some((id(name)?, address.clone()))).collect()
}

fn node_config(config: &Config, folder: &Folder, address: String) -> node::Config {
    let names = &folder.identity.nodes;
    let nodes: Vec<(NodeId, String)> = (1..).map(NodeId).zip(names.iter().cloned()).collect();
    let me = nodes.iter().find(|(_, name)| *name == config.name).map(|(id, _)| *id);
    node::Config {
        me: me.expect("the folder lists this node"),
        protocol: if nodes.len() == 1 { Protocol::Single } else { Protocol::Raft },
        nodes,
        map: ShardMap::of(config.shards),
        seed: crate::random(),
        entry_cache_bytes: config.entry_cache_bytes,
        pid: std::process::id(),
        address,
        rejoining: folder.identity.rejoining,
    }
}

/// Log first, then the table at the generations that the log names, then the driver.
fn recover(
    folder: &Folder,
    node: &node::Config,
    config: &Config,
) -> Result<(Driver, Executor, log::OpenLog), Failure> {
    let mut recovery = Recovery::default();
    let mut replay =
        |record: wal::Record| recovery.replay(&record).map_err(|error| Failure::Refused(error.to_string()));
    let log = log::open(&folder.log(), folder.identity.incarnation, &mut replay)?;
    let mut table = open_table(&folder.engine(), config)?;
    let mut applied: BTreeMap<ShardId, Applied> = BTreeMap::new();
    for &(shard, _) in node.map.shards() {
        applied.insert(
            shard,
            table.load(shard, recovery.generation(shard)).map_err(|error| engine_failure(&error))?,
        );
    }
    let driver = Driver::new(node.clone(), recovery, &applied, time::now());
    let driver = driver.map_err(|error| Failure::Refused(error.to_string()))?;
    Ok((driver, Executor::new(table), log))
}

fn open_table(folder: &Path, config: &Config) -> Result<Table, Failure> {
    let kind: Kind = config.engine;
    let engine = storage::open(kind, folder).map_err(|error| engine_failure(&error))?;
    Ok(Table::open(engine, Options::of(config.history)))
}

fn engine_failure(error: &storage::EngineError) -> Failure {
    if error.is_full() {
        return Failure::Failed(error.to_string());
    }
    Failure::Refused(format!(
        "cannot open the engine: {error}. If the other nodes are well, move this node's data folder away and start it \
         with --rejoin: they make it whole"
    ))
}
