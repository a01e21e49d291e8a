//! Puts programs where tests run them, by a process of their own.
//!
//! A file that this process had open for writing would be open in every child that another thread
//! forks at that moment, until the child has executed its own program; and the kernel executes no file
//! that somebody may write to ("Text file busy").
#![allow(dead_code, reason = "each test uses a part of it")]

use std::path::Path;

use duct::cmd;

/// A copy that everybody may execute.
pub(crate) fn copy(from: &Path, to: &Path) {
    cmd!("install", "-m", "755", from, to).run().expect("a program can be copied");
}

/// A script that everybody may execute, in the place of whatever was there.
pub(crate) fn script(to: &Path, text: &str) {
    let install = cmd!("install", "-m", "755", "/dev/stdin", to);
    install.stdin_bytes(text).run().expect("a script can be written");
}
