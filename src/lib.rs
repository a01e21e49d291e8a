//! netlab: a Kubernetes-shaped network on one Linux host, from one TOML file.

pub mod agent;
pub mod cli;
pub mod conformance;
pub mod diag;
pub mod error;
pub mod kernel;
pub mod lab;
pub mod plan;
pub mod probe;
pub mod proxy;
pub mod report;
