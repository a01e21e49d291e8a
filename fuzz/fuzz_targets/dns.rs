//! Whatever a client or an upstream sends, the name servers do not panic, and their answers can be
//! read, are for the question, and are no longer than may be.

#![no_main]

use std::sync::LazyLock;

use hickory_proto::op::{Message, MessageType};
use libfuzzer_sys::fuzz_target;
use netlab::{
    dns::{Answer, Cluster, Heard, Internet, Reaction, Transport},
    lab::{load, model::Lab},
    proxy::endpoints::Conditions,
};

const LAB: &str = r#"
[dns]
engine = "embedded"

[[node]]
name = "n1"

[[pod]]
name = "web"
labels = { app = "web" }

[[service]]
name = "web"
selector = { app = "web" }
ports = [{ name = "http", port = 80 }]

[[service]]
name = "nest"
cluster_ip = "None"
selector = { app = "web" }
ports = [{ name = "http", port = 80 }]

[[service]]
name = "ext"
type = "ExternalName"
external_name = "api.example.com"

[[external]]
name = "api.example.com"
ip = ["203.0.113.5", "203.0.113.6"]
"#;

static LABS: LazyLock<[Lab; 2]> = LazyLock::new(|| {
    ["cname", "rewrite"].map(|mode| {
        let text = LAB.replace("\"embedded\"", &format!("\"embedded\"\nexternal_names = \"{mode}\""));
        load(&text).unwrap_or_else(|problems| panic!("{problems:?}"))
    })
});
static CLUSTERS: LazyLock<[Cluster; 2]> =
    LazyLock::new(|| [0, 1].map(|lab| Cluster::new(&LABS[lab], &Conditions::new()).expect("the lab has DNS")));
static INTERNET: LazyLock<Internet> = LazyLock::new(|| Internet::new(&LABS[0]));

/// A header with one question, for inputs that are to get past it.
const HEADER: [u8; 12] = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];

fuzz_target!(|input: (u8, u64, &[u8], &[u8])| {
    let (choice, seed, message, upstream) = input;
    let cluster = &CLUSTERS[usize::from(choice & 1)];
    let transport = if choice & 2 == 0 { Transport::Udp } else { Transport::Tcp };
    let mut question = if choice & 4 == 0 { Vec::new() } else { HEADER.to_vec() };
    question.extend(message);
    let limit = match (transport, Message::from_vec(&question)) {
        (Transport::Tcp, _) => 65535,
        (Transport::Udp, Ok(message)) => usize::from(message.max_payload()),
        (Transport::Udp, Err(_)) => 512,
    };
    let sound = |answer: &Answer| {
        assert!(answer.bytes.len() <= limit);
        let read = Message::from_vec(&answer.bytes).expect("an answer can be read");
        assert_eq!(read.metadata.message_type, MessageType::Response);
        assert_eq!(answer.bytes[..2], question[..2]);
    };
    if let Reaction::Answer(answer) = INTERNET.react(&question, transport, seed) {
        sound(&answer);
    }
    match cluster.react(&question, transport, seed) {
        Reaction::Silence => {}
        Reaction::Answer(answer) => sound(&answer),
        Reaction::Ask(ask) => {
            // Under the id of the question, so that more than the id is looked at.
            let mut said = ask.question()[..2].to_vec();
            said.extend(upstream);
            ask.judge(&said);
            sound(&cluster.resume(ask.pending, Heard::Answer(said)));
        }
    }
});
