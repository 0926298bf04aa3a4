//! The beginning of a connection: who opens one and does not begin to speak HTTP/2 in time, byte by byte or not at all, is of
//! no use to anybody and holds a descriptor.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::{Duplex, Stop};

/// How long a connection may take for the first it has to say.
const GREETING: Duration = Duration::from_secs(10);

/// A connection that ends with an error when its greeting does not come in time, or not before the stop.
pub(super) struct Greeted {
    bytes: Box<dyn Duplex>,
    stop: Stop,
    /// Until it is complete.
    awaited: Option<(Greeting, Pin<Box<Sleep>>)>,
}

impl Greeted {
    pub fn new(bytes: Box<dyn Duplex>, stop: Stop) -> Greeted {
        Greeted { bytes, stop, awaited: Some((Greeting::default(), Box::pin(sleep(GREETING)))) }
    }
}

impl AsyncRead for Greeted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let Greeted { bytes, stop, awaited } = &mut *self;
        let read = Pin::new(bytes).poll_read(cx, buffer);
        if let Some((greeting, late)) = awaited {
            greeting.take(&buffer.filled()[before..]);
            if greeting.is_complete() {
                *awaited = None;
            } else if stop.is_asked() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            } else if late.as_mut().poll(cx).is_ready() {
                tracing::info!("closed a connection of a client that did not begin to speak HTTP/2");
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        read
    }
}

impl AsyncWrite for Greeted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.bytes).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.bytes).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.bytes.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_shutdown(cx)
    }
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
