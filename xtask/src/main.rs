//! The project's own tasks, one file each: `cargo xtask TASK`.

mod bench;
mod bless;
mod ci;
mod conformance;
mod demo;
mod fuzz;
mod run;
mod test;
mod tools;

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// The project's own tasks.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Install what is missing, build, and bring the book's lab up, verify it, and end it
    Demo,
    /// Install what is missing, then check the formatting, the lints and every test
    Test {
        /// What `cargo test` is told besides
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// What must pass before a change goes in: the documentation builds too, then `test`
    Ci,
    /// Measure netlab against a shell script, Mininet and the kernel's own calls
    Bench(bench::Options),
    /// Print what a Service must do and what each proxy does: docs/conformance.md
    Conformance,
    /// Rewrite the files that hold expected output
    Bless,
    /// Send arbitrary bytes to what reads what others send; needs cargo-fuzz
    Fuzz {
        /// How long for each target
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
    /// What `bench` has a release build of this program do
    #[command(hide = true)]
    Measure(bench::Measurement),
    /// Make the network of a plan with the kernel's own calls; prints nanoseconds
    #[command(hide = true)]
    Floor {
        plan: PathBuf,
        /// A directory of rules to load as well
        #[arg(long)]
        rules: Option<PathBuf>,
    },
    /// Wait until the kernel has freed all namespaces that have ended
    #[command(hide = true)]
    Settle,
    /// Ask a web server until it answers
    #[command(hide = true)]
    Ask { to: SocketAddr },
    /// Ask a web server until it answers, and print when
    #[command(hide = true)]
    Notice { to: SocketAddr },
    /// Open connections, and print how long one takes and how many there are a second
    #[command(hide = true)]
    Dial {
        to: SocketAddr,
        #[command(flatten)]
        load: bench::dial::Load,
    },
    /// Run a command, and print its peak of memory in kibibytes
    #[command(hide = true)]
    Weigh {
        program: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Demo => demo::demo(),
        Task::Test { arguments } => test::test(&arguments),
        Task::Ci => ci::ci(),
        Task::Bench(options) => bench::bench(&options),
        Task::Conformance => conformance::conformance(),
        Task::Bless => bless::bless(),
        Task::Fuzz { seconds } => fuzz::fuzz(seconds),
        Task::Measure(options) => bench::measure(&options),
        Task::Floor { plan, rules } => bench::floor::floor(&plan, rules.as_deref()),
        Task::Settle => bench::settle::settle(),
        Task::Ask { to } => bench::ask::ask(to),
        Task::Notice { to } => bench::ask::notice(to),
        Task::Dial { to, load } => bench::dial::dial(to, load),
        Task::Weigh { program, arguments } => bench::weigh::weigh(&program, &arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `bench` has that build do is to measure, and nothing else.
    #[test]
    fn who_measures_reads_no_numbers_of_before() {
        let understood = |words: &[&str]| Cli::try_parse_from([&["xtask"], words].concat()).is_ok();
        assert!(understood(&["bench", "--from", "bench.json", "--with-mininet"]));
        assert!(understood(&["measure", "--case", "book", "--runs", "3", "--quick", "--markdown", "--out", "x"]));
        assert!(!understood(&["measure", "--from", "bench.json"]));
        assert!(!understood(&["measure", "--with-mininet"]));
        assert!(!understood(&["bench", "--from", "bench.json", "--out", "x"]));
    }
}
