//! Connections that speak as much HTTP/2 as a test wants, and take what it wants: a client library would not do what must
//! not be done.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};

use bytes::{BufMut, Bytes};
use dialects::native::encode_request;
use kv::Request;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The first that a client says: the preface, and settings without any.
pub fn greeting() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

/// A connection that reads nothing unless told to.
pub struct Raw {
    stream: TcpStream,
    next: u32,
}

impl Raw {
    /// To a node.
    pub fn connect(address: &str) -> Raw {
        Raw { stream: TcpStream::connect(address).unwrap(), next: 1 }
    }

    /// One that has greeted.
    pub fn greeted(address: &str) -> Raw {
        let mut raw = Raw::connect(address);
        // It may be closed already.
        let _ = raw.send(&greeting());
        raw
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Asks on a new stream.
    pub fn ask(&mut self, request: Request) -> io::Result<()> {
        let (rpc, message) = encode_request(request).unwrap();
        self.call(rpc.name(), &message)
    }

    /// Calls a method on a new stream.
    pub fn call(&mut self, method: &str, message: &Bytes) -> io::Result<()> {
        let stream = self.next;
        self.next += 2;
        let mut bytes = frame(HEADERS, END_HEADERS, stream, &head(method));
        let mut body = vec![0];
        body.put_u32(message.len() as u32);
        body.extend_from_slice(message);
        bytes.extend(frame(DATA, END_STREAM, stream, &body));
        self.send(&bytes)
    }

    /// Whether the node has closed it: what it sent before is read away.
    pub fn is_closed(&mut self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let mut buffer = vec![0; 64 << 10];
        let closed = loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => break true,
                Ok(_) => {}
                Err(error) => break error.kind() != io::ErrorKind::WouldBlock,
            }
        };
        self.stream.set_nonblocking(false).unwrap();
        closed
    }

    /// Closes it.
    pub fn close(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() <= 16 << 10, "a frame has at most 16 KiB unless more was agreed on");
    let mut bytes = Vec::with_capacity(9 + payload.len());
    bytes.put_uint(payload.len() as u64, 3);
    bytes.extend([kind, flags]);
    bytes.put_u32(stream);
    bytes.extend_from_slice(payload);
    bytes
}

/// The headers of a call, in the plainest form of RFC 7541: an index of its static table, or literals that are not indexed.
fn head(method: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    named(&mut block, 4, &format!("/capstan.v1.KeyValue/{method}"));
    named(&mut block, 1, "localhost");
    literal(&mut block, "content-type", "application/grpc");
    literal(&mut block, "te", "trailers");
    block
}

fn named(block: &mut Vec<u8>, name: u8, value: &str) {
    block.push(name);
    text(block, value);
}

fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    text(block, name);
    text(block, value);
}

fn text(block: &mut Vec<u8>, text: &str) {
    assert!(text.len() < 127, "a length of one byte");
    block.push(text.len() as u8);
    block.extend_from_slice(text.as_bytes());
}
