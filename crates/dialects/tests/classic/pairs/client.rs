//! The clients: connections that break and come back, and servers that are not Capstan's.

use dialects::classic::pairs::proto::keyvalue::key_value_service_server::{
    KeyValueService, KeyValueServiceServer,
};
use dialects::classic::pairs::proto::keyvalue::*;
use dialects::classic::pairs::{CentralClient, PairClient};
use kv::Error;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Response, Status};

use super::{nobody, pairs};
use crate::fake::{Server, Setup};

/// A pair server that answers everything so.
struct Foreign(Result<i32, Code>);

impl Foreign {
    async fn start(answer: Result<i32, Code>) -> PairClient {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = PairClient::new(&listener.local_addr().unwrap().to_string()).unwrap();
        let service = KeyValueServiceServer::new(Foreign(answer));
        let served = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(served.serve_with_incoming(TcpIncoming::from(listener)));
        client
    }

    fn answer(&self) -> Result<i32, Status> {
        self.0.map_err(|code| Status::new(code, "what it says"))
    }
}

#[tonic::async_trait]
impl KeyValueService for Foreign {
    async fn insert(&self, _: Request<InsertRequest>) -> Result<Response<InsertReply>, Status> {
        self.answer().map(|result| Response::new(InsertReply { result }))
    }

    async fn consult(&self, _: Request<ConsultRequest>) -> Result<Response<ConsultReply>, Status> {
        self.answer().map(|result| Response::new(ConsultReply { value: result.to_string() }))
    }

    async fn activate(&self, _: Request<ActivateRequest>) -> Result<Response<ActivateReply>, Status> {
        self.answer().map(|result| Response::new(ActivateReply { result }))
    }

    async fn terminate(&self, _: Request<TerminateRequest>) -> Result<Response<TerminateReply>, Status> {
        self.answer().map(|result| Response::new(TerminateReply { result }))
    }
}

#[tokio::test]
async fn new_of_no_address_is_invalid() {
    for address in ["", "host", "host:0", "host:99999", "http://host:1"] {
        assert!(matches!(PairClient::new(address), Err(Error::Invalid(_))), "{address}");
        assert!(matches!(CentralClient::new(address), Err(Error::Invalid(_))), "{address}");
    }
}

#[test]
fn new_needs_no_runtime_and_nobody_there() {
    assert!(PairClient::new("localhost:1").is_ok());
}

#[tokio::test]
async fn nobody_there_is_unavailable_until_somebody_is() {
    let address = nobody().await;
    let client = PairClient::new(&address).unwrap();
    let Err(Error::Unavailable(why)) = client.insert(1, "one".into()).await else {
        panic!("nobody is there")
    };
    assert!(why.contains(&format!("cannot connect to {address}")), "{why}");
    let _server =
        Server::start_with("classic/pairs", &[], Setup { listen: address, ..Setup::default() }).await;
    assert_eq!(client.insert(1, "one".into()).await, Ok(true));
}

#[tokio::test]
async fn server_that_comes_back_is_asked_again() {
    let (server, client) = pairs().await;
    assert_eq!(client.insert(1, "one".into()).await, Ok(true));
    let address = server.address.clone();
    server.kill().await;
    assert!(client.consult(1).await.is_err());
    let _again =
        Server::start_with("classic/pairs", &[], Setup { listen: address, ..Setup::default() }).await;
    assert_eq!(client.consult(1).await, Ok(String::new()));
}

/// Reads what HTTP/2 begins with, and frames until one begins a call.
async fn take_call(stream: &mut TcpStream) {
    const HEADERS: u8 = 1;
    stream.read_exact(&mut [0; 24]).await.unwrap();
    loop {
        let mut frame = [0; 9];
        stream.read_exact(&mut frame).await.unwrap();
        let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]);
        stream.read_exact(&mut vec![0; length as usize]).await.unwrap();
        if frame[3] == HEADERS {
            return;
        }
    }
}

