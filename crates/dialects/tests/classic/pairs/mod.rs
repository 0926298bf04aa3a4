//! Pair servers and central servers.

mod activate;
mod check;
mod client;
mod register;
mod terminate;
mod wire;

use dialects::classic::pairs::{CentralClient, PairClient};

use crate::fake::Server;

async fn pairs() -> (Server, PairClient) {
    let server = Server::start("classic/pairs", &["activate"]).await;
    let client = PairClient::new(&server.address).unwrap();
    (server, client)
}

async fn central(options: &[&str]) -> (Server, CentralClient) {
    let server = Server::start("classic/central", options).await;
    let client = CentralClient::new(&server.address).unwrap();
    (server, client)
}

/// The key of a number in the store: its sign bit is turned around.
fn key(number: i32) -> [u8; 4] {
    (i64::from(number) - i64::from(i32::MIN)).to_be_bytes()[4..].try_into().unwrap()
}

/// An address at which nobody listens.
async fn nobody() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}
