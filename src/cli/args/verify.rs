//! What can be said to `netlab verify`, and of its reports.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::{probe::suite::understand, report::Format};

#[derive(Debug, Args)]
pub(in crate::cli) struct Verify {
    /// The lab, by name or file [default: the only one that runs]
    #[arg(value_name = "LAB")]
    pub(in crate::cli) lab: Option<String>,
    /// Only these probes: of this group, with this text in their id or name, or matching it with
    /// `*` and `?`; may be said several times
    #[arg(long, value_name = "PROBES", value_parser = pattern)]
    pub(in crate::cli) only: Vec<String>,
    /// Not these probes, in the same words
    #[arg(long, value_name = "PROBES", value_parser = pattern)]
    pub(in crate::cli) skip: Vec<String>,
    /// Stop at the first failure; what was not tried yet is skipped
    #[arg(long)]
    pub(in crate::cli) fail_fast: bool,
    /// Run the probes so many times, and name those that fail only now and then
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(in crate::cli) repeat: u32,
    /// Connections per distribution test [default: as many as --power needs]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    pub(in crate::cli) samples: Option<u32>,
    /// The probability that a good lab fails its distribution tests
    #[arg(long, value_name = "P", default_value_t = 0.001, value_parser = probability)]
    pub(in crate::cli) alpha: f64,
    /// The probability that a distribution test notices a mistake
    #[arg(long, value_name = "P", default_value_t = 0.999, value_parser = probability, conflicts_with = "samples")]
    pub(in crate::cli) power: f64,
    /// In a large lab, try what this number chooses [default: another one each time, which the report
    /// has]
    #[arg(long, value_name = "N")]
    pub(in crate::cli) seed: Option<u64>,
    /// Try everything, however large the lab is
    #[arg(long, conflicts_with = "seed")]
    pub(in crate::cli) full: bool,
    /// Who asks: the host's curl, or the built-in client
    #[arg(long, value_name = "ENGINE", default_value = "curl")]
    pub(in crate::cli) engine: Engine,
    /// How to report
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(in crate::cli) output: ReportFormat,
    /// Report into a file as well; may be said several times
    #[arg(long, value_name = "FORMAT=PATH", value_parser = destination::<ReportFormat>)]
    pub(in crate::cli) output_file: Vec<(ReportFormat, PathBuf)>,
    /// Keep packets, rules, routes and connections of failed probes in this folder
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub(in crate::cli) evidence: Option<PathBuf>,
    /// Print the probes that would run, and run none
    #[arg(long, conflicts_with_all = ["output_file", "evidence", "repeat", "fail_fast"])]
    pub(in crate::cli) list: bool,
    /// Print the probes as commands to paste, and run none
    #[arg(long, conflicts_with_all = ["list", "output", "output_file", "evidence", "repeat", "fail_fast"])]
    pub(in crate::cli) paste: bool,
    /// With --list and --paste, take the lab from a file; it need not run
    #[arg(short, long, value_name = "FILE", conflicts_with = "lab", value_hint = clap::ValueHint::FilePath)]
    pub(in crate::cli) file: Option<PathBuf>,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Engine {
    /// The host's curl
    Curl,
    /// The built-in client
    Builtin,
}

/// How to report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum ReportFormat {
    /// For people
    Table,
    /// For people: from where to which address, what must be seen, and what was
    Matrix,
    /// For programs
    Json,
    /// For CI
    Junit,
    /// Test Anything Protocol
    Tap,
    /// Annotations for GitHub Actions
    Github,
    /// For summaries and comments
    Markdown,
}

impl From<ReportFormat> for Format {
    fn from(format: ReportFormat) -> Self {
        match format {
            ReportFormat::Table => Format::Table,
            ReportFormat::Matrix => Format::Matrix,
            ReportFormat::Json => Format::Json,
            ReportFormat::Junit => Format::Junit,
            ReportFormat::Tap => Format::Tap,
            ReportFormat::Github => Format::Github,
            ReportFormat::Markdown => Format::Markdown,
        }
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Schema {
    /// Of what
    #[arg(value_name = "OF", default_value = "lab")]
    pub(in crate::cli) of: SchemaOf,
}

/// What has a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum SchemaOf {
    /// Lab files
    Lab,
    /// What `netlab verify -o json` prints
    Report,
    /// What `netlab test -o json` prints
    Test,
}

pub(super) fn pattern(text: &str) -> Result<String, String> {
    understand(text).map(|()| text.to_owned())
}

pub(super) fn probability(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(probability) if probability > 0.0 && probability < 1.0 => Ok(probability),
        _ => Err("a probability between 0 and 1, like 0.001".to_owned()),
    }
}

/// A file for a report, and its form.
pub(super) fn destination<F: ValueEnum>(text: &str) -> Result<(F, PathBuf), String> {
    let (format, path) = text
        .split_once('=')
        .filter(|(_, path)| !path.is_empty())
        .ok_or_else(|| "a format and a file, like junit=report.xml".to_owned())?;
    let format = F::from_str(format, false).map_err(|_| {
        let formats = F::value_variants().iter().filter_map(ValueEnum::to_possible_value);
        let names: Vec<String> = formats.map(|it| it.get_name().to_owned()).collect();
        format!("the formats are: {}", names.join(", "))
    })?;
    Ok((format, path.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_a_format_and_a_file() {
        assert_eq!(destination("junit=a=b.xml"), Ok((ReportFormat::Junit, "a=b.xml".into())));
        for bad in ["junit", "junit=", "=x", "yaml=x"] {
            assert!(destination::<ReportFormat>(bad).is_err(), "{bad}");
        }
    }
}
