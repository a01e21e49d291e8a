//! What a user wants to come of a `[[probe]]`: plain data, which the agent is told of a probe that is
//! tried until it is so.

use std::{collections::BTreeSet, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::{
    order::FailureKind,
    question::{Rcode, RecordKind, Said},
    suite::Answerer,
};

/// What must come of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Want {
    /// No try is answered, and each fails in one of these ways.
    Fails(BTreeSet<FailureKind>),
    /// Every try is answered, and like this.
    Grants(Wish),
}

/// What every answer must be; what is absent or empty may be anything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wish {
    /// What is asked.
    pub kind: Kind,
    /// The HTTP status.
    pub status: Option<u16>,
    /// The exit code of a program.
    pub exit_code: Option<u8>,
    /// The whole body, answer or output.
    pub text: Option<String>,
    /// A part of it.
    pub text_contains: Option<String>,
    /// Headers of the response.
    pub headers: Vec<(String, String)>,
    /// Each of them answers at least once, and nobody else.
    pub backends: Vec<Answerer>,
    /// The client that every backend must see.
    pub source: Option<Source>,
    /// What a name server must say.
    pub names: Option<Names>,
    /// The share of each backend; empty where it is not tested.
    pub shares: Vec<f64>,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// HTTP.
    Http,
    /// A TCP connection.
    Tcp,
    /// A datagram.
    Udp,
    /// A name.
    Dns,
    /// An ICMP echo.
    Ping,
    /// A program.
    Exec,
}

/// The client that a backend must see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// In words.
    pub text: String,
    /// By one of these addresses.
    pub ips: BTreeSet<IpAddr>,
}

/// What a name server must say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// How it must go.
    pub rcode: Rcode,
    /// The type that is asked for.
    pub kind: RecordKind,
    /// All records of that type, sorted; `None` for at least one if there is no error.
    pub records: Option<Vec<Said>>,
}

// Shares are numbers above 0 and up to 1, each of which equals itself.
impl Eq for Wish {}

impl Wish {
    /// Any answer to what is asked.
    pub fn any(kind: Kind) -> Wish {
        Wish {
            kind,
            status: None,
            exit_code: None,
            text: None,
            text_contains: None,
            headers: Vec::new(),
            backends: Vec::new(),
            source: None,
            names: None,
            shares: Vec::new(),
        }
    }

    /// How the text of an answer is called.
    pub fn noun(&self) -> &'static str {
        match self.kind {
            Kind::Http => "body",
            Kind::Exec => "output",
            _ => "answer",
        }
    }
}

impl Names {
    /// The records that count, sorted.
    pub fn of_kind<'a>(&self, said: impl IntoIterator<Item = &'a Said>) -> Vec<Said> {
        let mut records: Vec<Said> = said.into_iter().filter(|said| said.is(self.kind)).cloned().collect();
        records.sort();
        records.dedup();
        records
    }
}
