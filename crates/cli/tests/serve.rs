//! A node whose settings are in a file, as a process.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use dialects::classic::pairs::PairClient;
use kv::Error;
use rustix::process::{Pid, Signal, kill_process};

#[tokio::test]
async fn node_of_a_file_listens_at_all_its_tables() {
    let folder = tempfile::tempdir().unwrap();
    let (native, pairs) = (free_address(), free_address());
    let mut node = Node::start(folder.path(), &native, &pairs);
    let client = PairClient::new(&pairs).unwrap();
    while let Err(error) = client.insert(7, "seven".into()).await {
        assert!(matches!(error, Error::Unavailable(_)), "{error}");
        assert_eq!(node.0.try_wait().unwrap(), None, "it ended");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(client.consult(7).await.as_deref(), Ok("seven"));

    let output = capstan(&["get", r"\x80\x00\x00\x07", "--connect", &native]);
    assert_eq!(
        (output.status.code(), text(&output.stdout)),
        (Some(0), "seven\n"),
        "{}",
        text(&output.stderr)
    );
    let output = capstan(&["cluster", "status", "--json", "--connect", &native]);
    assert!(text(&output.stdout).contains(&native), "nodes are found at the native listener: {output:?}");

    let refused = client.terminate().await.unwrap_err();
    assert!(matches!(refused, Error::Conflict(_)), "{refused}");
    assert_eq!(node.stop(), Some(0));
}

#[test]
fn file_that_is_wrong_exits_2_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("capstan.toml");
    let shown = path.to_str().unwrap();
    for (file, expect) in [
        ("name = 'n1'\nport = 7401\n", "capstan.toml, line 2: unknown key `port`"),
        (
            "[[listen]]\naddress = 'h:1'\ndialect = 'http'\n",
            "line 3: there is no dialect 'http': use one of native",
        ),
        ("name = 'n1'\ndata = 'd'\n", "no listener of the dialect native"),
    ] {
        fs::write(&path, file).unwrap();
        let output = capstan(&["serve", "--config", shown]);
        assert!(text(&output.stderr).contains(expect), "{file}: {}", text(&output.stderr));
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""));
    }
    let output = capstan(&["serve", "--config", folder.path().join("none").to_str().unwrap()]);
    assert!(text(&output.stderr).contains("none: No such file"), "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(2));
}

/// A node that ends with the test.
struct Node(Child);

impl Node {
    fn start(folder: &Path, native: &str, pairs: &str) -> Node {
        let file = format!(
            "name = 'n1'\ndata = '{}'\nengine = 'memory'\nquiet = true\n\
             [[listen]]\ndialect = 'classic/pairs'\naddress = '{pairs}'\n\
             [[listen]]\naddress = '{native}'\n",
            folder.join("data").display()
        );
        let path: PathBuf = folder.join("capstan.toml");
        fs::write(&path, file).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_capstan"));
        command.arg("serve").arg("--config").arg(path).stdin(Stdio::null());
        Node(command.spawn().unwrap())
    }

    /// Its exit code, once it has stopped as asked.
    fn stop(&mut self) -> Option<i32> {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        self.0.wait().unwrap().code()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn capstan(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_capstan"));
    command.args(args).env_remove("CAPSTAN_CONNECT").stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// An address where nobody listens.
fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}
