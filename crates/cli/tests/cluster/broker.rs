//! An MQTT broker of a test's own: Mosquitto, which `scripts/tools` installs.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// It ends with the test.
pub struct Broker {
    port: u16,
    settings: PathBuf,
    process: Option<Child>,
}

impl Broker {
    /// One that remembers nothing when it is started again; its settings are in this folder.
    pub fn start(folder: &std::path::Path) -> Broker {
        let free = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let port = free.local_addr().expect("it is bound").port();
        let settings = folder.join("broker.conf");
        let text = format!("listener {port} 127.0.0.1\nuser root\npersistence false\nallow_anonymous true\n");
        std::fs::write(&settings, text).expect("the folder takes a file");
        drop(free);
        let mut broker = Broker { port, settings, process: None };
        broker.up();
        broker
    }

    /// Its address.
    pub fn address(&self) -> String {
        format!("mqtt://127.0.0.1:{}/lab", self.port)
    }

    pub fn up(&mut self) {
        let mut mosquitto = Command::new("mosquitto");
        let started =
            mosquitto.arg("-c").arg(&self.settings).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.process = Some(started.expect("mosquitto is installed: scripts/tools installs it"));
    }

    pub fn down(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("it runs");
            process.wait().expect("it was killed");
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.down();
    }
}
