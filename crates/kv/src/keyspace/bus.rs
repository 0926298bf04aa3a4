//! What carries the writes of a keyspace to its other replicas, under [`Protocol::Broadcast`](crate::Protocol::Broadcast).

use std::fmt;
use std::sync::Arc;

use super::{Settings, Wish};

/// The longest address of a broker, in bytes: it stands in the map of every node.
pub const ADDRESS_BYTES_MAX: usize = 1024;
/// The first levels of topics where an address names none.
pub const PREFIX: &str = "capstan";
/// The longest prefix of topics, in bytes: brokers take topics of 65,535, some of few hundred.
pub const PREFIX_BYTES_MAX: usize = 128;

const PORT: u16 = 1883;
const PORT_TLS: u16 = 8883;

/// What carries the writes of a keyspace from one replica to all others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Bus {
    /// The connections that nodes have with each other.
    #[default]
    Peers,
    /// The broker of this address.
    Mqtt(Broker),
}

/// The address of an MQTT broker, `mqtt://[USER[:PASSWORD]@]HOST[:PORT][/PREFIX]`, or `mqtts://` with TLS, which takes
/// `?ca=FILE`. Who prints it prints no password; [`Broker::url`] has it.
#[derive(Clone, PartialEq, Eq)]
pub struct Broker(Arc<Parts>);

#[derive(Clone, PartialEq, Eq)]
struct Parts {
    tls: bool,
    user: Option<String>,
    password: Option<String>,
    host: String,
    port: u16,
    prefix: String,
    ca: Option<String>,
}

impl Bus {
    /// As commands take it: `peers`, or the address of a broker. The error says what would do.
    pub fn parse(text: &str) -> Result<Bus, String> {
        match text {
            "peers" => Ok(Bus::Peers),
            _ if text.contains("://") => Broker::parse(text).map(Bus::Mqtt),
            _ => Err("a bus is 'peers', or a broker's address as in mqtt://HOST:1883".into()),
        }
    }

    /// The whole of it, password included: [`Bus::parse`] takes it back.
    pub fn text(&self) -> String {
        match self {
            Bus::Peers => "peers".into(),
            Bus::Mqtt(broker) => broker.url(),
        }
    }

    /// The same, with `***` for a password: for who asks what it is.
    pub fn without_password(&self) -> Bus {
        match self {
            Bus::Mqtt(Broker(parts)) if parts.password.is_some() => {
                Bus::Mqtt(Broker(Arc::new(Parts { password: Some("***".into()), ..Parts::clone(parts) })))
            }
            _ => self.clone(),
        }
    }

    /// The broker, if it is one.
    pub fn broker(&self) -> Option<&Broker> {
        match self {
            Bus::Peers => None,
            Bus::Mqtt(broker) => Some(broker),
        }
    }
}

impl fmt::Display for Bus {
    /// As [`Bus::text`], without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bus::Peers => f.write_str("peers"),
            Bus::Mqtt(broker) => broker.fmt(f),
        }
    }
}

