//! What both ends of connections logged, held against what the observer showed of them.
//!
//! Owns the format of the logs, which the scripts in testdata/record write. Must not know how either came about.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

/// What one end of one connection knows of it.
#[derive(Debug, Deserialize)]
pub struct Endpoint {
    /// Which end it is: `client` or `server`.
    end: String,
    /// Address and port of the client, as of the server.
    client: String,
    server: String,
    sent: Vec<Content>,
    received: Vec<Content>,
    /// The code and the reason that it got from the other end; empty where it does not know.
    #[serde(default)]
    closed: Vec<Value>,
}

/// A message.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(untagged)]
pub enum Content {
    /// Of text.
    Text(String),
    /// Binary.
    Binary {
        /// Its bytes.
        base64: String,
    },
}

impl Content {
    /// Of a message that the observer shows as whole.
    fn of_record(message: &Value) -> Self {
        assert_eq!(message["truncated"], false, "{message}");
        match (message["opcode"].as_str(), message["payload"].as_str(), message["payload_base64"].as_str()) {
            (Some("text"), Some(text), None) => Self::Text(text.to_owned()),
            (Some("binary"), None, Some(base64)) => Self::Binary { base64: base64.to_owned() },
            _ => panic!("neither whole text nor binary: {message}"),
        }
    }
}

impl Endpoint {
    /// That the connection was shown as this end knows it: each message, whole and in order, and the end.
    pub fn assert_shown(&self, records: &[Value]) {
        let records: Vec<_> = records
            .iter()
            .filter(|record| record["client"] == self.client && record["server"] == self.server)
            .collect();
        let (own, others) = match self.end.as_str() {
            "client" => ("client_to_server", "server_to_client"),
            "server" => ("server_to_client", "client_to_server"),
            other => panic!("{other} is no end"),
        };
        for (direction, logged) in [(own, &self.sent), (others, &self.received)] {
            let shown: Vec<_> = records
                .iter()
                .filter(|record| record["kind"] == "message" && record["direction"] == direction)
                .map(|message| Content::of_record(message))
                .collect();
            for (number, (shown, logged)) in shown.iter().zip(logged).enumerate() {
                assert_eq!(shown, logged, "{direction}, message {number} of {}", self.client);
            }
            assert_eq!(shown.len(), logged.len(), "{direction} of {}", self.client);
        }
        let closed: Vec<_> = records.iter().filter(|record| record["kind"] == "connection_closed").collect();
        let [closed] = closed[..] else { panic!("{} was closed {} times", self.client, closed.len()) };
        assert_eq!(closed["complete"], true, "{closed}");
        // Who closed first got no more than an answer.
        if let [code, reason] = &self.closed[..]
            && closed["closed_by"] != self.end
        {
            // RFC 6455 §7.4.1: 1006 says that there was no close frame.
            let code = if code == 1006 { &Value::Null } else { code };
            assert_eq!((&closed["close_code"], &closed["close_reason"]), (code, reason), "{closed}");
            assert_eq!(closed["how"] == "close_frame", !code.is_null(), "{closed}");
        }
    }

    /// Messages that it knows of.
    pub fn messages(&self) -> usize {
        self.sent.len() + self.received.len()
    }
}

/// The logs of all ends, from the line of JSON that a script writes.
pub fn logs(line: &str) -> Vec<Endpoint> {
    let logs: Vec<Endpoint> = serde_json::from_str(line).unwrap();
    for content in logs.iter().flat_map(|log| log.sent.iter().chain(&log.received)) {
        if let Content::Binary { base64 } = content {
            STANDARD.decode(base64).unwrap();
        }
    }
    logs
}
