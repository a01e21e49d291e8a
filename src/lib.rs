//! netlab: a Kubernetes-shaped network on one Linux host, from one TOML file.
//!
//! This is the library behind the `netlab` program; it is for the program and its tests, and
//! promises no stable interface. `docs/architecture.md` says more.
//!
//! ```text
//! File ──lab──▶ Lab ──plan──▶ Plan ──kernel::apply──▶ running lab ──probe──▶ Report
//!                │              ▲                          ▲                    ▲
//!                └───proxy──────┘                        agent                cli
//! └──────────── pure, total, every problem at once ────────┘└───── effects ─────┘
//! ```
//!
//! | module | turns | into |
//! | --- | --- | --- |
//! | [`lab`] | the text of a lab file | a [`Lab`](lab::model::Lab), or everything that is wrong with it |
//! | [`plan`] | a lab | a [`Plan`](plan::step::Plan): stages of steps |
//! | [`proxy`] | a lab | the rules of its nodes, and the truth about its Services |
//! | [`dns`] | a lab | the names in it, and answers to questions about them |
//! | [`probe`] | a lab | orders to try, and then verdicts |
//! | [`report`] | verdicts | a table, JSON, JUnit, TAP |
//! | [`diag`] | a problem and its place | a text with carets |
//! | [`kernel`] | steps and orders | system calls, processes, sockets |
//! | [`agent`] | a plan | process 1 of a lab, which answers questions |
//! | [`cli`] | a command line | all of this, one file a verb |
//!
//! What must always hold:
//!
//! - All but [`kernel`], [`agent`] and [`cli`] are pure: no files, sockets, processes, clocks or
//!   environment. The same text gives the same plan and rules, byte for byte.
//! - What can be found wrong before the kernel is asked is reported all at once, with its place.
//! - `unsafe` is in [`kernel`] and [`agent`] only.
//! - Nothing of a lab is outside of its namespaces but one directory, and its agent is process 1
//!   in them: its end is the lab's end, so there is nothing to clean up.

pub mod agent;
pub mod cli;
pub mod conformance;
pub mod diag;
pub mod dns;
pub mod error;
pub mod kernel;
pub mod lab;
pub mod plan;
pub mod probe;
pub mod proxy;
pub mod report;
