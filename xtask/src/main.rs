//! The project's own tasks, one file each: `cargo xtask TASK`.

mod bless;
mod ci;
mod demo;
mod run;
mod test;
mod tools;

use std::{ffi::OsString, process::ExitCode};

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
    /// Rewrite the files that hold expected output
    Bless,
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Demo => demo::demo(),
        Task::Test { arguments } => test::test(&arguments),
        Task::Ci => ci::ci(),
        Task::Bless => bless::bless(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}
