//! Where a server is: HOST:PORT.

use std::io;
use std::time::Duration;

use kv::Error;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};
use tonic::codegen::http::Uri;
use tonic::codegen::http::uri::Authority;

/// HOST:PORT, of a name any of its addresses.
#[derive(Clone, Debug)]
pub(crate) struct Address(Authority);

impl Address {
    /// [`Error::Invalid`] when a text is none.
    pub fn new(text: &str) -> Result<Address, Error> {
        let uri: Option<Uri> = format!("http://{text}").parse().ok();
        let uri = uri.filter(|uri| uri.port().is_some() && uri.path() == "/" && uri.query().is_none());
        match uri.and_then(|uri| uri.into_parts().authority) {
            Some(authority) => Ok(Address(authority)),
            None => {
                Err(Error::Invalid(format!("'{text}' is no address: use HOST:PORT, such as 127.0.0.1:7401")))
            }
        }
    }

    /// As it stands in requests.
    pub(super) fn authority(&self) -> Authority {
        self.0.clone()
    }

    /// Connects to the first address that answers. Each has an even share of the time that is left: one that is silent
    /// leaves time for the others.
    pub(super) async fn dial(&self, limit: Duration) -> io::Result<TcpStream> {
        let end = Instant::now() + limit;
        let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {limit:?}"));
        let found = timeout(limit, lookup_host(self.0.as_str())).await.map_err(|_| late())??;
        let addresses: Vec<_> = found.collect();
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for (tried, address) in addresses.iter().enumerate() {
            let left = end.saturating_duration_since(Instant::now());
            let share = left / (addresses.len() - tried) as u32;
            last = match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return stream.set_nodelay(true).map(|()| stream),
                Ok(Err(error)) => error,
                Err(_) => late(),
            };
        }
        Err(last)
    }
}
