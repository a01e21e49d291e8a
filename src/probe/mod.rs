//! Probes: what must be true of a running lab, tried and judged.

pub mod drift;
pub mod order;
pub mod ruleset;
