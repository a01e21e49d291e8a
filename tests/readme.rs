//! README and docs tell the truth: every command block runs and prints what the page shows,
//! every lab file on a page is good, every link leads somewhere.
//!
//! Lines of a ```` ```console ```` block that begin with `$ ` are commands; the others are what
//! they print. A line that is only `…` stands for any number of lines. What differs from run to
//! run (times, process ids, the pod that answered, measured shares) is not compared.
//! `NETLAB_BLESS=1` puts the real output into the page.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

use netlab::{diag::Colour, lab};

/// The pages.
const PAGES: [&str; 5] =
    ["README.md", "docs/architecture.md", "docs/how-it-works.md", "docs/lab-file.md", "docs/limits.md"];
/// Who has no rights at all.
const NOBODY: u32 = 65534;
/// The record separator of ASCII: what no command here prints.
const SEPARATOR: char = '\u{1e}';

/// A fenced block of a page.
struct Block {
    language: String,
    /// Index of its first line inside the fence.
    first: usize,
    lines: Vec<String>,
}

/// A command of a page.
struct Example {
    command: String,
    /// Index of the line after the command.
    first: usize,
    output: Vec<String>,
}

/// Who runs a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Myself,
    Nobody,
}

#[test]
fn commands_print_what_the_pages_show() {
    for page in PAGES {
        check(page, Who::Myself);
    }
}

#[test]
fn commands_print_the_same_for_an_unprivileged_user() {
    if nix::unistd::geteuid().is_root() && !blessing() {
        for page in PAGES {
            check(page, Who::Nobody);
        }
    }
}

#[test]
fn lab_files_are_good() {
    for page in PAGES {
        for block in blocks(&read(page)).iter().filter(|block| block.language == "toml") {
            let text = block.lines.join("\n") + "\n";
            if let Err(problems) = lab::load(&text) {
                panic!("{page}:{}: {}", block.first, problems.render("the block", &text, Colour::Off));
            }
        }
    }
}

#[test]
fn links_lead_somewhere() {
    let more = ["CONTRIBUTING.md", "CHANGELOG.md"];
    for page in PAGES.into_iter().chain(more) {
        for link in read(page).split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            let folder = top().join(page);
            let target = folder.parent().map(|folder| folder.join(link));
            let good = link.starts_with("https://") || target.is_some_and(|target| target.exists());
            assert!(good, "{page} links to {link:?}, which does not exist");
        }
    }
}

/// Runs a page and compares; once more if it differs, as a statistical test may fail by chance.
fn check(page: &str, who: Who) {
    let text = read(page);
    let examples: Vec<Example> =
        blocks(&text).iter().filter(|block| block.language == "console").flat_map(examples).collect();
    if examples.is_empty() {
        return;
    }
    let mut printed = run(&examples, who);
    if blessing() {
        fs::write(top().join(page), blessed(&text, &examples, &printed)).expect("the page can be written");
        return;
    }
    if !differences(&examples, &printed).is_empty() {
        printed = run(&examples, who);
    }
    let differences = differences(&examples, &printed);
    assert!(
        differences.is_empty(),
        "{page}, run by {who:?}; see NETLAB_BLESS=1 cargo test\n{}",
        differences.join("\n")
    );
}

fn blessing() -> bool {
    std::env::var_os("NETLAB_BLESS").is_some()
}

fn differences(examples: &[Example], printed: &[Vec<String>]) -> Vec<String> {
    let pairs = examples.iter().zip(printed).filter(|(example, printed)| !matches(&example.output, printed));
    pairs
        .map(|(example, printed)| {
            let (shown, printed) = (example.output.join("\n"), printed.join("\n"));
            format!("line {}: $ {}\n-- shown\n{shown}\n-- printed\n{printed}\n", example.first, example.command)
        })
        .collect()
}

/// The page with what was really printed, where that is not what it shows.
fn blessed(text: &str, examples: &[Example], printed: &[Vec<String>]) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (example, printed) in examples.iter().zip(printed).rev() {
        if !matches(&example.output, printed) {
            lines.splice(example.first..example.first + example.output.len(), printed.iter().cloned());
        }
    }
    lines.join("\n") + "\n"
}

