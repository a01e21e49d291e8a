//! What can be said to `netlab test`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use super::{
    Engine, duration,
    verify::{destination, pattern, probability},
};
use crate::report::labs::Form;

#[derive(Debug, Args)]
pub(in crate::cli) struct Test {
    /// Lab files, or folders of them and of folders [default: this folder]
    #[arg(value_name = "DIR|FILE", value_hint = clap::ValueHint::AnyPath)]
    pub(in crate::cli) paths: Vec<PathBuf>,
    /// So many labs at a time [default: two for each core]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(in crate::cli) jobs: Option<u16>,
    /// Begin no more labs once one is not as it states
    #[arg(long)]
    pub(in crate::cli) fail_fast: bool,
    /// Give a lab up after this long
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = duration)]
    pub(in crate::cli) timeout: Duration,
    /// Connections per distribution test [default: as `netlab verify` has it]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    pub(in crate::cli) samples: Option<u32>,
    /// The probability that good labs, all together, fail their distribution tests
    #[arg(long, value_name = "P", default_value_t = 0.001, value_parser = probability)]
    pub(in crate::cli) alpha: f64,
    /// Only these probes: of this group, with this text in their id or name, or matching it with `*` and `?`
    #[arg(long, value_name = "PROBES", value_parser = pattern)]
    pub(in crate::cli) only: Option<String>,
    /// Who asks: the host's curl, or the built-in client
    #[arg(long, value_name = "ENGINE", default_value = "curl")]
    pub(in crate::cli) engine: Engine,
    /// How to report
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(in crate::cli) output: TestFormat,
    /// Report into a file as well; may be said several times
    #[arg(long, value_name = "FORMAT=PATH", value_parser = destination::<TestFormat>)]
    pub(in crate::cli) output_file: Vec<(TestFormat, PathBuf)>,
}

/// How to report on several labs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum TestFormat {
    /// For people
    Table,
    /// For programs
    Json,
    /// For CI
    Junit,
    /// Test Anything Protocol
    Tap,
    /// Annotations of GitHub Actions
    Github,
    /// For the summary of a CI job
    Markdown,
}

impl From<TestFormat> for Form {
    fn from(format: TestFormat) -> Self {
        match format {
            TestFormat::Table => Form::Table,
            TestFormat::Json => Form::Json,
            TestFormat::Junit => Form::Junit,
            TestFormat::Tap => Form::Tap,
            TestFormat::Github => Form::Github,
            TestFormat::Markdown => Form::Markdown,
        }
    }
}
