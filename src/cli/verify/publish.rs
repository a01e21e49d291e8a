//! Where reports go: standard output, files, and what GitHub Actions reads.

use std::{
    env,
    fs::File,
    io::Write,
    path::{Path, PathBuf},
};

use crate::{
    agent::directory::Directory,
    cli::{
        args::{self, ReportFormat},
        github::{self, Wanted},
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
        github::tell(|wanted| match wanted {
            Wanted::Annotations if self.format == Format::Github => None,
            Wanted::Annotations => Some(report::render(report, Format::Github, Colour::Off)),
            Wanted::Summary => Some(report::render(report, Format::Markdown, Colour::Off)),
        })?;
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
