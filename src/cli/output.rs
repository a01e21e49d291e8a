//! What goes to the user's terminal, and how.

use std::io::{IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use comfy_table::{Table, presets};

use super::args::{Global, ListFormat, When};
use crate::{
    diag::Colour,
    error::{Context, Error, Result},
};

/// The user's terminal, or what stands in its place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terminal {
    /// How much to say.
    pub(super) verbosity: Verbosity,
    stdout_colour: Colour,
    stderr_colour: Colour,
}

/// How much to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verbosity {
    /// What was asked for, and errors.
    Quiet,
    /// That, and what was done.
    Normal,
    /// That, and how.
    Verbose,
}

impl Terminal {
    pub(super) fn new(global: &Global) -> Self {
        let colour = |terminal: bool| match global.color {
            When::Always => Colour::On,
            When::Never => Colour::Off,
            When::Auto if terminal && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty()) => Colour::On,
            When::Auto => Colour::Off,
        };
        let verbosity = match global {
            Global { quiet: true, .. } => Verbosity::Quiet,
            Global { verbose: true, .. } => Verbosity::Verbose,
            _ => Verbosity::Normal,
        };
        Terminal {
            verbosity,
            stdout_colour: colour(std::io::stdout().is_terminal()),
            stderr_colour: colour(std::io::stderr().is_terminal()),
        }
    }

    /// For what goes wrong in a child, where no flags are at hand.
    pub(super) fn plain() -> Self {
        Terminal { verbosity: Verbosity::Normal, stdout_colour: Colour::Off, stderr_colour: Colour::Off }
    }

    /// For what goes to standard output.
    pub(super) fn colour(&self) -> Colour {
        self.stdout_colour
    }

    /// For what goes to standard error.
    pub(super) fn error_colour(&self) -> Colour {
        self.stderr_colour
    }

    /// Whether to draw progress bars.
    pub(super) fn is_interactive(&self) -> bool {
        self.verbosity > Verbosity::Quiet && std::io::stderr().is_terminal()
    }

    /// Says what was done, unless nobody wants to know.
    pub(super) fn say(&self, text: impl std::fmt::Display) {
        if self.verbosity > Verbosity::Quiet {
            print(&format!("{text}\n"));
        }
    }

    /// Says what is not as one would think, unless nobody wants to know.
    pub(super) fn warn(&self, what: impl std::fmt::Display, hint: &str) {
        if self.verbosity > Verbosity::Quiet {
            let style = |style: Style| if self.stderr_colour == Colour::On { style } else { Style::new() };
            let yellow = style(AnsiColor::Yellow.on_default().bold());
            let cyan = style(AnsiColor::Cyan.on_default().bold());
            eprintln!("{yellow}warning{yellow:#}: {what}");
            eprintln!("{cyan}hint{cyan:#}: {hint}");
        }
    }

    /// Says what went wrong.
    pub(super) fn complain(&self, error: &Error) {
        let style = |style: Style| if self.stderr_colour == Colour::On { style } else { Style::new() };
        let red = style(AnsiColor::Red.on_default().bold());
        let cyan = style(AnsiColor::Cyan.on_default().bold());
        if !error.message.is_empty() {
            eprintln!("{red}error{red:#}: {}", error.message);
        }
        if let Some(hint) = &error.hint {
            eprintln!("{cyan}hint{cyan:#}: {hint}");
        }
    }
}

/// Prints to standard output. A reader that has gone away (`netlab … | head`) has seen enough.
pub(super) fn print(text: &str) {
    if std::io::stdout().write_all(text.as_bytes()).is_err() {
        std::process::exit(0);
    }
}

/// A table as kubectl prints them: columns, and no lines.
pub(super) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// How things of one kind are listed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listing<'a> {
    /// The kind, in the plural, as `netlab get` has it.
    pub(super) kind: &'a str,
    /// The columns, the name first.
    pub(super) header: &'a [&'a str],
    /// The columns that `-o wide` adds.
    pub(super) wide: &'a [&'a str],
}

/// What a program reads: versioned, so that it can tell when the shape has changed.
#[derive(Debug, serde::Serialize)]
struct Document<'a, T> {
    version: u32,
    kind: &'a str,
    items: &'a [&'a T],
}

/// In what form things are listed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form<'a> {
    /// The format.
    pub(super) format: ListFormat,
    /// Only those whose first column says this.
    pub(super) only: Option<&'a str>,
}

impl From<ListFormat> for Form<'_> {
    fn from(format: ListFormat) -> Self {
        Form { format, only: None }
    }
}

impl Listing<'_> {
    /// Prints `items`; `row` gives the texts of all columns, the wide ones last.
    pub(super) fn print<'f, T: serde::Serialize>(
        &self,
        form: impl Into<Form<'f>>,
        items: &[T],
        row: impl Fn(&T) -> Vec<String>,
    ) -> Result<()> {
        let Form { format, only } = form.into();
        let is_wanted = |item: &&T| only.is_none_or(|only| row(item).first().is_some_and(|name| name == only));
        let items: Vec<&T> = items.iter().filter(is_wanted).collect();
        if let (Some(only), []) = (only, items.as_slice()) {
            return Err(Error::usage(format!("there is no {only} among the {}", self.kind)));
        }
        let document = Document { version: 1, kind: self.kind, items: &items };
        let text = match format {
            ListFormat::Table => {
                table(self.header, items.iter().map(|item| row(item).into_iter().take(self.header.len()).collect()))
            }
            ListFormat::Wide => {
                let header: Vec<&str> = self.header.iter().chain(self.wide).copied().collect();
                table(&header, items.iter().map(|item| row(item)))
            }
            ListFormat::Json => serde_json::to_string_pretty(&document).context("cannot write JSON")? + "\n",
            ListFormat::Yaml => serde_norway::to_string(&document).context("cannot write YAML")?,
            ListFormat::Name => {
                items.iter().filter_map(|item| row(item).into_iter().next()).map(|name| name + "\n").collect()
            }
        };
        print(&text);
        Ok(())
    }
}
