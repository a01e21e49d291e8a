//! Probes: what must be true of a running lab, tried and judged.
//!
//! [`suite`] turns a lab into probes, each with the [`order`]s the agent carries out ([`question`]s
//! to name servers among them);
//! [`judge`] turns what came of them into a [`crate::report::Report`]; [`stats`] judges shares of
//! load and [`explain`] finds the cause of what failed, with the help of [`drift`]:
//! [`network`] and [`ruleset`] compare what is there with what should be.

pub mod capture;
pub mod drift;
pub mod errand;
pub mod explain;
pub mod judge;
pub mod network;
pub mod order;
pub mod question;
#[cfg(test)]
pub(crate) mod rehearsal;
pub mod ruleset;
pub mod stats;
pub mod suite;
pub mod wish;
