//! Whether a node that wants to join is reached where it says: it is called there before it is let in.
//!
//! ```text
//!   n4, which asks to join                         n1, whom it asks
//!     │ ── join: n4, 7e, reached at h4:7424 ─────────▶ │
//!     │ ◀── a connection to h4:7424 ────────────────── │
//!     │ ── 7e ───────────────────────────────────────▶ │   it is: to the directory
//! ```
//!
//! Who asks answers each connection with the incarnation of its folder, as long as it asks. A node that serves knows of no such
//! connection and closes it, so an address of another node is told from one's own.

use std::io;
use std::net::TcpListener;
use std::time::Duration;

use bytes::BytesMut;
use kv::Error;
use kv::admin::Joining;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::transport::framing;

/// How long a call may take: less than who asks waits for the answer.
const CALL: Duration = Duration::from_secs(2);
/// How long to wait when a connection cannot be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What a caller says: no node begins with it.
const CALLER: &[u8] = b"who is it?";

/// Answers those who call a node that asks to join, until it is dropped.
pub(crate) struct Answering(Vec<JoinHandle<()>>);

impl Answering {
    /// At these listeners, which stay as they are.
    pub fn at(listeners: &[TcpListener], incarnation: u64) -> io::Result<Answering> {
        let answer = |listener: &TcpListener| {
            let listener = tokio::net::TcpListener::from_std(listener.try_clone()?)?;
            Ok(tokio::spawn(answer_all(listener, incarnation)))
        };
        listeners.iter().map(answer).collect::<io::Result<_>>().map(Answering)
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

async fn answer_all(listener: tokio::net::TcpListener, incarnation: u64) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Who does not take eight bytes has gone away.
        let _ = timeout(CALL, stream.write_all(&incarnation.to_be_bytes())).await;
    }
}

/// Calls a node that asks to join where it says that it is reached. [`Error::Invalid`] when another program is there, or none;
/// [`Error::Unavailable`] when there is no answer in time.
pub(crate) async fn check(joining: &Joining) -> Result<(), Error> {
    let Joining { name, peer, incarnation, .. } = joining;
    let told = |why: &str| {
        format!(
            "node '{name}' says that other nodes reach it at {peer}, and from here {why}: give it --advertise-peer HOST:PORT with an \
             address at which they do, and let it join again"
        )
    };
    if peer.is_empty() {
        // It asks once more for what it was given, and says nothing new.
        return Ok(());
    }
    match timeout(CALL, call(peer)).await {
        Ok(Ok(answer)) if answer == *incarnation => Ok(()),
        Ok(Ok(_)) => Err(Error::Invalid(told("another node answers there"))),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Err(Error::Invalid(told("nobody listens there")))
        }
        Ok(Err(error)) if is_closed(&error) => Err(Error::Invalid(told("another program answers there"))),
        Ok(Err(error)) => Err(Error::Unavailable(told(&format!("it is not reached ({error})")))),
        Err(_) => Err(Error::Unavailable(told("there is no answer"))),
    }
}

/// Whether who was called has closed the connection.
fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}

/// What who listens at an address answers.
async fn call(address: &str) -> io::Result<u64> {
    let mut stream = TcpStream::connect(address).await?;
    let mut said = BytesMut::new();
    framing::put(&mut said, CALLER);
    stream.write_all(&said).await?;
    stream.read_u64().await
}

#[cfg(test)]
mod tests {
    use super::*;

    const INCARNATION: u64 = 0x7e;

    fn joining(peer: String) -> Joining {
        let (name, address, zone) = ("n4".into(), "h4:7401".into(), String::new());
        Joining { name, incarnation: INCARNATION, peer, address, zone }
    }

    fn listener() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        (listener, address)
    }

    #[tokio::test]
    async fn node_is_reached_where_it_answers_and_nowhere_else() {
        let (own, address) = listener();
        let answering = Answering::at(std::slice::from_ref(&own), INCARNATION).unwrap();
        assert_eq!(check(&joining(address.clone())).await, Ok(()));
        drop(answering);
        let (other, elsewhere) = listener();
        let _answering = Answering::at(&[other], INCARNATION + 1).unwrap();
        let why = check(&joining(elsewhere)).await.unwrap_err().to_string();
        assert!(why.contains("another node answers there") && why.contains("--advertise-peer"), "{why}");
        let (none, nowhere) = listener();
        drop(none);
        let why = check(&joining(nowhere)).await.unwrap_err().to_string();
        assert!(why.contains("nobody listens there"), "{why}");
    }
}
