//! A connection of a client that counts: so many at most are open at a time, and none that stands still.
//!
//! It is closed when it takes next to nothing of the answers that are held for it for [`PATIENCE`]: those that are slow are
//! waited for, those that stand still are not.
//!
//! # The port is free when the node has ended
//!
//! Who closes a TCP connection first keeps its address for a minute (TIME-WAIT), and another program cannot have the port
//! meanwhile. So a connection that is over lets the other end close first, as it does when its dialect says goodbye. When the
//! node stops, what is still open after [`LINGER`] is reset; what was written before is there to be read all the same. Of one that
//! the other end has closed first the last word has the port (LAST-ACK) until it is confirmed: a moment, however busy the machine is.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use dialects::{Account, Stop};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

use crate::busy::Busy;

/// How long a connection may take nothing of its answers.
const PATIENCE: Duration = Duration::from_secs(60);
/// The same when there is little room for the answers of others.
const PATIENCE_SCARCE: Duration = Duration::from_secs(5);
/// A connection that holds answers is looked at so often.
const LOOK: Duration = Duration::from_secs(5);
/// Fewer bytes than this in all that time are nothing: signs of life, not answers.
const TAKEN_BYTES_MIN: usize = 16 << 10;
/// How long the other end may take to close a connection that is over.
const LINGER: Duration = Duration::from_millis(250);

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
    stop: Stop,
    busy: Busy,
    /// The other end has closed it.
    is_over: bool,
    /// While the other end may close it first.
    lingers: Option<Pin<Box<Sleep>>>,
    /// When it is looked at next, if that is set.
    look: Pin<Box<Sleep>>,
    is_set: bool,
    /// What was written since then.
    taken: usize,
    since: Instant,
    _permit: Permit,
}

impl Counted {
    /// Of a stream with its permit, its part in the count of its core's, and what it may hold.
    pub fn new(stream: TcpStream, permit: Permit, busy: Busy, account: Account, stop: Stop) -> Counted {
        Counted {
            stream,
            account,
            stop,
            busy,
            is_over: false,
            lingers: None,
            look: Box::pin(sleep(LOOK)),
            is_set: false,
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
            if self.account.answers().held() == 0 {
                self.is_set = false;
            } else if self.taken >= TAKEN_BYTES_MIN {
                (self.taken, self.since) = (0, now);
            } else if now - self.since >= self.patience() {
                tracing::info!("closed a connection of a client that takes nothing of its answers");
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.look.as_mut().reset(now + LOOK);
        }
        Ok(())
    }

    fn patience(&self) -> Duration {
        if self.account.answers().whole().is_scarce() { PATIENCE_SCARCE } else { PATIENCE }
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
        let bytes = buffer.filled().len() - before;
        self.is_over |= read.is_ready() && bytes == 0 && buffer.remaining() > 0;
        self.busy.hear(bytes, cx);
        self.check(cx)?;
        read
    }
}

impl Counted {
    /// Waits for the other end to close the connection, and takes what it still says; not for long.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let lingers = self.lingers.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        if lingers.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        while !self.is_over {
            let mut unread = [0; 1024];
            let mut buffer = ReadBuf::new(&mut unread);
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer));
            self.is_over = read.is_err() || buffer.filled().is_empty();
        }
        Poll::Ready(())
    }

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
        ready!(self.poll_over(cx));
        if !self.is_over && self.stop.is_asked() {
            return Poll::Ready(Ok(())); // It is reset.
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if self.stop.is_asked() && !self.is_over {
            // Without it the port stays taken for a minute, no more.
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}
