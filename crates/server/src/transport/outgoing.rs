//! The ordered connection to one other node: kept up, and fed from a bounded queue.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kv::NodeId;
use node::Input;
use node::identity::{Met, Purpose, Welcome};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
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

/// The queue to one node.
pub(crate) struct Outgoing {
    queue: mpsc::UnboundedSender<Bytes>,
    queued: Arc<AtomicUsize>,
}

impl Outgoing {
    /// Keeps a connection to `node` from now on.
    pub fn start(node: NodeId, shared: Arc<Shared>) -> Outgoing {
        let (queue, receiver) = mpsc::unbounded_channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let link = Link { node, shared, receiver, queued: queued.clone(), told: None };
        tokio::spawn(link.run());
        Outgoing { queue, queued }
    }

    /// Queues a frame, or drops it when too much is queued.
    pub fn send(&self, frame: Bytes) {
        let bytes = frame.len();
        if self.queued.load(Ordering::Relaxed) + bytes > QUEUE_BYTES_MAX {
            return;
        }
        self.queued.fetch_add(bytes, Ordering::Relaxed);
        // The link ends with the process only.
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
    async fn run(mut self) {
        let mut failures = 0;
        loop {
            match timeout(CONNECT, connect(&self.shared, self.node, Purpose::Ordered)).await {
                Ok(Ok((reader, writer))) => {
                    failures = 0;
                    self.told = None;
                    self.serve(reader, writer).await;
                }
                Ok(Err(error)) => self.failed(&error.to_string()),
                Err(_) => self.failed("it does not answer"),
            }
            self.drop_queue();
            sleep(PAUSES[failures.min(PAUSES.len() - 1)]).await;
            failures += 1;
        }
    }

    /// Sends until the connection breaks.
    async fn serve(&mut self, mut reader: OwnedReadHalf, mut writer: OwnedWriteHalf) {
        self.drop_queue();
        tracing::info!(node = %self.node, "connected");
        self.shared.inboxes.input(Input::PeerUp { node: self.node });
        let error = tokio::select! {
            error = send_all(&mut self.receiver, &self.queued, &mut writer) => error,
            // Nothing comes on this connection: its end is all there is to read.
            _ = reader.read_u8() => io::ErrorKind::ConnectionReset.into(),
        };
        tracing::info!(node = %self.node, %error, "the connection broke");
        self.shared.inboxes.input(Input::PeerDown { node: self.node });
    }

    /// What was queued for a broken connection is lost with it.
    fn drop_queue(&mut self) {
        while let Ok(frame) = self.receiver.try_recv() {
            self.queued.fetch_sub(frame.len(), Ordering::Relaxed);
        }
    }

    fn failed(&mut self, why: &str) {
        if self.told.as_deref() != Some(why) {
            let address = self.shared.addresses.get(&self.node).map_or("", String::as_str);
            tracing::warn!(node = %self.node, address, why, "cannot connect; trying on");
            self.told = Some(why.to_owned());
        }
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

/// Connects to a node and greets it.
pub(super) async fn connect(
    shared: &Shared,
    node: NodeId,
    purpose: Purpose,
) -> io::Result<(OwnedReadHalf, OwnedWriteHalf)> {
    let address = shared.addresses.get(&node).ok_or(io::ErrorKind::NotFound)?;
    let stream = TcpStream::connect(address).await?;
    crate::connections::prepare(&stream)?;
    let (reader, mut writer) = stream.into_split();
    let mut greeting = BytesMut::new();
    framing::put(&mut greeting, &shared.identities.hello(node, purpose).encode());
    writer.write_all(&greeting).await?;
    let mut frames = framing::Reader::new(reader);
    let answer = frames.next().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    match shared.identities.meet(node, &Welcome::decode(answer).map_err(malformed)?)? {
        Met::Ours => Ok((frames.into_inner(), writer)),
        Met::NotNow(why) => Err(io::Error::other(why)),
        Met::Hopeless(why) => {
            // Another start would end the same way.
            shared.inboxes.first().push(Message::Fatal(Failure::Refused(why.clone())));
            Err(io::Error::other(why))
        }
    }
}
