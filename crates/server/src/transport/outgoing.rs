//! The ordered connection to one other node: kept up, and fed from a bounded queue.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kv::NodeId;
use node::Input;
use node::identity::{Life, Met, Purpose, Welcome};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::{Shared, framing, malformed};
use crate::Failure;
use crate::inbox::Message;

/// What may be queued for a node: some values of the largest size, or a few seconds of a busy node.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// One write takes at most about this much, so that a small frame does not wait for long.
const WRITE_BYTES: usize = 1 << 20;
/// How long to connect and greet.
const CONNECT: Duration = Duration::from_secs(1);
/// Pause before the first and before later attempts: a node that restarts is back within a second.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
];

/// The queue to one node. When it is dropped, the connection ends, and what is queued is let go.
pub(crate) struct Outgoing {
    queue: mpsc::UnboundedSender<Bytes>,
    queued: Arc<AtomicUsize>,
    address: watch::Sender<String>,
}

impl Outgoing {
    /// Keeps a connection to `node` from now on.
    pub fn start(node: NodeId, address: String, shared: Arc<Shared>) -> Outgoing {
        let (queue, receiver) = mpsc::unbounded_channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let (address, placed) = watch::channel(address);
        let link = Link { node, shared, receiver, queued: queued.clone(), told: None };
        tokio::spawn(link.run(placed));
        Outgoing { queue, queued, address }
    }

    /// The node is there from now on.
    pub fn moves(&self, address: &str) {
        self.address.send_if_modified(|before| {
            let moves = before != address;
            if moves {
                address.clone_into(before);
            }
            moves
        });
    }

    /// How many bytes are queued.
    #[cfg(test)]
    pub fn queued(&self) -> Arc<AtomicUsize> {
        self.queued.clone()
    }

    /// Queues a frame, or drops it when too much is queued.
    pub fn send(&self, frame: Bytes) {
        let bytes = frame.len();
        if self.queued.load(Ordering::Relaxed) + bytes > QUEUE_BYTES_MAX {
            return;
        }
        self.queued.fetch_add(bytes, Ordering::Relaxed);
        // The link ends after this only.
        let _ = self.queue.send(frame);
    }
}

struct Link {
    node: NodeId,
    shared: Arc<Shared>,
    receiver: mpsc::UnboundedReceiver<Bytes>,
    queued: Arc<AtomicUsize>,
    /// Why the last attempt failed, so that the journal says it once.
    told: Option<String>,
}

impl Link {
    /// Until the node is no member any more.
    async fn run(mut self, mut placed: watch::Receiver<String>) {
        loop {
            let address = placed.borrow_and_update().clone();
            let moves = tokio::select! {
                never = self.keep_up(&address) => match never {},
                moves = placed.changed() => moves,
            };
            self.drop_queue();
            match moves {
                Ok(()) => tracing::info!(node = %self.node, before = address, "the node is elsewhere now"),
                Err(_) => return tracing::info!(node = %self.node, "the node is no member any more"),
            }
        }
    }

    async fn keep_up(&mut self, address: &str) -> Infallible {
        let mut failures = 0;
        loop {
            match timeout(CONNECT, connect(&self.shared, self.node, address, Purpose::Ordered)).await {
                Ok(Ok(connection)) => {
                    failures = 0;
                    self.told = None;
                    self.serve(connection).await;
                }
                Ok(Err(error)) => self.failed(address, &error.to_string()),
                Err(_) => self.failed(address, "it does not answer"),
            }
            self.drop_queue();
            sleep(PAUSES[failures.min(PAUSES.len() - 1)]).await;
            failures += 1;
        }
    }

