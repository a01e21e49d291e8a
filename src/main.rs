//! The `netlab` program.

fn main() -> std::process::ExitCode {
    netlab::cli::main()
}
