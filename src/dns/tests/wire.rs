//! Messages as bytes: what is no question, what is too long, and arbitrary ones.

use std::{collections::BTreeSet, sync::LazyLock};

use hickory_proto::{
    op::ResponseCode,
    rr::{
        DNSClass,
        rdata::opt::{EdnsCode, EdnsOption},
    },
};
use proptest::prelude::*;

use super::*;
use crate::lab::model::ManualEndpoint;

const WEB: &str = "A web.default.svc.cluster.local";

/// A lab whose headless Service `crowd` has so many endpoints given by hand.
fn crowded(many: u8) -> Lab {
    let mut lab = lab();
    let service = lab.services.iter_mut().find(|service| service.name.as_str() == "empty").unwrap();
    service.name = "crowd".parse().unwrap();
    service.selector.clear();
    service.endpoints =
        (1..=many).map(|last| ManualEndpoint { ip: [192, 0, 2, last].into(), node: None, at: 0..0 }).collect();
    lab
}

fn react(bytes: &[u8]) -> Reaction {
    cluster_of(&lab()).react(bytes, Transport::Udp, 1)
}

#[test]
fn what_is_no_question_gets_no_answer() {
    let mut answer = question(WEB);
    answer.metadata.message_type = MessageType::Response;
    for bytes in [&[][..], &[1, 2, 3], &[0; 11], &bytes(&answer)] {
        assert!(matches!(react(bytes), Reaction::Silence), "{bytes:?}");
    }
}

#[test]
fn malformed_questions_are_refused() {
    let good = bytes(&question(WEB));
    let edited = |edit: &dyn Fn(&mut Message)| {
        let mut message = question(WEB);
        edit(&mut message);
        bytes(&message)
    };
    let patched = |at: usize, with: &[u8]| {
        let mut bytes = good.clone();
        bytes.splice(at..at + with.len(), with.iter().copied());
        bytes
    };
    let label = |length: usize| [&[length as u8][..], &vec![b'a'; length]].concat();
    let with_name = |name: &[u8]| [&good[..12], name, &[0, 1, 0, 1]].concat();
    let longest = [label(63), label(63), label(63), label(61), vec![0]].concat();
    let rows: Vec<(&str, Vec<u8>, ResponseCode)> = vec![
        ("no question", edited(&|it| it.queries.clear()), ResponseCode::FormErr),
        ("two questions", edited(&|it| it.queries.push(it.queries[0].clone())), ResponseCode::FormErr),
        ("only a header", good[..12].to_vec(), ResponseCode::FormErr),
        ("the end is missing", good[..good.len() - 1].to_vec(), ResponseCode::FormErr),
        ("a record that is not there", patched(11, &[1]), ResponseCode::FormErr),
        ("many records that are not there", patched(6, &[255; 6]), ResponseCode::FormErr),
        ("a pointer to itself", with_name(&[0xc0, 12]), ResponseCode::FormErr),
        ("a pointer ahead", with_name(&[0xc0, 40]), ResponseCode::FormErr),
        ("a label of a kind that is not", with_name(&[0x80, 1, 0]), ResponseCode::FormErr),
        (
            "a name of 256 bytes",
            with_name(&[label(63), label(63), label(63), label(62), vec![0]].concat()),
            ResponseCode::FormErr,
        ),
        ("status", edited(&|it| it.metadata.op_code = OpCode::Status), ResponseCode::NotImp),
        ("notify", edited(&|it| it.metadata.op_code = OpCode::Notify), ResponseCode::NotImp),
        ("update", edited(&|it| it.metadata.op_code = OpCode::Update), ResponseCode::NotImp),
        ("chaos", edited(&|it| it.queries[0].query_class = DNSClass::CH), ResponseCode::Refused),
        ("any class", edited(&|it| it.queries[0].query_class = DNSClass::ANY), ResponseCode::Refused),
        ("AXFR", bytes(&question("AXFR cluster.local")), ResponseCode::Refused),
        ("IXFR", edited(&|it| it.queries[0].query_type = RecordType::IXFR), ResponseCode::Refused),
    ];
    for (what, bytes, code) in rows {
        let answer = answered(react(&bytes));
        assert_eq!((answer.metadata.id, answer.metadata.response_code), (0x1234, code), "{what}");
        assert!(answer.metadata.recursion_desired && !answer.metadata.authoritative, "{what}");
        assert!(answer.answers.is_empty() && answer.authorities.is_empty(), "{what}");
    }
    assert!(matches!(react(&with_name(&longest)), Reaction::Ask(_)), "a name of 255 bytes");
    let trailing = [&good[..], b"junk"].concat();
    assert_eq!(answered(react(&trailing)).answers.len(), 1, "what comes behind a question does not matter");
}

