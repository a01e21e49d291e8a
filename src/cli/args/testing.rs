//! What can be said to `netlab test` and `netlab schema`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use super::{Engine, duration};
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
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(10..=100_000))]
    pub(in crate::cli) samples: Option<u32>,
    /// The probability that good labs, all together, fail their distribution tests
    #[arg(long, value_name = "P", default_value_t = 0.001, value_parser = probability)]
    pub(in crate::cli) alpha: f64,
    /// Only the probes of this group, or with this text in their name
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) only: Option<String>,
    /// Who asks: the host's curl, or the built-in client
    #[arg(long, value_name = "ENGINE", default_value = "curl")]
    pub(in crate::cli) engine: Engine,
    /// How to report
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(in crate::cli) output: TestFormat,
    /// Report into a file as well; may be said several times
    #[arg(long, value_name = "FORMAT=PATH", value_parser = destination)]
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
}

impl From<TestFormat> for Form {
    fn from(format: TestFormat) -> Self {
        match format {
            TestFormat::Table => Form::Table,
            TestFormat::Json => Form::Json,
            TestFormat::Junit => Form::Junit,
            TestFormat::Tap => Form::Tap,
        }
    }
}

/// A file for a report.
fn destination(text: &str) -> Result<(TestFormat, PathBuf), String> {
    let (format, path) = text
        .split_once('=')
        .filter(|(_, path)| !path.is_empty())
        .ok_or_else(|| "a format and a file, like junit=report.xml".to_owned())?;
    let format = TestFormat::from_str(format, false).map_err(|_| {
        let formats = TestFormat::value_variants().iter().filter_map(ValueEnum::to_possible_value);
        let names: Vec<String> = formats.map(|it| it.get_name().to_owned()).collect();
        format!("the formats are: {}", names.join(", "))
    })?;
    Ok((format, path.into()))
}

fn probability(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(probability) if probability > 0.0 && probability < 1.0 => Ok(probability),
        _ => Err("a probability between 0 and 1, like 0.001".to_owned()),
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Schema {
    /// Of what
    #[arg(value_name = "OF", default_value = "lab")]
    pub(in crate::cli) of: SchemaOf,
}

/// What there is a JSON Schema of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum SchemaOf {
    /// Lab files
    Lab,
    /// What `netlab test -o json` prints
    Test,
}
