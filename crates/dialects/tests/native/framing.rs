//! How a message may arrive at a node: in any pieces, once, as it is. Asked over HTTP/2 by hand.

use bytes::{BufMut, Bytes, BytesMut};
use dialects::native::{MESSAGE_BYTES_MAX, encode_request};
use h2::client::SendRequest;
use kv::{Op, Request};
use tokio::net::TcpStream;
use tonic::codegen::http;
use tonic::{Code, Status};

use crate::fake::Node;

async fn connect(node: &Node) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(&node.address).await.unwrap();
    let (requests, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    requests
}

/// Calls a method with these pieces as DATA frames; returns the answer's message, or the status.
async fn call(node: &Node, method: &str, pieces: &[Bytes]) -> Result<Bytes, Status> {
    let mut requests = connect(node).await.ready().await.unwrap();
    let uri = format!("http://{}/capstan.v1.KeyValue/{method}", node.address);
    let request = http::Request::post(uri).header("content-type", "application/grpc").body(()).unwrap();
    let (response, mut body) = requests.send_request(request, false).unwrap();
    for piece in pieces {
        // The node may have refused the request by now.
        let _ = body.send_data(piece.clone(), false);
        tokio::task::yield_now().await;
    }
    let _ = body.send_data(Bytes::new(), true);
    let (head, mut body) = response.await.unwrap().into_parts();
    if let Some(status) = Status::from_header_map(&head.headers) {
        return Err(status);
    }
    let mut answer = BytesMut::new();
    while let Some(more) = body.data().await {
        answer.put(more.unwrap());
    }
    let trailers = body.trailers().await.unwrap().expect("an answer ends with its status");
    match Status::from_header_map(&trailers).expect("it is in the trailers") {
        status if status.code() == Code::Ok => Ok(answer.freeze().slice(5..)),
        status => Err(status),
    }
}

/// A get in its frame.
fn get() -> Bytes {
    let (_, message) = encode_request(Request::new(Op::Get { key: "key".into(), at: None })).unwrap();
    framed(0, message.len(), &message)
}

fn framed(compressed: u8, length: usize, message: &[u8]) -> Bytes {
    let mut into = BytesMut::new();
    into.put_u8(compressed);
    into.put_u32(length as u32);
    into.put_slice(message);
    into.freeze()
}

#[tokio::test]
async fn message_in_any_pieces_is_the_same() {
    let node = Node::start(1).await;
    let (whole, mut answers) = (get(), Vec::new());
    answers.push(call(&node, "Get", std::slice::from_ref(&whole)).await.unwrap());
    answers.push(
        call(&node, "Get", &whole.chunks(1).map(Bytes::copy_from_slice).collect::<Vec<_>>()).await.unwrap(),
    );
    answers.push(call(&node, "Get", &[Bytes::new(), whole.slice(..3), whole.slice(3..)]).await.unwrap());
    assert!(!answers[0].is_empty() && answers.iter().all(|answer| *answer == answers[0]));
}

#[tokio::test]
async fn message_that_is_none_is_refused_before_the_store_hears_of_it() {
    let node = Node::start(1).await;
    let whole = get();
    let code = async |pieces: &[Bytes]| call(&node, "Get", pieces).await.map_err(|status| status.code());
    assert_eq!(code(&[]).await, Err(Code::Internal), "nothing");
    let cut = framed(0, whole.len(), &whole[5..]);
    assert_eq!(code(&[cut]).await, Err(Code::Internal), "cut off where a message may end");
    assert_eq!(code(&[whole.clone(), whole.clone()]).await, Err(Code::Internal), "two");
    assert_eq!(code(&[framed(0, 3, &[0xff; 3])]).await, Err(Code::Internal), "no protobuf");
    assert_eq!(code(&[framed(1, 3, b"zip")]).await, Err(Code::Unimplemented), "compressed");
    let long = MESSAGE_BYTES_MAX + 1;
    assert_eq!(code(&[framed(0, long, b"the rest may come")]).await, Err(Code::OutOfRange), "too long");
    assert_eq!(call(&node, "Gets", &[whole]).await.map_err(|status| status.code()), Err(Code::Unimplemented));
    assert!(node.fake.seen().is_empty());
}
