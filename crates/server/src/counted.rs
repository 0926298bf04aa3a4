//! A connection of a client that counts: so many at most are open at a time, and none that is of no use to anybody.
//!
//! It is closed when it has not begun to speak HTTP/2 within [`GREETING`], byte by byte or not at all, and when it takes
//! next to nothing of the answers that are held for it for [`PATIENCE`]: those that are slow are waited for, those that
//! stand still are not.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use dialects::native::Account;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};
use tonic::transport::server::Connected;

/// How long a connection may take for the first it has to say.
const GREETING: Duration = Duration::from_secs(10);
/// How long a connection may take nothing of its answers.
const PATIENCE: Duration = Duration::from_secs(60);
/// The same when there is little room for the answers of others.
const PATIENCE_SCARCE: Duration = Duration::from_secs(5);
/// A connection that holds answers is looked at so often.
const LOOK: Duration = Duration::from_secs(5);
/// Fewer bytes than this in all that time are nothing: signs of life, not answers.
const TAKEN_BYTES_MIN: usize = 16 << 10;

/// Hands out the right to be open. Clones share it.
#[derive(Clone)]
pub(crate) struct Counter {
    most: usize,
    free: Arc<Semaphore>,
}

/// The right to be open.
pub(crate) type Permit = OwnedSemaphorePermit;

impl Counter {
    /// For so many connections.
    pub fn new(count: usize) -> Counter {
        Counter { most: count, free: Arc::new(Semaphore::new(count)) }
    }

    /// The right to be open, unless too many are.
    pub fn permit(&self) -> Option<Permit> {
        self.free.clone().try_acquire_owned().ok()
    }

    /// How many may be open at a time.
    pub fn most(&self) -> usize {
        self.most
    }
}

/// An open connection; dropping it makes room for another.
pub(crate) struct Counted {
    stream: TcpStream,
    account: Account,
    greeting: Greeting,
    /// When it is looked at next, if that is set.
    look: Pin<Box<Sleep>>,
    is_set: bool,
    /// What was written since then.
    taken: usize,
    since: Instant,
    _permit: Permit,
}

impl Counted {
    /// Of a stream with its permit and what it may hold.
    pub fn new(stream: TcpStream, permit: Permit, account: Account) -> Counted {
        Counted {
            stream,
            account,
            greeting: Greeting::default(),
            look: Box::pin(sleep(GREETING)),
            is_set: true,
            taken: 0,
            since: Instant::now(),
            _permit: permit,
        }
    }

    /// Whether it may stay open. Called whenever anything happens to it.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.is_set && self.account.answers().held() > 0 {
            (self.is_set, self.taken, self.since) = (true, 0, Instant::now());
            self.look.as_mut().reset(self.since + LOOK);
        }
        while self.is_set && self.look.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if !self.greeting.is_complete() {
                return Err(closed("it did not begin to speak HTTP/2"));
            }
            if self.account.answers().held() == 0 {
                self.is_set = false;
            } else if self.taken >= TAKEN_BYTES_MIN {
                (self.taken, self.since) = (0, now);
            } else if now - self.since >= self.patience() {
                return Err(closed("it takes nothing of its answers"));
            }
            self.look.as_mut().reset(now + LOOK);
        }
        Ok(())
    }

    fn patience(&self) -> Duration {
        if self.account.answers().whole().is_scarce() { PATIENCE_SCARCE } else { PATIENCE }
    }
}

fn closed(why: &str) -> io::Error {
    tracing::info!(why, "closed a connection of a client");
    io::Error::new(io::ErrorKind::TimedOut, why)
}

/// How much of the first message is there: the preface of HTTP/2 and a frame of SETTINGS (RFC 9113, 3.4).
#[derive(Debug, Default)]
struct Greeting {
    head: Vec<u8>,
    /// Of preface and frame.
    bytes: usize,
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD_BYTES: usize = PREFACE.len() + 9;
const SETTINGS: u8 = 4;

impl Greeting {
    fn take(&mut self, bytes: &[u8]) {
        let missing = HEAD_BYTES - self.head.len();
        self.head.extend_from_slice(&bytes[..missing.min(bytes.len())]);
        self.bytes = self.bytes.saturating_add(bytes.len());
    }

    fn is_complete(&self) -> bool {
        let Some((preface, frame)) = self.head.split_at_checked(PREFACE.len()) else { return false };
        let [a, b, c, kind, _, stream @ ..] = frame else { return false };
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        preface == PREFACE && *kind == SETTINGS && stream == [0; 4] && self.bytes >= HEAD_BYTES + length
    }
}

impl Connected for Counted {
    type ConnectInfo = Account;

    fn connect_info(&self) -> Account {
        self.account.clone()
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.greeting.take(&buffer.filled()[before..]);
        self.check(cx)?;
        read
    }
}

impl Counted {
    fn wrote(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = written {
            self.taken = self.taken.saturating_add(bytes);
        }
        self.check(cx)?;
        written
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.wrote(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_greeting(bytes: &[u8]) -> bool {
        let (mut whole, mut each) = (Greeting::default(), Greeting::default());
        whole.take(bytes);
        bytes.chunks(1).for_each(|byte| each.take(byte));
        assert_eq!(whole.is_complete(), each.is_complete());
        whole.is_complete()
    }

    #[test]
    fn greeting_is_the_preface_and_whole_settings() {
        let settings = [&[0, 0, 6, 4, 0, 0, 0, 0, 0][..], &[0, 3, 0, 0, 0, 1]].concat();
        let greeting = [PREFACE, &settings].concat();
        for cut in 0..greeting.len() {
            assert!(!is_greeting(&greeting[..cut]), "{cut}");
        }
        assert!(is_greeting(&greeting));
        assert!(is_greeting(&[&greeting, &b"more"[..]].concat()));
        assert!(is_greeting(&[PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat()));
        assert!(!is_greeting(&[PREFACE, &[0, 0, 0, 6, 0, 0, 0, 0, 0]].concat()), "a PING");
        assert!(!is_greeting(b"GET / HTTP/1.1\r\nHost: somebody\r\n\r\n"));
    }
}
