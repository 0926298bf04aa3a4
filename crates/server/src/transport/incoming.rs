//! Connections that other nodes make to this one.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use kv::NodeId;
use node::Input;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::hello::{Hello, Purpose, Welcome, malformed};
use super::{Shared, bulk, framing};

/// How long a caller may take to say who it is.
const GREETING: Duration = Duration::from_secs(5);

/// Accepts for the life of the node.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = shared.clone();
                tokio::spawn(async move {
                    if let Err(error) = serve(stream, &shared).await {
                        tracing::debug!(%error, "a connection of another node ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection of another node: raise the limit of open files");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    crate::connections::prepare(&stream)?;
    let (reader, mut writer) = stream.into_split();
    let mut frames = framing::Reader::new(reader);
    let greeting = timeout(GREETING, frames.next()).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let hello = Hello::decode(greeting.ok_or(io::ErrorKind::UnexpectedEof)?).map_err(malformed)?;
    let welcome = shared.identities.answer(&hello)?;
    let mut answer = BytesMut::new();
    framing::put(&mut answer, &welcome.encode());
    writer.write_all(&answer).await?;
    match welcome {
        Welcome::Yes { .. } => {}
        Welcome::Later(_) => return Ok(()),
        Welcome::Stranger(why) | Welcome::No(why) => {
            tracing::warn!(node = %hello.name, why, "refused a node");
            return Ok(());
        }
    }
    match hello.purpose {
        Purpose::Ordered => receive(hello.from, frames, writer, shared).await,
        Purpose::Bulk => bulk::receive(hello.from, frames, writer, shared).await,
    }
}

/// Hands all frames to the driver, all that came together at once.
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
        shared.inbox.extend(inputs.drain(..));
    }
    Ok(())
}