#[test]
fn the_case_of_the_question_is_kept() {
    let answer = answered(react(&bytes(&question("A wEb.Default.SVC.cluster.LOCAL"))));
    assert_eq!(line(&answer.answers[0]), "wEb.Default.SVC.cluster.LOCAL. 30 A 10.96.1.1");
    assert_eq!(answer.queries[0].name().to_ascii(), "wEb.Default.SVC.cluster.LOCAL.");
}

#[test]
fn edns_is_said_again() {
    let mut message = with_room(question(WEB), 1400);
    if let Some(edns) = &mut message.edns {
        edns.set_dnssec_ok(true);
        edns.options_mut().insert(EdnsOption::Unknown(10, b"abcdefgh".to_vec()));
        edns.options_mut().insert(EdnsOption::Unknown(65001, b"x".to_vec()));
    }
    let edns = answered(react(&bytes(&message))).edns.expect("EDNS, as it was asked with it");
    assert_eq!((edns.max_payload(), edns.version(), edns.flags().dnssec_ok), (1400, 0, true));
    assert_eq!(edns.options().options.len(), 1);
    assert!(edns.option(EdnsCode::Cookie).is_some());
    assert!(answered(react(&bytes(&question(WEB)))).edns.is_none());
    if let Some(edns) = &mut message.edns {
        edns.set_version(1);
    }
    let answer = answered(react(&bytes(&message)));
    // The code has two meanings and one number.
    assert_eq!((u16::from(answer.metadata.response_code), answer.edns.unwrap().version()), (16, 0));
    assert!(answer.answers.is_empty());
}

#[test]
fn what_does_not_fit_is_left_out() {
    let cluster = cluster_of(&crowded(200));
    let all = "A crowd.default.svc.cluster.local";
    let rows = [
        (question(all), Transport::Udp, 512, 28),
        (with_room(question(all), 100), Transport::Udp, 512, 28),
        (with_room(question(all), 1232), Transport::Udp, 1232, 73),
        (with_room(question(all), 8192), Transport::Udp, 8192, 200),
        (question(all), Transport::Tcp, 65535, 200),
    ];
    for (message, transport, limit, many) in rows {
        let Reaction::Answer(answer) = cluster.react(&bytes(&message), transport, 1) else { panic!("no answer") };
        let whole = parsed(&answer);
        assert!(answer.bytes.len() <= limit, "{} bytes", answer.bytes.len());
        assert_eq!((whole.answers.len(), whole.metadata.truncation), (many, many < 200), "{limit}");
        assert_eq!(whole.edns.is_some(), message.edns.is_some());
    }
    // Two hundred SRV records, and as many addresses of their targets, which are left out first.
    let message = with_room(question("SRV crowd.default.svc.cluster.local"), 16000);
    let answer = answered(cluster.react(&bytes(&message), Transport::Udp, 1));
    assert_eq!((answer.answers.len(), answer.metadata.truncation), (200, true));
    assert!((1..200).contains(&answer.additionals.len()));
    let message = with_room(question("SRV crowd.default.svc.cluster.local"), 4096);
    let answer = answered(cluster.react(&bytes(&message), Transport::Udp, 1));
    assert!(answer.answers.len() < 200 && answer.additionals.is_empty() && answer.edns.is_some());
}

#[test]
fn options_never_crowd_out_the_answer() {
    let mut message = with_room(question("A crowd.default.svc.cluster.local"), 512);
    if let Some(edns) = &mut message.edns {
        edns.options_mut().insert(EdnsOption::Unknown(12, vec![0; 3000]));
    }
    let cluster = cluster_of(&crowded(100));
    let Reaction::Answer(answer) = cluster.react(&bytes(&message), Transport::Udp, 1) else { panic!("no answer") };
    let whole = parsed(&answer);
    assert!(answer.bytes.len() <= 512 && whole.metadata.truncation && whole.answers.len() > 20);
}

