//! What the architecture page promises of the sources, checked on their text.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What pure rooms must not name, and why.
const EFFECTS: &[&str] = &[
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "tokio::",
    "nix::",
];
/// The rooms that turn data into data.
const PURE: &[&str] = &["src/lab/", "src/plan/", "src/proxy/", "src/dns/", "src/probe/", "src/report/", "src/diag.rs"];
/// The rooms with effects that need `unsafe`.
const UNSAFE: &[&str] = &["src/kernel/", "src/agent/"];
/// No file has more lines than this.
const LINES: usize = 600;

/// A source file.
struct Source {
    /// From the top of the project.
    path: String,
    text: String,
    /// Whether its parent says `#[cfg(test)] mod …;`.
    test_only: bool,
}

/// A rule: what it says of a file, and what is wrong with it, if anything.
type Rule = fn(&Source) -> Option<String>;

const RULES: &[Rule] = &[opens_with_its_subject, is_short, leaves_nothing_to_do, does_not_sleep, is_safe, is_pure];

#[test]
fn sources_are_as_the_architecture_says() {
    let sources = sources();
    assert!(sources.len() > 50, "the sources were not found");
    let wrong: Vec<String> = sources
        .iter()
        .flat_map(|source| {
            RULES.iter().filter_map(|rule| rule(source)).map(|wrong| format!("{}: {wrong}", source.path))
        })
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn opens_with_its_subject(source: &Source) -> Option<String> {
    (!source.text.starts_with("//! ")).then(|| "does not open with `//!` and what it is about".to_owned())
}

fn is_short(source: &Source) -> Option<String> {
    let lines = source.text.lines().count();
    (lines > LINES).then(|| format!("has {lines} lines; it wants to be two files"))
}

fn leaves_nothing_to_do(source: &Source) -> Option<String> {
    // Written apart, so that this file does not name them.
    let signs = ["todo", "unimplemented", "dbg"].map(|name| format!("{name}!("));
    find(source, |line| signs.iter().any(|sign| line.contains(sign)) || line.contains(concat!("FIX", "ME")))
}

/// Who sleeps says why, in a comment at most three lines above, or above the function. A test
/// that does something at any moment has to let that moment come.
fn does_not_sleep(source: &Source) -> Option<String> {
    if source.path.starts_with("tests/") {
        return None;
    }
    let lines: Vec<&str> = source.text.lines().collect();
    let sleeps = |line: &str| line.contains(concat!("thread::", "sleep")) || line.contains(concat!("time::", "sleep("));
    let excused = |at: usize| {
        let inside = &lines[at.saturating_sub(3)..at];
        let function = lines[..at].iter().rposition(|line| line.trim_start().contains("fn "));
        let above = function.and_then(|function| function.checked_sub(1)).map(|above| lines[above]);
        inside.iter().chain(above.iter()).any(|line| line.trim_start().starts_with("//"))
    };
    let at = (0..lines.len()).find(|at| sleeps(lines[*at]) && !excused(*at))?;
    Some(format!("line {} sleeps and does not say why", at + 1))
}

fn is_safe(source: &Source) -> Option<String> {
    let may = !source.path.starts_with("src/") || UNSAFE.iter().any(|room| source.path.starts_with(room));
    find(source, |line| !may && line.contains(concat!("unsafe ", "{")))
}

/// Tests may read files; they are below `#[cfg(test)]`, or in files of their own.
fn is_pure(source: &Source) -> Option<String> {
    let pure = PURE.iter().any(|room| source.path.starts_with(room)) && !source.test_only;
    let code = source.text.lines().take_while(|line| *line != "#[cfg(test)]").filter(|line| !is_comment(line));
    let found = code.flat_map(|line| EFFECTS.iter().filter(move |effect| line.contains(**effect))).next();
    found.filter(|_| pure).map(|effect| format!("is to be pure, and names {effect}"))
}

fn find(source: &Source, wrong: impl Fn(&str) -> bool) -> Option<String> {
    let (number, line) = source.text.lines().enumerate().find(|(_, line)| !is_comment(line) && wrong(line))?;
    Some(format!("line {}: {}", number + 1, line.trim()))
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

fn sources() -> Vec<Source> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests", "xtask/src"] {
        collect(&top.join(folder), &mut files);
    }
    files.sort();
    let source = |file: &PathBuf| Source {
        path: file.strip_prefix(top).unwrap_or(file).display().to_string(),
        text: read(file),
        test_only: is_test_only(file),
    };
    files.iter().map(source).collect()
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn is_test_only(file: &Path) -> bool {
    let (Some(folder), Some(name)) = (file.parent(), file.file_stem()) else { return false };
    let parents = [folder.join("mod.rs"), folder.with_extension("rs")];
    let declared = format!("mod {};", name.display());
    parents.iter().filter(|parent| parent.exists() && *parent != file).any(|parent| {
        let text = read(parent);
        let lines: Vec<&str> = text.lines().collect();
        lines.windows(2).any(|pair| pair[0] == "#[cfg(test)]" && pair[1].ends_with(&declared))
    })
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("a directory entry").path();
        match path.extension() {
            _ if path.is_dir() => collect(&path, files),
            Some(extension) if extension == "rs" => files.push(path),
            _ => {}
        }
    }
}

#[test]
fn rules_can_be_broken() {
    let source = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned(), test_only: false };
    let cases: &[(Rule, &str, &str, bool)] = &[
        (opens_with_its_subject, "src/a.rs", "use x;", true),
        (opens_with_its_subject, "src/a.rs", "//! Turns a into b.", false),
        (leaves_nothing_to_do, "src/a.rs", concat!("to", "do!()"), true),
        (does_not_sleep, "src/a.rs", concat!("fn a() {\n    thread::", "sleep(x);"), true),
        (does_not_sleep, "src/a.rs", concat!("fn a() {\n    // Why.\n    thread::", "sleep(x);"), false),
        (is_safe, "src/lab/a.rs", concat!("unsafe ", "{ x() }"), true),
        (is_safe, "src/kernel/a.rs", concat!("unsafe ", "{ x() }"), false),
        (is_pure, "src/plan/a.rs", "use std::fs;", true),
        (is_pure, "src/plan/a.rs", "// std::fs is not used here\n#[cfg(test)]\nuse std::fs;", false),
        (is_pure, "src/kernel/a.rs", "use std::fs;", false),
    ];
    for (rule, path, text, broken) in cases {
        assert_eq!(rule(&source(path, text)).is_some(), *broken, "{path}: {text}");
    }
    assert!(is_short(&source("src/a.rs", &"\n".repeat(LINES + 1))).is_some());
}
