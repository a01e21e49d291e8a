//! Prints `docs/conformance.md`: `cargo xtask conformance` runs it, so that xtask needs no netlab
//! of its own.

fn main() {
    print!("{}", netlab::conformance::page());
}
