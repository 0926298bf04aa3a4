//! A connection that counts: so many at most are open at a time.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::server::{Connected, TcpConnectInfo};

/// Connections of clients at a time: each holds some buffers, and a descriptor of the process.
pub(crate) const CONNECTIONS_MAX: usize = 10_000;

/// Hands out the right to be open.
#[derive(Clone)]
pub(crate) struct Counter(Arc<Semaphore>);

/// An open connection; dropping it makes room for another.
pub(crate) struct Counted {
    stream: TcpStream,
    _permit: OwnedSemaphorePermit,
}

/// The right to be open.
pub(crate) type Permit = OwnedSemaphorePermit;

impl Counter {
    /// For [`CONNECTIONS_MAX`] connections.
    pub fn new() -> Counter {
        Counter(Arc::new(Semaphore::new(CONNECTIONS_MAX)))
    }

    /// The right to be open, unless too many are.
    pub fn permit(&self) -> Option<Permit> {
        self.0.clone().try_acquire_owned().ok()
    }
}

impl Counted {
    /// Of a stream with its permit.
    pub fn new(stream: TcpStream, permit: Permit) -> Counted {
        Counted { stream, _permit: permit }
    }
}

impl Connected for Counted {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counted {
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