impl Broker {
    /// Reads an address. The error says what is wrong, without a password.
    pub fn parse(text: &str) -> Result<Broker, String> {
        if text.len() > ADDRESS_BYTES_MAX {
            return Err(format!("the address of a broker has at most {ADDRESS_BYTES_MAX} bytes"));
        }
        let (tls, rest) = match text.split_once("://") {
            Some(("mqtt", rest)) => (false, rest),
            Some(("mqtts", rest)) => (true, rest),
            _ => return Err("a broker's address begins with mqtt:// or, with TLS, mqtts://".into()),
        };
        let (rest, query) = split_off(rest, '?');
        let (authority, path) = split_off(rest, '/');
        let (login, place) = match authority.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, authority),
        };
        let (user, password) = login.map(parse_login).transpose()?.unwrap_or_default();
        let (host, port) = parse_place(place, if tls { PORT_TLS } else { PORT })?;
        let ca = query.map(|query| parse_query(query, tls)).transpose()?;
        let prefix = match path {
            None | Some("") => PREFIX.to_owned(),
            Some(path) => parse_prefix(path)?,
        };
        Ok(Broker(Arc::new(Parts { tls, user, password, host, port, prefix, ca })))
    }

    /// The whole address, password included, and each part that was left out: [`Broker::parse`] takes it back.
    pub fn url(&self) -> String {
        self.shown(self.0.password.as_deref().map(escape))
    }

    fn shown(&self, password: Option<String>) -> String {
        let Parts { tls, user, host, port, prefix, ca, .. } = &*self.0;
        let scheme = if *tls { "mqtts" } else { "mqtt" };
        let password = password.map(|password| format!(":{password}")).unwrap_or_default();
        let login = user.as_deref().map(|user| format!("{}{password}@", escape(user))).unwrap_or_default();
        let ca = ca.as_deref().map(|ca| format!("?ca={}", escape(ca))).unwrap_or_default();
        format!("{scheme}://{login}{host}:{port}/{prefix}{ca}")
    }

    /// Whether the connection is encrypted, and the broker's certificate checked.
    pub fn is_tls(&self) -> bool {
        self.0.tls
    }

    /// The file with the certificates that sign the broker's, at each node; `None` = those of the system.
    pub fn ca(&self) -> Option<&str> {
        self.0.ca.as_deref()
    }

    /// Who logs in, and with which password; `None` = nobody.
    pub fn login(&self) -> Option<(&str, &str)> {
        let user = self.0.user.as_deref()?;
        Some((user, self.0.password.as_deref().unwrap_or_default()))
    }

    /// A name or an address; one of IPv6 in brackets.
    pub fn host(&self) -> &str {
        &self.0.host
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// The first levels of all topics.
    pub fn prefix(&self) -> &str {
        &self.0.prefix
    }
}

impl fmt::Display for Broker {
    /// With `***` for a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown(self.0.password.as_ref().map(|_| "***".into())))
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Broker({self})")
    }
}

impl Wish {
    /// What of a bus makes no sense for a keyspace that is to have these settings.
    pub(super) fn check_bus(&self, settings: &Settings) -> Result<(), String> {
        match &self.bus {
            Some(bus) if settings.protocol != crate::Protocol::Broadcast => Err(format!(
                "--bus {bus} is for keyspaces under broadcast: under {} replicas wait for each other's answers, which go between nodes",
                settings.protocol
            )),
            _ => Ok(()),
        }
    }
}

fn split_off(text: &str, at: char) -> (&str, Option<&str>) {
    text.split_once(at).map_or((text, None), |(before, after)| (before, Some(after)))
}

fn parse_login(login: &str) -> Result<(Option<String>, Option<String>), String> {
    let (user, password) = split_off(login, ':');
    if user.is_empty() {
        return Err("there is a password or an '@', and no user before it: give USER:PASSWORD@HOST".into());
    }
    let password = password.map(|password| unescape(password, "the password")).transpose()?;
    Ok((Some(unescape(user, "the user")?), password))
}

fn parse_place(place: &str, usual: u16) -> Result<(String, u16), String> {
    let is_bare_v6 = place.matches(':').count() > 1 && !place.starts_with('[');
    if is_bare_v6 {
        return Err(format!(
            "'{}' is an address of IPv6: put it into brackets, as in [::1]:1883",
            shown(place)
        ));
    }
    let after_host = place.rfind(']').map_or(0, |end| end + 1);
    let (host, port) = match place[after_host..].rsplit_once(':') {
        Some((rest, port)) => {
            (&place[..after_host + rest.len()], port.parse::<u16>().ok().filter(|port| *port > 0))
        }
        None => (place, Some(usual)),
    };
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:[]".contains(&byte);
    if host.is_empty() || !host.bytes().all(fits) {
        return Err(format!(
            "'{}' is no host: give a name or an address, as in mqtt://HOST:1883",
            shown(host)
        ));
    }
    match port {
        Some(port) => Ok((host.to_owned(), port)),
        None => Err(format!("'{}' has no port of 1 to 65535 behind the ':'", shown(place))),
    }
}

fn parse_query(query: &str, tls: bool) -> Result<String, String> {
    match query.split_once('=') {
        Some(("ca", file)) if tls && !file.is_empty() => unescape(file, "the file"),
        Some(("ca", _)) if !tls => Err("?ca= is for mqtts://, where the broker shows a certificate".into()),
        _ => {
            Err("an address takes ?ca=FILE, the certificates that sign the broker's, and nothing else".into())
        }
    }
}

