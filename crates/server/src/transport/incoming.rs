//! Connections that other nodes make to this one.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use kv::NodeId;
use node::Input;
use node::identity::{Hello, Purpose, Refusal, Welcome};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::{Shared, bulk, framing, malformed, outgoing};
use crate::counted::{Counter, Permit};
use crate::descriptors::STRANGERS_MAX;
use crate::journal::Seldom;

/// How long a caller may take to say who it is.
const GREETING: Duration = Duration::from_secs(5);

/// How long to wait when a connection cannot be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many connections may be open, whichever address they came to, and how many of those that have not said who they are.
#[derive(Clone)]
pub(super) struct Room {
    all: Counter,
    strangers: Counter,
}

impl Room {
    /// For so many.
    pub fn new(connections: usize) -> Room {
        Room { all: Counter::new(connections), strangers: Counter::new(STRANGERS_MAX) }
    }
}

/// Accepts for the life of the node, as long as there is room.
pub(super) async fn accept(listener: TcpListener, room: Room, shared: Arc<Shared>) {
    let (mut refused, mut failed) = (Seldom::default(), Seldom::default());
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (Some(open), Some(stranger)) = (room.all.permit(), room.strangers.permit()) else {
                    if let Some(times) = refused.happened() {
                        tracing::warn!(times, "closed new connections of other nodes: too many are open");
                    }
                    continue;
                };
                let shared = shared.clone();
                tokio::spawn(async move {
                    let _open = open;
                    if let Err(error) = serve(stream, stranger, &shared).await {
                        tracing::debug!(%error, "a connection of another node ended");
                    }
                });
            }
            Err(error) => {
                if let Some(times) = failed.happened() {
                    tracing::warn!(times, %error, "cannot accept connections of other nodes; trying on");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, stranger: Permit, shared: &Arc<Shared>) -> io::Result<()> {
    crate::connections::prepare(&stream)?;
    let (reader, mut writer) = stream.into_split();
    let mut frames = framing::Reader::new(reader);
    let greeting = timeout(GREETING, frames.next()).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let hello = Hello::decode(greeting.ok_or(io::ErrorKind::UnexpectedEof)?).map_err(malformed)?;
    if shared.faults.cuts(hello.from) {
        return Err(outgoing::cut_off());
    }
    let welcome = shared.identities.answer(&hello)?;
    let mut answer = BytesMut::new();
    framing::put(&mut answer, &welcome.encode());
    writer.write_all(&answer).await?;
    match welcome {
        Welcome::Yes { .. } => {}
        Welcome::Later(_) | Welcome::Unknown { .. } => return Ok(()),
        Welcome::Stranger(why)
        | Welcome::Gone(why)
        | Welcome::No(Refusal { why, .. })
        | Welcome::Copy(Refusal { why, .. }) => {
            tracing::warn!(node = %hello.name, why, "refused a node");
            return Ok(());
        }
    }
    drop(stranger);
    let received = async {
        match hello.purpose {
            Purpose::Ordered => receive(hello.from, frames, writer, shared).await,
            Purpose::Bulk => tokio::select! {
                received = bulk::receive(hello.from, frames, writer, shared) => received,
                () = shared.faults.cut_off(hello.from) => Err(outgoing::cut_off()),
            },
        }
    };
    tokio::select! {
        received = received => received,
        () = shared.identities.parted(hello.from, hello.lineage.life) => Err(io::Error::other("its node is another one now")),
    }
}

/// Hands all frames to the drivers they are for, all that came together at once.
async fn receive(
    from: NodeId,
    mut frames: framing::Reader<OwnedReadHalf>,
    _open: OwnedWriteHalf,
    shared: &Shared,
) -> io::Result<()> {
    let mut inputs = Vec::new();
    while let Some(bytes) = frames.next().await? {
        inputs.push(Input::Frame { from, bytes });
        while let Some(bytes) = frames.buffered()? {
            inputs.push(Input::Frame { from, bytes });
        }
        if shared.faults.cuts(from) {
            inputs.clear();
        }
        shared.inboxes.extend(inputs.drain(..));
    }
    Ok(())
}