/// Runs the commands, one after the other in one shell, where no other lab is; gives back the
/// lines that each printed.
fn run(examples: &[Example], who: Who) -> Vec<Vec<String>> {
    let stage = tempfile::tempdir().expect("a directory for the page");
    let path = stage.path();
    let script = script(examples);
    fs::write(path.join("page.sh"), &script).expect("the script can be written");
    fs::create_dir(path.join("bin")).expect("a directory for programs");
    fs::copy(env!("CARGO_BIN_EXE_netlab"), path.join("bin/netlab")).expect("netlab can be copied");
    fs::create_dir(path.join("labs")).expect("a directory for labs");
    for lab in fs::read_dir(top().join("labs")).expect("there are labs") {
        let lab = lab.expect("a lab").path();
        fs::copy(&lab, path.join("labs").join(lab.file_name().expect("a name"))).expect("labs can be copied");
    }
    fs::create_dir(path.join("run")).expect("a directory for run-time files");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("the stage is mine");
    if who == Who::Nobody {
        for directory in [path.to_owned(), path.join("run")] {
            chown(directory, Some(NOBODY), Some(NOBODY)).expect("root may give files away");
        }
    }
    let mut command = shell(who);
    command.arg("page.sh").current_dir(path).env_clear();
    command.env("PATH", format!("{}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", path.display()));
    command.env("HOME", path).env("LANG", "C.UTF-8").env("XDG_RUNTIME_DIR", path.join("run"));
    let output = command.output().expect("bash can be run");
    let text = String::from_utf8(output.stdout).expect("the commands print text");
    let parts: Vec<&str> = text.split(SEPARATOR).skip(1).collect();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(parts.len(), examples.len(), "the script broke off: {errors}\n{script}");
    parts
        .iter()
        .map(|part| part.trim_end_matches('\n').lines().map(|line| line.trim_end().to_owned()).collect())
        .collect()
}

/// A bash that sees no labs of others: root's are all in `/run`.
fn shell(who: Who) -> Command {
    let words: &[&str] = match who {
        Who::Nobody => &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "bash"],
        Who::Myself if nix::unistd::geteuid().is_root() => {
            &["unshare", "--mount", "bash", "-c", "mount -t tmpfs none /run && exec bash \"$@\"", "bash"]
        }
        Who::Myself => &["bash"],
    };
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

fn script(examples: &[Example]) -> String {
    let mut script = String::from("exec 2>&1 </dev/null\ntrap 'netlab down --all --wait >/dev/null' EXIT\n");
    for example in examples {
        script.push_str(&format!("printf '{SEPARATOR}'\n{}\n", example.command));
    }
    script
}

/// Whether lines are as shown.
fn matches(shown: &[String], printed: &[String]) -> bool {
    match shown {
        [] => printed.is_empty(),
        [any, rest @ ..] if any.trim() == "…" => {
            (0..=printed.len()).any(|skipped| matches(rest, &printed[skipped..]))
        }
        [line, rest @ ..] => match printed {
            [first, others @ ..] => lasting(line) == lasting(first) && matches(rest, others),
            [] => false,
        },
    }
}

/// What of a line stays the same from run to run.
fn lasting(line: &str) -> String {
    const ANSWER: &str = "HTTP Server IP address: ";
    const VOLATILE: [&str; 4] = [" %", " ms", "milliseconds", "process "];
    if line.starts_with(ANSWER) {
        return ANSWER.to_owned();
    }
    let volatile = VOLATILE.iter().any(|sign| line.contains(sign));
    let words = line.split_whitespace().map(|word| match word.strip_suffix('s') {
        Some(seconds) if !seconds.is_empty() && seconds.bytes().all(|byte| byte.is_ascii_digit()) => "#s".to_owned(),
        _ if volatile => without_numbers(word),
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

fn without_numbers(word: &str) -> String {
    let mut text = String::new();
    for c in word.chars() {
        match c {
            '0'..='9' if text.ends_with('#') => {}
            '0'..='9' => text.push('#'),
            '.' if text.ends_with('#') => {}
            c => text.push(c),
        }
    }
    text
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = false;
    for (index, line) in text.lines().enumerate() {
        match line.strip_prefix("```") {
            Some(_) if open => open = false,
            Some(language) => {
                blocks.push(Block { language: language.to_owned(), first: index + 1, lines: Vec::new() });
                open = true;
            }
            None if open => {
                if let Some(block) = blocks.last_mut() {
                    block.lines.push(line.to_owned());
                }
            }
            None => {}
        }
    }
    blocks
}

fn examples(block: &Block) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    for (index, line) in block.lines.iter().enumerate() {
        match (line.strip_prefix("$ "), examples.last_mut()) {
            (Some(command), _) => {
                examples.push(Example {
                    command: command.to_owned(),
                    first: block.first + index + 1,
                    output: Vec::new(),
                });
            }
            (None, Some(example)) => example.output.push(line.trim_end().to_owned()),
            (None, None) => panic!("line {}: output without a command", block.first + index + 1),
        }
    }
    examples
}

fn read(page: &str) -> String {
    let path = top().join(page);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

#[test]
fn comparing_is_neither_too_strict_nor_too_lax() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let cases = [
        ("a\nb", "a\nb", true),
        ("a", "b", false),
        ("a\n…", "a\nb\nc", true),
        ("…\nc", "a\nb", false),
        ("up in 12 ms", "up in 9 ms", true),
        ("up in 12 ms", "down in 9 ms", false),
        ("pod1a  12.5 %", "pod1a 7 %", true),
        ("2 failed", "3 failed", false),
        ("nodeport 3 12s", "nodeport  3  0s", true),
        ("nodeport 3 12s", "nodeport  4  0s", false),
        ("HTTP Server IP address: 1.2.3.4", "HTTP Server IP address: 5.6.7.8", true),
    ];
    for (shown, printed, same) in cases {
        assert_eq!(matches(&lines(shown), &lines(printed)), same, "{shown:?} and {printed:?}");
    }
}