#[tokio::test]
async fn connection_that_breaks_in_a_call_leaves_a_write_in_doubt_and_a_read_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = PairClient::new(&listener.local_addr().unwrap().to_string()).unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            take_call(&mut stream).await;
        }
    });
    assert!(matches!(client.insert(1, "one".into()).await, Err(Error::InDoubt(_))));
    let Err(Error::Unavailable(why)) = client.consult(1).await else { panic!("nobody answers") };
    assert!(why.contains("no answer from"), "{why}");
}

#[tokio::test]
async fn text_too_large_is_not_sent() {
    let client = PairClient::new(&nobody().await).unwrap();
    let refused = client.insert(1, "x".repeat(kv::VALUE_BYTES_MAX + 1)).await;
    assert_eq!(refused, Err(Error::TooLarge { what: "the value".into(), size: 8_388_609, limit: 8_388_608 }));
}

#[tokio::test]
async fn errors_of_a_server_come_back_as_they_were() {
    let (server, client) = pairs().await;
    let errors = [
        Error::Unavailable("no leader".into()),
        Error::InDoubt("no answer".into()),
        Error::Conflict("no".into()),
        Error::NoKeyspace("other".into()),
        Error::TooLarge { what: "it".into(), size: 2, limit: 1 },
    ];
    for error in errors {
        server.store.judge([Some(error.clone())]);
        let back = client.insert(1, "one".into()).await.unwrap_err();
        assert_eq!(std::mem::discriminant(&back), std::mem::discriminant(&error));
        assert!(back.to_string().ends_with(&error.to_string()), "{back}");
    }
    assert_eq!(client.insert(1, "one".into()).await, Ok(true));
}

#[tokio::test]
async fn status_of_a_foreign_server_is_taken_by_its_code() {
    let is_invalid = |error: &Error| matches!(error, Error::Invalid(_));
    let is_conflict = |error: &Error| matches!(error, Error::Conflict(_));
    let is_unavailable = |error: &Error| matches!(error, Error::Unavailable(_));
    let is_doubt = |error: &Error| matches!(error, Error::InDoubt(_));
    type Is = fn(&Error) -> bool;
    let codes: [(Code, Is, Is); 10] = [
        (Code::InvalidArgument, is_invalid, is_invalid),
        (Code::Unimplemented, is_invalid, is_invalid),
        (Code::ResourceExhausted, is_invalid, is_invalid),
        (Code::PermissionDenied, is_invalid, is_invalid),
        (Code::FailedPrecondition, is_conflict, is_conflict),
        (Code::Unavailable, is_unavailable, is_doubt),
        (Code::Unknown, is_unavailable, is_doubt),
        (Code::Internal, is_unavailable, is_doubt),
        (Code::DeadlineExceeded, is_unavailable, is_doubt),
        (Code::Cancelled, is_unavailable, is_doubt),
    ];
    for (code, of_a_read, of_a_write) in codes {
        let client = Foreign::start(Err(code)).await;
        let read = client.consult(1).await.unwrap_err();
        let write = client.insert(1, "one".into()).await.unwrap_err();
        assert!(of_a_read(&read), "{code:?}: {read:?}");
        assert!(of_a_write(&write), "{code:?}: {write:?}");
        assert!(read.to_string().contains("what it says"), "{read}");
    }
}

#[tokio::test]
async fn answers_of_a_foreign_server_are_read() {
    let client = Foreign::start(Ok(-1)).await;
    assert_eq!(client.insert(1, "one".into()).await, Ok(false));
    assert_eq!(client.activate("host:1".into()).await, Ok(-1));
    assert_eq!(client.terminate().await, Ok(-1));
    let client = Foreign::start(Ok(5)).await;
    assert_eq!(client.consult(1).await, Ok("5".into()));
    assert!(matches!(client.insert(1, "one".into()).await, Err(Error::InDoubt(_))));
}
