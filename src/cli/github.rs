//! What GitHub Actions reads besides the report: annotations and the summary of the job.

use std::{env, fs::OpenOptions, io::Write, path::Path};

use crate::error::{Context, Result};

/// What it wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Workflow commands.
    Annotations,
    /// Markdown.
    Summary,
}

/// Tells it, if this is one of its jobs.
pub(super) fn tell(text: impl Fn(Wanted) -> Option<String>) -> Result<()> {
    if env::var_os("GITHUB_ACTIONS").is_none_or(|it| it != "true") {
        return Ok(());
    }
    // It reads commands from both streams; on this one they do not get into a report that is kept or read
    // by a program.
    if let Some(annotations) = text(Wanted::Annotations) {
        eprint!("{annotations}");
    }
    let path = env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty());
    if let (Some(path), Some(summary)) = (path, text(Wanted::Summary)) {
        let file = OpenOptions::new().append(true).create(true).open(&path);
        let written = file.and_then(|mut file| file.write_all(summary.as_bytes()));
        written.context(format!("cannot write {}", Path::new(&path).display()))?;
    }
    Ok(())
}
