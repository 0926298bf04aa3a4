//! Whether the other end of a connection is still there: what arrives is a sign of life, and where nothing does it is asked for
//! one.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{sleep, timeout};

/// How often signs of life are looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// When nothing arrived between two looks, the other end is asked.
    pub interval: Duration,
    /// And is given up when nothing comes back for so long.
    pub timeout: Duration,
}

/// Whether anything arrived since it was last looked at.
pub(super) type Heard = Arc<AtomicBool>;

/// The bytes of a connection.
#[derive(Debug)]
pub(super) struct Wire<S> {
    stream: S,
    heard: Heard,
}

impl<S> Wire<S> {
    pub fn new(stream: S) -> (Wire<S>, Heard) {
        let heard = Heard::default();
        (Wire { stream, heard: heard.clone() }, heard)
    }
}

/// Ends, with why, when the other end gives no sign of life.
pub(super) async fn silence(pace: Pace, heard: Heard, mut pings: PingPong) -> String {
    loop {
        sleep(pace.interval).await;
        if heard.swap(false, Ordering::Relaxed) {
            continue;
        }
        let mut pong = pin!(pings.ping(Ping::opaque()));
        loop {
            match timeout(pace.timeout, pong.as_mut()).await {
                Ok(Ok(_)) => break,
                // The connection has ended, which says so itself.
                Ok(Err(_)) => std::future::pending().await,
                // A pong may come late, behind the bytes of large answers.
                Err(_) if heard.swap(false, Ordering::Relaxed) => {}
                Err(_) => return format!("no sign of life for {:?}", pace.interval + pace.timeout),
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if read.is_ready() {
            self.heard.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
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
