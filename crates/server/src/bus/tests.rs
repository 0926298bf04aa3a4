//! Against a real Mosquitto, which `scripts/tools` installs.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use kv::NodeId;
use tokio::time::timeout;

use super::*;

/// Nothing here takes so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// A broker of the test's own; it ends with it.
struct Mosquitto {
    port: u16,
    folder: tempfile::TempDir,
    process: Option<Child>,
}

impl Mosquitto {
    /// One that begins with these settings.
    fn start(settings: &str) -> Mosquitto {
        let port = {
            let free = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
            free.local_addr().expect("it is bound").port()
        };
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let config = format!("listener {port} 127.0.0.1\nuser root\npersistence false\n{settings}\n");
        fs::write(folder.path().join("broker.conf"), config).expect("the folder takes a file");
        let mut broker = Mosquitto { port, folder, process: None };
        broker.up();
        broker
    }

    /// Starts it again, with nothing remembered.
    fn up(&mut self) {
        let mut mosquitto = Command::new("mosquitto");
        mosquitto.arg("-c").arg(self.folder.path().join("broker.conf"));
        let started = mosquitto.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.process = Some(started.expect("mosquitto is installed: scripts/tools installs it"));
    }

    fn down(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("it runs");
            process.wait().expect("it was killed");
        }
    }

    fn broker(&self, login: &str) -> Broker {
        let text = format!("mqtt://{login}127.0.0.1:{}/test", self.port);
        Broker::parse(&text).expect("the address is sound")
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.down();
    }
}

/// A member of the bus, and what it has heard.
struct Member {
    bus: Bus,
    heard: Arc<Mutex<Vec<(u64, Bytes)>>>,
}

impl Member {
    fn start(node: u64, broker: Broker) -> Member {
        let heard = Arc::<Mutex<Vec<(u64, Bytes)>>>::default();
        let hears = heard.clone();
        let take = move |sender: Sender, message| {
            hears.lock().expect("nobody panics with it").push((sender.node.0, message));
        };
        let me = Sender { node: NodeId(node), life: node };
        let bus = Bus::start(broker, me, node, Box::new(take));
        bus.subscribe(BTreeSet::from(["test/all".to_owned()]));
        Member { bus, heard }
    }

    fn publish(&self, message: impl Into<Bytes>) {
        self.bus.publish("test/all".into(), message.into());
    }

    /// Whether it has heard this; it may be more than once.
    fn has(&self, from: u64, message: &[u8]) -> bool {
        let heard = self.heard.lock().expect("nobody panics with it");
        heard.iter().any(|(sender, heard)| *sender == from && heard[..] == *message)
    }

    /// Until it is asked for what it wants, and was answered at least once: what is published from now on it hears.
    async fn ready(&self, by: &Member) {
        until("a member hears", || {
            by.publish("are you there");
            self.has(by.bus.shared.state().queue.sender().node.0, b"are you there")
        })
        .await;
    }

