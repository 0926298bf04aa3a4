//! What is asked and what is answered, byte for byte.

use std::time::Duration;

use bytes::Bytes;
use tonic::Code;
use tonic::codegen::http::{HeaderName, HeaderValue};

use super::server::{OK, PATH, ask, asking, connected, framed, head};
use crate::grpc::channel::Failure;
use crate::native::MESSAGE_BYTES_MAX;

#[tokio::test]
async fn request_says_all_that_grpc_wants() {
    let (connection, mut peer) = connected(Default::default()).await;
    let (name, value) = (HeaderName::from_static("capstan-cluster"), HeaderValue::from_static("abc"));
    let connection = connection.with_header(name, value);
    let asked = tokio::spawn(async move { ask(&connection, "what", Some(Duration::from_secs(90))).await });
    let mut came = peer.next().await;
    assert_eq!((came.request.method().as_str(), came.request.uri().path()), ("POST", PATH));
    assert_eq!(came.request.uri().scheme_str(), Some("http"));
    assert!(came.request.uri().port_u16().is_some());
    let header = |name: &str| came.request.headers()[name].to_str().unwrap().to_owned();
    assert_eq!((header("te"), header("content-type")), ("trailers".into(), "application/grpc".into()));
    assert_eq!((header("grpc-timeout"), header("capstan-cluster")), ("90000000u".into(), "abc".into()));
    assert!(header("user-agent").starts_with("capstan/"));
    assert_eq!(came.body().await, framed("what"));
    came.answer(framed("that"), OK);
    assert_eq!(asked.await.unwrap().unwrap(), "that");
}

#[tokio::test]
async fn request_without_a_time_says_none() {
    let (connection, mut peer) = connected(Default::default()).await;
    let asked = asking(&connection, "what");
    let came = peer.next().await;
    assert!(!came.request.headers().contains_key("grpc-timeout"));
    came.echo().await;
    assert_eq!(asked.await.unwrap().unwrap(), "what");
}

/// What an answer of these bytes and trailers comes to.
async fn answered(body: impl Into<Bytes>, trailers: &[(&'static str, &str)]) -> Result<String, Failure> {
    let (connection, mut peer) = connected(Default::default()).await;
    let asked = asking(&connection, "what");
    peer.next().await.answer(body, trailers);
    asked.await.unwrap()
}

fn code(result: &Result<String, Failure>) -> Code {
    match result {
        Err(Failure::Status(status)) => status.code(),
        other => panic!("a status, not {other:?}"),
    }
}

#[tokio::test]
async fn answer_is_its_message_and_the_status_of_its_trailers() {
    assert_eq!(answered(framed(""), OK).await.unwrap(), "", "a message of no bytes is one");
    let result = answered(framed("x"), &[("grpc-status", "9"), ("grpc-message", "not%20so")]).await;
    assert!(matches!(&result, Err(Failure::Status(status)) if status.message() == "not so"), "{result:?}");
    assert_eq!(code(&result), Code::FailedPrecondition);
    assert_eq!(code(&answered("", &[("grpc-status", "5")]).await), Code::NotFound, "no message");
}

#[tokio::test]
async fn answer_that_is_a_head_alone_is_its_status() {
    let (connection, mut peer) = connected(Default::default()).await;
    let cases = [
        (200, &[("grpc-status", "3")][..], Code::InvalidArgument),
        (200, OK, Code::Internal),
        (200, &[], Code::Unknown),
        (404, &[], Code::Unimplemented),
        (503, &[], Code::Unavailable),
        (503, &[("grpc-status", "7")], Code::PermissionDenied),
    ];
    for (http, head, expected) in cases {
        let asked = asking(&connection, "what");
        peer.next().await.answer_head(http, head);
        assert_eq!(code(&asked.await.unwrap()), expected, "{http} {head:?}");
    }
}

#[tokio::test]
async fn answer_that_is_no_message_is_refused() {
    let whole = framed("that");
    let malformed = [
        whole.slice(..3),
        whole.slice(..whole.len() - 1),
        Bytes::new(),
        [&whole[..], &whole[..]].concat().into(),
        [&whole[..], b"x"].concat().into(),
        [&head(1, 1)[..], b"x"].concat().into(),
        [&head(0, 1)[..], b"\xff"].concat().into(),
    ];
    for body in malformed {
        assert_eq!(code(&answered(body.clone(), OK).await), Code::Internal, "{body:?}");
    }
    assert_eq!(code(&answered(whole, &[]).await), Code::Unknown, "no status");
    assert_eq!(code(&answered(head(0, MESSAGE_BYTES_MAX + 1), OK).await), Code::OutOfRange);
}

#[tokio::test]
async fn message_in_pieces_is_put_together() {
    let (connection, mut peer) = connected(Default::default()).await;
    let asked = asking(&connection, "what");
    let mut came = peer.next().await;
    let mut stream = came.respond.send_response(Default::default(), false).unwrap();
    for byte in framed("that") {
        stream.send_data(Bytes::copy_from_slice(&[byte]), false).unwrap();
        tokio::task::yield_now().await;
    }
    stream.send_data(Bytes::new(), false).unwrap();
    stream.send_trailers(super::server::headers(OK)).unwrap();
    assert_eq!(asked.await.unwrap().unwrap(), "that");
}

#[tokio::test]
async fn largest_messages_pass_the_windows_both_ways_at_once() {
    let (connection, mut peer) = connected(Default::default()).await;
    let text = |number: usize| number.to_string().repeat(kv::VALUE_BYTES_MAX);
    let asked: Vec<_> = (0..3).map(|number| asking(&connection, &text(number))).collect();
    for _ in 0..3 {
        tokio::spawn(peer.next().await.echo());
    }
    for (number, asked) in asked.into_iter().enumerate() {
        assert!(asked.await.unwrap().unwrap() == text(number));
    }
    let too_large = ask(&connection, &"x".repeat(MESSAGE_BYTES_MAX), None).await;
    assert_eq!(code(&too_large), Code::OutOfRange);
    assert!(peer.is_idle(), "it was not sent");
}
