//! Every effect on the kernel: namespaces, links, processes, sockets, rules.
//!
//! `unsafe`, `setns`, `unshare`, netlink, processes and sockets live here (and in the agent's
//! loop), and nowhere else. Nothing here decides anything: what is to be done comes in as
//! [`Step`](crate::plan::step::Step)s and [`Order`](crate::probe::order::Order)s.

pub mod apart;
pub mod apply;
pub mod balancer;
pub mod births;
pub mod capture;
pub mod client;
pub mod conntrack;
pub mod coredns;
mod curl;
mod datagram;
mod dns;
mod echo;
mod errand;
pub mod events;
pub mod examine;
pub mod fallen;
mod flows;
mod found;
pub mod front;
pub mod haproxy;
mod health;
mod hop;
mod http;
pub mod inspect;
pub mod join;
pub mod kept;
mod knock;
pub mod leftovers;
pub mod limits;
pub mod look;
mod mend;
mod message;
mod my_ip;
pub mod neighbours;
pub mod nest;
pub mod netlink;
pub mod netns;
mod network;
pub mod nfnetlink;
pub mod patience;
mod ports;
pub mod power;
mod prober;
pub mod process;
mod questions;
pub mod repair;
pub mod requirements;
pub mod rules;
mod scope;
pub mod serve;
mod settings;
pub mod stale;
pub mod stopwatch;
pub mod sync;
pub mod tools;
pub mod trace;
pub mod turnover;
pub mod unanswered;
pub mod undo;
pub mod verdicts;
pub mod view;
mod wire;