#[test]
fn the_order_of_addresses_is_by_chance() {
    let cluster = cluster_of(&crowded(3));
    let message = bytes(&question("A crowd.default.svc.cluster.local"));
    let first = |seed: u64| line(&answered(cluster.react(&message, Transport::Udp, seed)).answers[0]);
    let orders: BTreeSet<String> = (0..64).map(first).collect();
    assert_eq!(orders.len(), 3);
    assert_eq!(first(5), first(5));
}

#[test]
fn answers_are_counted_as_what_they_are() {
    let counted = |words: &str| match react(&bytes(&question(words))) {
        Reaction::Answer(answer) => answer.counted.map(|it| (it.kind, it.code)),
        other => panic!("{other:?}"),
    };
    assert_eq!(counted(WEB), Some(("A", "NOERROR")));
    assert_eq!(counted("TLSA nothing.cluster.local"), Some(("other", "NXDOMAIN")));
    assert_eq!(counted("AXFR cluster.local"), Some(("AXFR", "REFUSED")));
}

/// A question that is nearly right, with bytes changed at random.
fn nearly_right() -> impl Strategy<Value = Vec<u8>> {
    let names = prop::sample::select(vec![
        WEB,
        "SRV crowd.default.svc.cluster.local",
        "A ext.default.svc.cluster.local",
        "PTR 10.1.244.10.in-addr.arpa",
        "A 10-0-0-5.default.pod.cluster.local",
        "A www.example.com",
    ]);
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (names, prop::option::of(any::<u16>()), edits, any::<bool>()).prop_map(|(words, room, edits, cut)| {
        let mut message = question(words);
        if let Some(room) = room {
            message = with_room(message, room);
        }
        let mut bytes = bytes(&message);
        for (at, with) in &edits {
            let at = at.index(bytes.len());
            bytes[at] = *with;
        }
        if cut && let Some((at, _)) = edits.first() {
            bytes.truncate(at.index(bytes.len()));
        }
        bytes
    })
}

/// Whatever comes, an answer can be read, is for the question, and is no longer than may be.
fn sound(cluster: &Cluster, bytes: &[u8], transport: Transport, seed: u64) {
    let limit = match (transport, Message::from_vec(bytes)) {
        (Transport::Tcp, _) => 65535,
        (Transport::Udp, Ok(message)) => usize::from(message.max_payload()),
        (Transport::Udp, Err(_)) => 512,
    };
    let answer = match cluster.react(bytes, transport, seed) {
        Reaction::Silence => return,
        Reaction::Answer(answer) => answer,
        Reaction::Ask(ask) => {
            let again = INTERNET.react(ask.question(), Transport::Tcp, seed);
            let Reaction::Answer(upstream) = again else { panic!("the upstream is silent") };
            // What the upstream says may be anything as well.
            ask.judge(bytes);
            cluster.resume(ask.pending, Heard::Answer(upstream.bytes))
        }
    };
    assert!(answer.bytes.len() <= limit, "{} bytes of {limit}", answer.bytes.len());
    let message = parsed(&answer);
    assert_eq!(answer.bytes[..2], bytes[..2], "the id");
    assert_eq!(message.metadata.message_type, MessageType::Response);
}

/// Made once for all cases.
static CROWDED: LazyLock<Cluster> = LazyLock::new(|| cluster_of(&crowded(120)));
static INTERNET: LazyLock<Internet> = LazyLock::new(|| Internet::new(&lab()));

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..600), seed in any::<u64>()) {
        sound(&CROWDED, &bytes, Transport::Udp, seed);
        sound(&CROWDED, &bytes, Transport::Tcp, seed);
    }

    #[test]
    fn nearly_right_questions_do_no_harm(bytes in nearly_right(), seed in any::<u64>()) {
        sound(&CROWDED, &bytes, Transport::Udp, seed);
        sound(&CROWDED, &bytes, Transport::Tcp, seed);
    }

    #[test]
    fn an_upstream_may_say_anything(answer in prop::collection::vec(any::<u8>(), 0..600), seed in any::<u64>()) {
        for words in ["A www.example.com", "A ext.default.svc.cluster.local"] {
            let Reaction::Ask(ask) = CROWDED.react(&bytes(&question(words)), Transport::Udp, seed) else {
                panic!("nothing is asked");
            };
            ask.judge(&answer);
            let answer = CROWDED.resume(ask.pending, Heard::Answer(answer.clone()));
            prop_assert!(answer.bytes.len() <= 512);
            prop_assert_eq!(parsed(&answer).metadata.id, 0x1234);
        }
    }
}
