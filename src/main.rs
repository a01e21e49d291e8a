//! The `netlab` program.
fn main() {}
