//! The one door to the store: what commands ask of a cluster, whoever answers.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use dialects::native::{self, Client};
use kv::admin::{Answer, Ask};
use kv::cluster::{Location, Status, Terms};
use kv::fault::{Fault, Faults};
use kv::watch::{Watch, Watcher, Watching};
use kv::{ClusterId, Error, Key, Reply, Request};
use tokio::runtime::{Builder, Runtime};

/// An answer that is on its way.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// A cluster, as the commands see it. Connects when first asked and again when a connection is lost.
pub trait Store: Send + Sync {
    /// Asks one request. `ttl` replaces the deadline of a write that may have one: it counts on the store's clock.
    fn call(&self, request: Request, ttl: Option<Duration>) -> Pending<'_, Reply>;
    /// The cluster's id.
    fn cluster(&self) -> Pending<'_, ClusterId>;
    /// What its nodes have in common.
    fn terms(&self) -> Pending<'_, Terms>;
    /// Nodes and shards.
    fn status(&self) -> Pending<'_, Status>;
    /// Where a key of a keyspace is.
    fn locate(&self, keyspace: &str, key: Key) -> Pending<'_, Location>;
    /// Asks the cluster's directory one thing.
    fn administer(&self, ask: Ask, timeout: Duration) -> Pending<'_, Answer>;
    /// Puts a fault on the node at this address, or takes it off, and says which are in force then; `None` = says that only.
    fn fault(&self, address: &str, fault: Option<Fault>, timeout: Duration) -> Pending<'_, Faults>;
    /// Begins a watch.
    fn watch(&self, asked: Watching) -> Box<dyn Watcher>;
    /// Whether a server is there and serves.
    fn health_check(&self) -> Pending<'_, ()>;
}

/// The cluster behind these addresses, over so many connections to each node. Call it inside a runtime; nothing is
/// connected yet.
pub fn store(addresses: &[String], connections: usize) -> Result<Arc<dyn Store>, Error> {
    let options = native::Options { connections, ..native::Options::default() };
    Ok(Arc::new(Client::connect(addresses.to_vec(), options)?))
}

/// A runtime of one thread: a command waits for sockets, it does not compute.
pub fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs an epoll instance and a pipe only")
}

/// A runtime that goes on while its owner does something else, such as waiting for a key press: connections stay
/// alive. Ends with the process.
pub fn background_runtime() -> tokio::runtime::Handle {
    let runtime = runtime();
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name("sockets".into())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))
        .expect("a process can start a thread");
    handle
}

impl Store for Client {
    fn call(&self, request: Request, ttl: Option<Duration>) -> Pending<'_, Reply> {
        match ttl {
            None => Box::pin(Client::call(self, request)),
            Some(ttl) => Box::pin(self.call_with_ttl(request, ttl)),
        }
    }

    fn cluster(&self) -> Pending<'_, ClusterId> {
        Box::pin(Client::cluster(self))
    }

    fn terms(&self) -> Pending<'_, Terms> {
        Box::pin(Client::terms(self))
    }

    fn status(&self) -> Pending<'_, Status> {
        Box::pin(Client::status(self))
    }

    fn locate(&self, keyspace: &str, key: Key) -> Pending<'_, Location> {
        let keyspace = keyspace.to_owned();
        Box::pin(async move { Client::locate(self, &keyspace, key).await })
    }

    fn administer(&self, ask: Ask, timeout: Duration) -> Pending<'_, Answer> {
        Box::pin(async move { Client::administer(self, &ask, timeout).await })
    }

    fn fault(&self, address: &str, fault: Option<Fault>, timeout: Duration) -> Pending<'_, Faults> {
        let address = address.to_owned();
        Box::pin(async move { Client::fault(self, &address, fault, timeout).await })
    }

    fn watch(&self, asked: Watching) -> Box<dyn Watcher> {
        Watch::watch(self, asked)
    }

    fn health_check(&self) -> Pending<'_, ()> {
        Box::pin(Client::health_check(self))
    }
}

#[cfg(test)]
mod tests {
    use dialects::native::Native;
    use dialects::{Account, Dialect, Stop, Stream};
    use kv::Op;
    use kv::admin::{Admin, Answered};
    use kv::cluster::{Cluster, Located};
    use tokio::net::TcpListener;
    use tokio::sync::watch;

    use super::*;
    use crate::fake::{self, Fake};

    impl Cluster for Fake {
        fn id(&self) -> Result<ClusterId, Error> {
            Ok(fake::CLUSTER)
        }

        fn terms(&self) -> Terms {
            Terms { shards: 1, replicas: 1, history: None, deleted_micros: u64::MAX }
        }

        fn status(&self) -> Status {
            Status::default()
        }

        fn locate(&self, _: &str, key: &Key, answer: Located) {
            let (slot, shard) = (kv::Slot::of(key), kv::ShardId(1));
            answer(Ok(Location { slot, shard, leader: None, address: None }));
        }
    }

    impl Admin for Fake {
        fn administer(&self, _: Ask, _: Duration, answer: Answered) {
            answer(Ok(Answer::Done));
        }
    }

    /// A server of one map; its address.
    async fn serve() -> String {
        let fake = Arc::new(Fake::default());
        let (_, serving) = watch::channel(true);
        let store = Arc::new(dialects::Store {
            keys: fake.clone(),
            cluster: fake.clone(),
            admin: fake.clone(),
            watch: fake,
            clock: Arc::new(|| 1_700_000_000_000_000),
            keyspace: Request::KEYSPACE.into(),
            advertise: String::new(),
            serving,
            end: None,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (native, (_stopper, stop)) = (Native::new(), Stop::new());
            while let Ok((stream, _)) = listener.accept().await {
                let stream = Stream { bytes: Box::new(stream), account: Account::default() };
                tokio::spawn(native.serve(stream, store.clone(), stop.clone()));
            }
        });
        address
    }

    #[test]
    fn store_answers_over_a_socket() {
        runtime().block_on(async {
            let store = store(&[serve().await], 2).unwrap();
            let key = Key::from_static(b"k");
            let put =
                Op::Put { key: key.clone(), value: Key::from_static(b"v"), deadline: None, previous: false };
            store.call(Request::new(put.clone()), None).await.unwrap();
            store.call(Request::new(put), Some(Duration::from_secs(1))).await.unwrap();
            let reply = store.call(Request::new(Op::Get { key: key.clone(), at: None }), None).await.unwrap();
            assert!(matches!(reply.answer, kv::Answer::Row(Some(row)) if row.value == "v"));
            assert_eq!(store.status().await, Ok(Status::default()));
            assert_eq!(store.cluster().await, Ok(fake::CLUSTER));
            let located = store.locate(Request::KEYSPACE, key.clone()).await;
            assert_eq!(located.map(|location| location.slot), Ok(kv::Slot::of(&key)));
            let abort = Ask::Abort { shard: kv::ShardId(1) };
            assert_eq!(store.administer(abort, Request::TIMEOUT).await, Ok(Answer::Done));
            assert_eq!(store.health_check().await, Ok(()));
        });
    }
}