/// Levels of a topic, none of which matches others or is the broker's own.
fn parse_prefix(path: &str) -> Result<String, String> {
    let refuse = |why: &str| Err(format!("'{}' cannot be the prefix of topics: {why}", shown(path)));
    if path.len() > PREFIX_BYTES_MAX {
        return refuse("it has more than 128 bytes");
    }
    if path.contains(['+', '#']) {
        return refuse("'+' and '#' are wildcards, that match the topics of others");
    }
    if path.starts_with('$') {
        return refuse("topics that begin with '$' are the broker's own");
    }
    if path.split('/').any(str::is_empty) {
        return refuse("a level between, before or behind its '/' is empty");
    }
    if path.chars().any(|c| c.is_control() || c.is_whitespace() || c == '?') {
        return refuse("it has a space, or a character that cannot be seen");
    }
    Ok(path.to_owned())
}

fn shown(text: &str) -> String {
    text.escape_debug().collect()
}

/// With `%XX` for what would end a part of the address.
fn escape(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn unescape(text: &str, what: &str) -> Result<String, String> {
    let wrong = || {
        format!("{what} has a '%' that is no %XX of two hexadecimal digits, or is no text: write '%' as %25")
    };
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok()).ok_or_else(wrong)?;
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| is_hex).ok_or_else(wrong)?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(text: &str) -> Broker {
        Broker::parse(text).expect(text)
    }

    #[test]
    fn address_with_nothing_but_a_host_is_as_usual() {
        let usual = broker("mqtt://broker");
        assert_eq!((usual.host(), usual.port(), usual.prefix()), ("broker", 1883, "capstan"));
        assert_eq!((usual.is_tls(), usual.login(), usual.ca()), (false, None, None));
        assert_eq!(broker("mqtts://broker").port(), 8883);
    }

    #[test]
    fn each_part_of_an_address_is_read() {
        let all = broker("mqtts://me:p%40ss@[::1]:1234/home/store?ca=%2Fetc%2Fca.pem");
        assert_eq!((all.host(), all.port(), all.prefix()), ("[::1]", 1234, "home/store"));
        assert_eq!((all.is_tls(), all.login(), all.ca()), (true, Some(("me", "p@ss")), Some("/etc/ca.pem")));
        assert_eq!(broker("mqtt://me@h").login(), Some(("me", "")), "some brokers ask for no password");
    }

    #[test]
    fn password_is_shown_to_nobody_and_kept() {
        let broker = broker("mqtt://me:s3cret@h/p");
        assert_eq!(broker.to_string(), "mqtt://me:***@h:1883/p");
        assert!(!format!("{:?}", Bus::Mqtt(broker.clone())).contains("s3cret"));
        assert_eq!(Broker::parse(&broker.url()), Ok(broker.clone()));
        assert!(broker.url().contains("s3cret"));
        let told = Bus::Mqtt(broker.clone()).without_password();
        assert!(!told.text().contains("s3cret"), "{}", told.text());
        assert_eq!(told.to_string(), broker.to_string());
    }

    #[test]
    fn address_that_makes_no_sense_is_refused_with_what_does() {
        let wrong = [
            ("tcp://h", "mqtt://"),
            ("mqtt://", "is no host"),
            ("mqtt://h:0", "no port"),
            ("mqtt://h:many", "no port"),
            ("mqtt://::1", "brackets"),
            ("mqtt://:secret@h", "no user"),
            ("mqtt://me:100%@h", "%25"),
            ("mqtt://h/a/+/b", "wildcards"),
            ("mqtt://h/a//b", "is empty"),
            ("mqtt://h/a/", "is empty"),
            ("mqtt://h/$SYS", "the broker's own"),
            ("mqtt://h/p?ca=f", "is for mqtts"),
            ("mqtts://h/p?key=f", "?ca=FILE"),
        ];
        for (text, says) in wrong {
            let why = Broker::parse(text).expect_err(text);
            assert!(why.contains(says) && !why.contains("secret"), "{text}: {why}");
        }
        assert!(Bus::parse("rabbit").expect_err("it is neither").contains("'peers'"));
    }
}