    fn down(&self) -> String {
        self.bus.status().down.unwrap_or_default()
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let looks = async {
        while !holds() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, looks).await.unwrap_or_else(|_| panic!("it takes too long until {what}"));
}

const OPEN: &str = "allow_anonymous true";

#[tokio::test]
async fn what_one_publishes_all_others_hear_and_it_does_not() {
    let broker = Mosquitto::start(OPEN);
    let members: Vec<Member> = (1..=3).map(|node| Member::start(node, broker.broker(""))).collect();
    for (one, other) in [(0, 1), (1, 2), (2, 0)] {
        members[one].ready(&members[other]).await;
    }
    for (place, member) in members.iter().enumerate() {
        member.publish(format!("from {place}"));
    }
    for (place, member) in members.iter().enumerate() {
        for (from, other) in (0..3).zip(1..).filter(|(from, _)| *from != place) {
            until("all have heard", || member.has(other, format!("from {from}").as_bytes())).await;
        }
        assert!(!member.has(place as u64 + 1, format!("from {place}").as_bytes()));
    }
}

#[tokio::test]
async fn broker_that_comes_back_without_memory_goes_on_where_it_was() {
    let mut broker = Mosquitto::start(OPEN);
    let (one, two) = (Member::start(1, broker.broker("")), Member::start(2, broker.broker("")));
    two.ready(&one).await;
    broker.down();
    until("the broker is missed", || one.bus.status().down.is_some()).await;
    one.publish("while it was away");
    until("it is said why", || one.down().contains("nobody listens")).await;
    assert!(!two.has(1, b"while it was away"));
    broker.up();
    until("it is heard later", || {
        // What waited may have come before the other one had subscribed again: that is the protocol's to notice.
        one.publish("later");
        two.has(1, b"later")
    })
    .await;
    assert_eq!(one.bus.status().dropped, 0);
    until("the broker has all", || one.bus.status().waiting == 0).await;
}

#[tokio::test]
async fn member_that_was_away_hears_what_the_broker_kept() {
    let broker = Mosquitto::start(OPEN);
    let (one, two) = (Member::start(1, broker.broker("")), Member::start(2, broker.broker("")));
    two.ready(&one).await;
    drop(two);
    one.publish("while the other was away");
    until("the broker has it", || one.bus.status().waiting == 0).await;
    let two = Member::start(2, broker.broker(""));
    until("it is heard", || two.has(1, b"while the other was away")).await;
}

#[tokio::test]
async fn message_larger_than_a_broker_takes_comes_whole() {
    // One tells what it takes, the other ends the connection.
    for limit in ["max_packet_size 2000", "message_size_limit 2000"] {
        let broker = Mosquitto::start(&format!("{OPEN}\n{limit}"));
        let (one, two) = (Member::start(1, broker.broker("")), Member::start(2, broker.broker("")));
        two.ready(&one).await;
        let large: Bytes = (0..100_000u32).map(|place| (place * 7) as u8).collect();
        one.publish(large.clone());
        until(limit, || two.has(1, &large)).await;
    }
}

/// A broker that knows MQTT 3.1.1 only: another one, behind a door that refuses MQTT 5 as such brokers do.
fn old_broker(port: u16) -> Broker {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = format!("mqtt://{}/test", listener.local_addr().expect("it is bound"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut client = stream.expect("a connection comes");
            let mut connect = [0; 9];
            // The client may be gone already.
            if client.read_exact(&mut connect).is_err() {
                continue;
            }
            assert_eq!(connect[4..8], *b"MQTT");
            if connect[8] != 4 {
                let _ = client.write_all(&[0x20, 2, 0, 1]);
                continue;
            }
            let mut broker = TcpStream::connect(("127.0.0.1", port)).expect("the broker is up");
            broker.write_all(&connect).expect("the broker reads");
            for (mut from, mut to) in [(&client, &broker), (&broker, &client)]
                .map(|(from, to)| (from.try_clone().expect("clones"), to.try_clone().expect("clones")))
            {
                std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            }
        }
    });
    Broker::parse(&address).expect("the address is sound")
}

#[tokio::test]
async fn broker_of_mqtt_3_1_1_alone_is_spoken_to_in_that() {
    let broker = Mosquitto::start(OPEN);
    let old = old_broker(broker.port);
    let (one, two) = (Member::start(1, old.clone()), Member::start(2, old));
    two.ready(&one).await;
    one.publish(vec![9; 300_000]);
    until("it is heard", || two.has(1, &[9; 300_000])).await;
}

#[tokio::test]
async fn wrong_password_is_told_and_the_right_one_lets_in() {
    let broker = Mosquitto::start("allow_anonymous true");
    let passwords = broker.folder.path().join("passwords");
    let made =
        Command::new("mosquitto_passwd").args(["-b", "-c"]).arg(&passwords).args(["me", "right"]).status();
    assert!(made.expect("mosquitto_passwd comes with mosquitto").success());
    let broker = Mosquitto::start(&format!("allow_anonymous false\npassword_file {}", passwords.display()));
    let wrong = Member::start(1, broker.broker("me:wrong@"));
    until("it is refused", || wrong.down().contains("refuses the user \"me\" or the password")).await;
    assert!(!wrong.down().contains("wrong@"), "{}", wrong.down());
    let nobody = Member::start(2, broker.broker(""));
    until("it is refused", || nobody.down().contains("wants a user and a password")).await;
    let right = Member::start(3, broker.broker("me:right@"));
    until("it is let in", || right.bus.status().down.is_none()).await;
}

#[tokio::test]
async fn what_is_no_broker_is_told_as_such() {
    // One that answers as a web server does, one that says nothing and ends the connection.
    for answer in ["HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", ""] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let port = listener.local_addr().expect("it is bound").port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection comes");
                let _ = stream.read(&mut [0; 100]);
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        let address = format!("mqtt://127.0.0.1:{port}");
        let member = Member::start(1, Broker::parse(&address).expect("the address is sound"));
        until("it is told", || member.down().contains("does not answer as an MQTT broker does")).await;
    }
}

#[tokio::test]
async fn no_tls_and_no_file_of_trust_are_told() {
    let broker = Mosquitto::start(OPEN);
    let down = async |query: &str, says: &str| {
        let address = format!("mqtts://127.0.0.1:{}/test{query}", broker.port);
        let member = Member::start(1, Broker::parse(&address).expect("the address is sound"));
        until(says, || member.down().contains(says)).await;
    };
    down("?ca=%2Fnowhere", "cannot read /nowhere").await;
    let none = broker.folder.path().join("none.pem");
    fs::write(&none, "").expect("the folder takes a file");
    down(&format!("?ca={}", none.display().to_string().replace('/', "%2F")), "no TLS with the broker").await;
}
