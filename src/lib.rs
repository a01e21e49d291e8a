//! netlab: a Kubernetes-shaped network on one Linux host, from one TOML file.
//!
//! A test of a program that talks to a network can have that network in three lines:
//!
//! ```no_run
//! #[test]
//! fn the_shop_answers_everybody() -> Result<(), netlab::Error> {
//!     let lab = r#"
//!         [[pod]]
//!         name = "web"
//!         replicas = 3
//!         labels = { app = "web" }
//!
//!         [[service]]
//!         name = "shop"
//!         selector = { app = "web" }
//!         ports = [{ port = 80 }]
//!     "#;
//!     netlab::Lab::from_toml(lab)?.up()?.verify()?;
//!     Ok(())
//! }
//! ```
//!
//! - [`Lab`] is a lab file that was read and is good.
//! - [`Running`] is a lab that is up: probe it, run commands in its pods, change it. It ends when the
//!   value is dropped, and whenever the calling process ends.
//! - [`Error`] prints what `netlab` would print: problems underlined, probes that failed and why.
//! - [`report::Report`] is what the probes showed.
//!
//! The lab is held by the `netlab` program, which must be of this library's version: `cargo install`
//! it, or name it in the environment variable [`NETLAB_PROGRAM`](PROGRAM). Linux only, no root needed.
//!
//! Everything else that is public is so for netlab's own program and tests, and may change at any time.
//! `docs/architecture.md` says more.
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
//! | `lab` | the text of a lab file | a lab, or everything that is wrong with it |
//! | `plan` | a lab | a plan: stages of steps |
//! | `proxy` | a lab | the rules of its nodes, and the truth about its Services |
//! | `dns` | a lab | the names in it, and answers to questions about them |
//! | `probe` | a lab | orders to try, and then verdicts |
//! | `report` | verdicts | a table, JSON, JUnit, TAP |
//! | `diag` | a problem and its place | a text with carets |
//! | `kernel` | steps and orders | system calls, processes, sockets |
//! | `agent` | a plan | process 1 of a lab, which answers questions |
//! | `cli` | a command line | all of this, one file a verb |
//! | `library` | a program's wish | calls of the `netlab` program |
//!
//! What must always hold:
//!
//! - All but `kernel`, `agent`, `cli` and `library` are pure: no files, sockets, processes, clocks or
//!   environment. The same text gives the same plan and rules, byte for byte.
//! - What can be found wrong before the kernel is asked is reported all at once, with its place.
//! - `unsafe` is in `kernel` and `agent` only.
//! - Nothing of a lab is outside of its namespaces but one directory, and its agent is process 1
//!   in them: its end is the lab's end, so there is nothing to clean up.

#[cfg_attr(not(internals), doc(hidden))]
pub mod agent;
#[cfg_attr(not(internals), doc(hidden))]
pub mod cli;
#[cfg_attr(not(internals), doc(hidden))]
pub mod conformance;
#[cfg_attr(not(internals), doc(hidden))]
pub mod diag;
#[cfg_attr(not(internals), doc(hidden))]
pub mod dns;
#[cfg_attr(not(internals), doc(hidden))]
pub mod error;
#[cfg_attr(not(internals), doc(hidden))]
pub mod kernel;
#[cfg_attr(not(internals), doc(hidden))]
pub mod lab;
mod library;
#[cfg_attr(not(internals), doc(hidden))]
pub mod plan;
#[cfg_attr(not(internals), doc(hidden))]
pub mod probe;
#[cfg_attr(not(internals), doc(hidden))]
pub mod proxy;
pub mod report;

pub use error::ErrorKind;
pub use library::{Error, Lab, Options, PROGRAM, Running};
