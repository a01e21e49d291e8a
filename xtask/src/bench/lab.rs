//! The labs that are measured, and their plans in files.

use std::{fmt::Write, path::PathBuf};

/// A lab file, and the file with its plan.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The lab file.
    pub(crate) file: PathBuf,
    /// What `netlab plan` prints of it.
    pub(crate) plan: PathBuf,
}

/// 10 nodes with 100 pods each, and 100 Services with 10 endpoints each.
pub(crate) fn big() -> String {
    let mut text = String::from("name = \"big\"\n");
    let write = |text: &mut String| -> std::fmt::Result {
        for node in 1..=10 {
            write!(text, "\n[[node]]\nname = \"node{node}\"\n")?;
        }
        for service in 0..100 {
            write!(text, "\n[[pod]]\nname = \"web{service}\"\nreplicas = 10\nlabels = {{ app = \"web{service}\" }}\n")?;
            write!(
                text,
                "\n[[service]]\nname = \"web{service}\"\ntype = \"NodePort\"\nselector = {{ app = \"web{service}\" }}\n"
            )?;
            writeln!(text, "ports = [{{ port = 80 }}]")?;
        }
        Ok(())
    };
    // Writing to a String cannot fail.
    let _ = write(&mut text);
    text
}
