//! Where reports go: standard output, files, and what GitHub Actions reads.

use std::{
    env,
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use crate::{
    agent::directory::Directory,
    cli::{
        args::{self, ReportFormat},
        output::{Terminal, print},
    },
    diag::Colour,
    error::{Context, Error, Result},
    probe::suite::Suite,
    report::{self, Format, Report},
};

/// Where reports go, with the files open already: that one cannot be written is said before all is
/// tried.
pub(super) struct Publisher {
    format: Format,
    files: Vec<(Format, PathBuf, File)>,
    /// The lab's file, as others know it, and what is in it.
    source: Option<(String, String)>,
}

impl Publisher {
    pub(super) fn open(args: &args::Verify, directory: &Directory) -> Result<Self> {
        let open = |(format, path): &(ReportFormat, PathBuf)| {
            let file = File::create(path).map_err(|error| {
                Error::usage(format!("cannot write {}: {error}", path.display()))
                    .hint("name a file in a folder that exists")
            })?;
            Ok(((*format).into(), path.clone(), file))
        };
        let file = directory.meta().and_then(|meta| meta.file);
        Ok(Publisher {
            format: args.output.into(),
            files: args.output_file.iter().map(open).collect::<Result<_>>()?,
            source: file.map(|file| Ok::<_, Error>((known(&file), directory.text()?))).transpose()?,
        })
    }

    /// Adds the lines of the lab's file to a report.
    pub(super) fn locate(&self, report: &mut Report, suite: &Suite) {
        if let Some((name, text)) = &self.source {
            report.locate(suite, report::File { name, text });
        }
    }

    pub(super) fn publish(self, report: &Report, terminal: &Terminal) -> Result<()> {
        for (format, path, mut file) in self.files {
            let text = report::render(report, format, Colour::Off);
            file.write_all(text.as_bytes()).context(format!("cannot write {}", path.display()))?;
        }
        // GitHub reads commands from both streams; on this one they do not get into a report that is
        // kept or read by a program.
        let on_github = env::var_os("GITHUB_ACTIONS").is_some_and(|it| it == "true");
        if on_github && self.format != Format::Github {
            eprint!("{}", report::render(report, Format::Github, Colour::Off));
        }
        if let Some(path) = env::var_os("GITHUB_STEP_SUMMARY").filter(|path| on_github && !path.is_empty()) {
            let summary = OpenOptions::new().append(true).create(true).open(&path);
            let text = report::render(report, Format::Markdown, Colour::Off);
            let written = summary.and_then(|mut file| file.write_all(text.as_bytes()));
            written.context(format!("cannot write {}", Path::new(&path).display()))?;
        }
        print(&report::render(report, self.format, terminal.colour()));
        Ok(())
    }
}

/// A path as others know it: from the top of the repository in CI, else from here.
fn known(file: &Path) -> String {
    let workspace = env::var_os("GITHUB_WORKSPACE").map(PathBuf::from);
    let tops = workspace.into_iter().chain(env::current_dir().ok());
    let below = tops.filter_map(|top| file.strip_prefix(top).ok().map(Path::to_owned)).next();
    below.unwrap_or_else(|| file.to_owned()).display().to_string()
}
