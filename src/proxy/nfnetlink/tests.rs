//! What is translated, and what is left to the tool. That the kernel understands the same is for
//! `tests/live/sync.rs` to see.

use super::*;
use crate::{
    lab::model::ProxyMode,
    proxy::{
        nftables::render,
        sample,
        sync::{first, transaction},
        view::view,
    },
};

#[test]
fn every_rule_of_ours_is_known() {
    for lab in [sample::book(), sample::everything()] {
        for node in lab.node_ids() {
            let text = render(&view(&lab, node));
            let whole = first(&text);
            for line in whole.lines() {
                assert!(Batch::of(line).is_some(), "{line}");
            }
            assert!(Batch::of(&whole).is_some());
            let gone = transaction(ProxyMode::Nftables, &text, "").expect("there are tables");
            assert!(Batch::of(&gone).is_some());
        }
    }
    let golden = include_str!("../golden/sync.nftables");
    for line in golden.lines().filter(|line| !line.starts_with(['#', '(']) && !line.is_empty()) {
        assert!(Batch::of(line).is_some(), "{line}");
    }
}

#[test]
fn what_is_not_known_is_left_alone() {
    for rule in [
        "counter",
        "log prefix \"a\"",
        "ip daddr 10.0.0.1 counter drop",
        "ip6 daddr ::1 drop",
        "ct state established accept",
        "masquerade",
        "meta mark set 1",
        "dnat to 10.0.0.1",
        "dnat to [fd00::1]:80",
        "iifname br0 drop",
        "ip saddr { 10.0.0.1-10.0.0.9, 10.1.0.0/16 } drop",
        "tcp dport { 80, 81 } drop",
        "numgen inc mod 2 vmap { 0 : drop, 1 : drop }",
        "reject with tcp reset",
    ] {
        assert!(Batch::of(&format!("add rule ip t c {rule}")).is_none(), "{rule}");
    }
    for statement in [
        "add rule ip6 t c drop",
        "insert rule ip t c drop",
        "delete rule ip t c handle 4",
        "add set ip t s { type ipv4_addr; flags interval; }",
        "add set ip t s { type ether_addr; }",
        "add map ip t s { type ipv4_addr; }",
        "add chain ip t c { type filter hook input priority filter; policy accept; }",
        "add element ip t s { 10.0.0.1 timeout 1s }",
        "add element ip t s { 10.0.0.1 : accept x }",
        "flush ruleset",
    ] {
        assert!(Batch::of(statement).is_none(), "{statement}");
    }
}

#[test]
fn long_lists_are_several_messages() {
    let list: Vec<String> = (0..5000).map(|at| format!("10.1.{}.{}", at / 250, at % 250)).collect();
    let text = format!("add element ip t s {{ {} }}\nflush chain ip t c\n", list.join(", "));
    let batch = Batch::of(&text).expect("it is known");
    assert!(batch.last() > 3, "{}", batch.last());
    assert!(batch.statement(1).is_some_and(|it| it.starts_with("add element")));
    assert_eq!(batch.statement(1), batch.statement(batch.last() - 1));
    assert_eq!(batch.statement(batch.last()), Some("flush chain ip t c"));
    assert_eq!(batch.statement(0), None);
}

/// The messages of a batch: their types, flags and numbers.
fn heads(batch: &Batch<'_>) -> Vec<(u16, u16, u32)> {
    let (mut heads, mut rest) = (Vec::new(), batch.bytes());
    while !rest.is_empty() {
        let u16_at = |at: usize| u16::from_ne_bytes([rest[at], rest[at + 1]]);
        let u32_at = |at: usize| u32::from_ne_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]);
        heads.push((u16_at(4), u16_at(6), u32_at(8)));
        rest = &rest[usize::try_from(u32_at(0)).expect("it is short").next_multiple_of(4)..];
    }
    heads
}

#[test]
fn the_kernel_answers_to_the_last_message() {
    let text = "add chain ip t c\nadd rule ip t c numgen random mod 2 vmap { 0 : drop, 1 : goto c }\n";
    let batch = Batch::of(text).expect("it is known");
    let message = |kind: u16, flags: u16, number: u32| (0x0a00 | kind, flags | 1, number);
    let expected = vec![
        (BATCH_BEGIN, 1, 0),
        message(3, CREATE, 1),
        message(9, CREATE, 2),
        message(12, CREATE, 3),
        message(6, CREATE | APPEND | NLM_F_ACK, 4),
        (BATCH_END, 1, 5),
    ];
    assert_eq!(heads(&batch), expected);
    assert_eq!(batch.last(), 4);
}
