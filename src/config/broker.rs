//! A broker's address: `mqtt://[user@]host[:port]`, or `mqtts://…` over TLS.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

const PORT: u16 = 1883;
const TLS_PORT: u16 = 8883;

/// Where the broker listens and as whom to log in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Broker {
    /// Name or address of the machine.
    pub host: String,
    /// TCP port; unless named 1883, or 8883 over TLS.
    pub port: u16,
    /// Whether over TLS.
    pub tls: bool,
    /// User name to log in with.
    pub user: Option<String>,
}

impl Default for Broker {
    fn default() -> Self {
        Broker { host: "127.0.0.1".into(), port: PORT, tls: false, user: None }
    }
}

/// The text is no address of a broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no broker ({reason}); write mqtt://[user@]host[:port], or mqtts:// for TLS")]
pub struct BrokerError {
    text: String,
    reason: &'static str,
}

impl FromStr for Broker {
    type Err = BrokerError;

    fn from_str(text: &str) -> Result<Self, BrokerError> {
        let fail = |reason| BrokerError { text: text.to_owned(), reason };
        let (tls, rest) = match text.split_once("://") {
            Some(("mqtt" | "tcp", rest)) => (false, rest),
            Some(("mqtts" | "ssl", rest)) => (true, rest),
            Some(_) => return Err(fail("only mqtt:// and mqtts:// are spoken")),
            None => return Err(fail("it has no mqtt://")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, address) = match rest.rsplit_once('@') {
            Some((user, _)) if user.contains(':') => {
                return Err(fail("a password does not belong here, see mqtt.password_file"));
            }
            Some((user, address)) if !user.is_empty() => (Some(user.to_owned()), address),
            Some(_) => return Err(fail("the user is empty")),
            None => (None, rest),
        };
        let (host, port) = match address.strip_prefix('[') {
            Some(v6) => {
                let (host, after) = v6.split_once(']').ok_or_else(|| fail("a [ is not closed"))?;
                (host, after.strip_prefix(':'))
            }
            None => match address.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (address, None),
            },
        };
        if host.is_empty() || host.contains(['/', ' ', '?', '#']) {
            return Err(fail("the host is missing or no host"));
        }
        let port = match port {
            Some(port) => {
                port.parse().ok().filter(|&port| port > 0).ok_or_else(|| fail("the port is no port"))?
            }
            None if tls => TLS_PORT,
            None => PORT,
        };
        Ok(Broker { host: host.to_owned(), port, tls, user })
    }
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls { "mqtts://" } else { "mqtt://" })?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl TryFrom<String> for Broker {
    type Error = BrokerError;

    fn try_from(text: String) -> Result<Self, BrokerError> {
        text.parse()
    }
}

impl From<Broker> for String {
    fn from(broker: Broker) -> String {
        broker.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for text in [
            "mqtt://127.0.0.1:1883",
            "mqtt://me@broker.farm:1884",
            "mqtt://[::1]:1883",
            "mqtts://me@broker.farm:8884",
        ] {
            assert_eq!(text.parse::<Broker>().expect("a broker").to_string(), text);
        }
        assert_eq!("mqtt://box".parse::<Broker>().expect("a broker").port, 1883);
        assert_eq!("mqtts://box".parse::<Broker>().expect("a broker").port, 8883);
    }

    #[test]
    fn what_is_no_address_is_refused_with_a_reason() {
        for text in
            ["box:1883", "http://box", "mqtt://", "mqtt://:1", "mqtt://a:b@c", "mqtt://a:0", "mqtt://[::1"]
        {
            let error = text.parse::<Broker>().expect_err(text).to_string();
            assert!(error.contains("write mqtt://"), "{error}");
        }
    }
}
