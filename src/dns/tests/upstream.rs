//! What becomes of an upstream that does not answer, or not well.

use hickory_proto::rr::rdata::{A, MX, NS, NULL};

use super::*;

/// The question that the cluster asks on behalf of a client.
fn asked(cluster: &Cluster, message: &Message) -> Box<Ask> {
    match cluster.react(&bytes(message), Transport::Udp, 7) {
        Reaction::Ask(ask) => ask,
        other => panic!("nothing is asked: {other:?}"),
    }
}

fn resumed(cluster: &Cluster, ask: Box<Ask>, heard: Heard) -> Message {
    parsed(&cluster.resume(ask.pending, heard))
}

#[test]
fn nobody_answers() {
    let lab = lab();
    let cluster = cluster_of(&lab);
    let rows = [
        ("A www.example.com", Heard::Nothing, "ServFail"),
        ("A www.example.com", Heard::TooMany, "Refused"),
        (
            "A ext.default.svc.cluster.local",
            Heard::Nothing,
            "NoError aa\next.default.svc.cluster.local. 30 CNAME api.example.com.",
        ),
        (
            "A ext.default.svc.cluster.local",
            Heard::TooMany,
            "NoError aa\next.default.svc.cluster.local. 30 CNAME api.example.com.",
        ),
    ];
    for (words_of, heard, expected) in rows {
        let ask = asked(&cluster, &question(words_of));
        let answer = resumed(&cluster, ask, heard);
        assert_eq!(words(&answer), expected, "{words_of}");
        assert_eq!((answer.metadata.id, answer.metadata.recursion_desired), (0x1234, true));
        assert_eq!(answer.queries, question(words_of).queries);
    }
}

#[test]
fn the_code_of_what_an_alias_leads_to_is_not_passed_on() {
    let mut lab = lab();
    lab.externals.clear();
    check(&lab, &[("A ext.default.svc.cluster.local", "NoError aa\next.default.svc.Z 30 CNAME api.example.com.")]);
}

#[test]
fn answers_are_recognised() {
    let lab = lab();
    let cluster = cluster_of(&lab);
    let ask = asked(&cluster, &question("A api.example.com"));
    let Reaction::Answer(answer) = Internet::new(&lab).react(ask.question(), Transport::Udp, 1) else {
        panic!("the internet knows it");
    };
    assert_eq!(ask.judge(&answer.bytes), Judgement::Answer);
    let changed = |at: usize, with: u8| {
        let mut bytes = answer.bytes.clone();
        bytes[at] ^= with;
        ask.judge(&bytes)
    };
    assert_eq!(changed(0, 1), Judgement::Foreign, "another id");
    assert_eq!(changed(2, 0x80), Judgement::Foreign, "a question");
    assert_eq!(changed(2, 0x02), Judgement::Truncated);
    assert_eq!(changed(13, 0x01), Judgement::Foreign, "another name");
    assert_eq!(ask.judge(&answer.bytes[..20]), Judgement::Broken);
    assert_eq!(ask.judge(&[]), Judgement::Foreign);
}

#[test]
fn the_upstream_is_asked_in_the_clients_terms() {
    let lab = lab();
    let cluster = cluster_of(&lab);
    let mut message = with_room(question("A Api.Example.com"), 1400);
    message.metadata.checking_disabled = true;
    if let Some(edns) = &mut message.edns {
        edns.set_dnssec_ok(true);
    }
    let ask = asked(&cluster, &message);
    let sent = Message::from_vec(ask.question()).unwrap();
    assert_eq!(sent.queries[0].to_string(), "Api.Example.com. IN A");
    assert!(sent.metadata.recursion_desired && sent.metadata.checking_disabled);
    assert_eq!(sent.edns.as_ref().map(|edns| (edns.max_payload(), edns.flags().dnssec_ok)), Some((1400, true)));
    // The id is not the client's, and another one for each seed.
    let again = cluster.react(&bytes(&message), Transport::Udp, 8);
    let Reaction::Ask(again) = again else { panic!("nothing is asked") };
    assert_ne!(ask.question()[..2], again.question()[..2]);
    let plain = asked(&cluster, &question("A api.example.com"));
    assert!(Message::from_vec(plain.question()).unwrap().edns.is_none());
    assert!(ask.first_of(3) < 3 && ask.first_of(1) == 0 && ask.first_of(0) == 0);
}

#[test]
fn what_the_upstream_says_is_passed_on_whole() {
    let lab = lab();
    let cluster = cluster_of(&lab);
    let ask = asked(&cluster, &with_room(question("MX example.com"), 4096));
    let mut answer = Message::from_vec(ask.question()).unwrap().into_response();
    let name = |text: &str| Name::from_ascii(text).unwrap();
    answer.metadata.authentic_data = true;
    answer.add_answer(Record::from_rdata(name("Example.com."), 77, RData::MX(MX::new(10, name("mail.example.com.")))));
    answer.add_authority(Record::from_rdata(name("example.com."), 77, RData::NS(NS(name("ns.example.com.")))));
    let unknown = RData::Unknown { code: 65280.into(), rdata: NULL::with(vec![1, 2, 3]) };
    answer.add_additional(Record::from_rdata(name("ns.example.com."), 77, RData::A(A::new(192, 0, 2, 53))));
    answer.add_additional(Record::from_rdata(name("x.y.example.com."), 77, unknown));
    let bytes = bytes(&answer);
    assert_eq!(ask.judge(&bytes), Judgement::Answer);
    let mut got = resumed(&cluster, ask, Heard::Answer(bytes));
    assert_eq!(got.metadata.id, 0x1234, "the client's id, not the one that the upstream was asked under");
    got.metadata.id = answer.metadata.id;
    got.additionals.reverse();
    assert_eq!(got, answer);
}

#[test]
fn garbage_from_the_upstream_is_no_answer() {
    let lab = lab();
    let cluster = cluster_of(&lab);
    let ask = asked(&cluster, &question("A www.example.com"));
    assert_eq!(words(&resumed(&cluster, ask, Heard::Answer(vec![1, 2, 3]))), "ServFail");
}