    /// Sends until the connection breaks, or is over.
    async fn serve(&mut self, (mut reader, mut writer, life): Connection) {
        self.drop_queue();
        let _up = Up::new(self.node, self.shared.clone());
        let error = tokio::select! {
            error = send_all(&mut self.receiver, &self.queued, &mut writer) => error,
            // Nothing comes on this connection: its end is all there is to read.
            _ = reader.read_u8() => io::ErrorKind::ConnectionReset.into(),
            () = self.shared.identities.parted(self.node, life) => io::Error::other("the node was met in another life"),
        };
        tracing::info!(node = %self.node, %error, "the connection broke");
    }

    /// What was queued for a broken connection is lost with it.
    fn drop_queue(&mut self) {
        while let Ok(frame) = self.receiver.try_recv() {
            self.queued.fetch_sub(frame.len(), Ordering::Relaxed);
        }
    }

    fn failed(&mut self, address: &str, why: &str) {
        if self.told.as_deref() != Some(why) {
            tracing::warn!(node = %self.node, address, why, "cannot connect; trying on");
            self.told = Some(why.to_owned());
        }
    }
}

/// A connection that stands. However it ends, the drivers hear of it.
struct Up {
    node: NodeId,
    shared: Arc<Shared>,
}

impl Up {
    fn new(node: NodeId, shared: Arc<Shared>) -> Up {
        tracing::info!(%node, "connected");
        shared.inboxes.input(Input::PeerUp { node });
        Up { node, shared }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.shared.inboxes.input(Input::PeerDown { node: self.node });
    }
}

async fn send_all(
    receiver: &mut mpsc::UnboundedReceiver<Bytes>,
    queued: &AtomicUsize,
    writer: &mut OwnedWriteHalf,
) -> io::Error {
    let mut buffer = BytesMut::new();
    while let Some(first) = receiver.recv().await {
        let mut next = Some(first);
        while let Some(frame) = next {
            queued.fetch_sub(frame.len(), Ordering::Relaxed);
            framing::put(&mut buffer, &frame);
            next = if buffer.len() < WRITE_BYTES { receiver.try_recv().ok() } else { None };
        }
        if let Err(error) = writer.write_all_buf(&mut buffer).await {
            return error;
        }
    }
    io::ErrorKind::BrokenPipe.into()
}

/// A connection to a node, in that life of it.
pub(super) type Connection = (OwnedReadHalf, OwnedWriteHalf, Life);

/// Connects to a node and greets it.
pub(super) async fn connect(
    shared: &Shared,
    node: NodeId,
    address: &str,
    purpose: Purpose,
) -> io::Result<Connection> {
    if shared.faults.cuts(node) {
        return Err(cut_off());
    }
    let stream = TcpStream::connect(address).await?;
    crate::connections::prepare(&stream)?;
    let (reader, mut writer) = stream.into_split();
    let mut greeting = BytesMut::new();
    framing::put(&mut greeting, &shared.identities.hello(node, purpose).encode());
    writer.write_all(&greeting).await?;
    let mut frames = framing::Reader::new(reader);
    let answer = frames.next().await.map_err(no_frame)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let welcome = Welcome::decode(answer).map_err(malformed)?;
    match (shared.identities.meet(node, &welcome)?, welcome) {
        (Met::Ours, Welcome::Yes { lineage, .. }) => Ok((frames.into_inner(), writer, lineage.life)),
        (Met::Ours, _) => unreachable!("only who says welcome is one of ours"),
        (Met::NotNow(why) | Met::Left(why), _) => Err(io::Error::other(why)),
        (Met::Hopeless(why), _) => {
            // Another start would end the same way.
            shared.inboxes.first().push(Message::Fatal(Failure::Refused(why.clone())));
            Err(io::Error::other(why))
        }
    }
}

/// What to say of a node that is not called, or not let in.
pub(super) fn cut_off() -> io::Error {
    io::Error::other("this node is cut off from it, as its user wants: 'fault heal' ends that")
}

/// What to say of a first answer that is no frame.
fn no_frame(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::InvalidData => {
            let why = "it does not answer as a node of the cluster does: it is just being let in, or another program listens there";
            io::Error::new(error.kind(), why)
        }
        _ => error,
    }
}
