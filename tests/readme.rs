//! README and docs tell the truth: every command block runs and prints what the page shows,
//! every lab file on a page is good, every link leads somewhere.
//!
//! Lines of a ```` ```console ```` block that begin with `$ ` are commands; the others are what
//! they print. A line that is only `…` stands for any number of lines. What differs from run to
//! run (times, process ids, the pod that answered, measured shares) is not compared.
//! `NETLAB_BLESS=1` puts the real output into the page.

mod support;

use std::fs;

use netlab::{diag::Colour, lab};
use serde_json::Value;
use support::{Who, blessing, golden, top};

/// The pages.
const PAGES: &[&str] = &[
    "README.md",
    "docs/apply.md",
    "docs/architecture.md",
    "docs/ci.md",
    "docs/dns.md",
    "docs/drift.md",
    "docs/faults.md",
    "docs/how-it-works.md",
    "docs/lab-file.md",
    "docs/limits.md",
    "docs/living.md",
    "docs/probes.md",
    "docs/statistics.md",
    "docs/trace.md",
    "docs/troubleshooting.md",
    "docs/verify.md",
];

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

#[test]
fn commands_print_what_the_pages_show() {
    // What is written down is what the user prints who blesses; all others must print the same.
    let everybody = if blessing() { vec![Who::Myself] } else { Who::all() };
    for (page, who) in PAGES.iter().flat_map(|page| everybody.iter().map(move |who| (*page, *who))) {
        check(page, who);
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

/// Recipes for CI: each is YAML, and netlab understands what they have it do.
#[test]
fn recipes_are_good() {
    let mut commands = Vec::new();
    for page in PAGES {
        for block in blocks(&read(page)) {
            let text = block.lines.join("\n");
            match block.language.as_str() {
                "yaml" => {
                    let recipe: serde_norway::Value =
                        serde_norway::from_str(&text).unwrap_or_else(|error| panic!("{page}:{}: {error}", block.first));
                    texts(&recipe, &mut commands);
                }
                "sh" => commands.push(text),
                _ => {}
            }
        }
    }
    let lines = commands.iter().flat_map(|text| text.lines()).flat_map(|line| line.split("&&"));
    let mut verbs = Vec::new();
    for line in lines.map(|line| line.trim().trim_start_matches("sudo ")).filter(|line| line.starts_with("netlab ")) {
        let words = line.split_whitespace().take_while(|word| !["||", "|", ">", "#"].contains(word));
        if let Err(error) = netlab::cli::command_line().try_get_matches_from(words) {
            panic!("{line}: {error}");
        }
        verbs.extend(line.split_whitespace().nth(1));
    }
    // The repository has other programs as well, and cargo takes none of them unless one is named.
    let installs: Vec<&str> =
        commands.iter().flat_map(|text| text.lines()).filter(|it| it.contains("cargo install")).collect();
    let of_repository = |line: &&&str| line.contains("--git");
    assert_eq!(installs.iter().filter(of_repository).count(), 2, "{installs:?}");
    assert!(installs.iter().filter(of_repository).all(|line| line.trim().ends_with(" netlab")), "{installs:?}");
    // Twice each in the recipes, and once in the plain shell.
    assert!(["test", "doctor"].iter().all(|verb| verbs.iter().filter(|it| it == &verb).count() >= 3), "{verbs:?}");
}

/// All texts in a YAML document.
fn texts(value: &serde_norway::Value, found: &mut Vec<String>) {
    match value {
        serde_norway::Value::String(text) => found.push(text.clone()),
        serde_norway::Value::Sequence(list) => list.iter().for_each(|value| texts(value, found)),
        serde_norway::Value::Mapping(table) => table.iter().for_each(|(_, value)| texts(value, found)),
        _ => {}
    }
}

#[test]
fn links_lead_somewhere() {
    let more = ["CONTRIBUTING.md", "CHANGELOG.md"];
    for page in PAGES.iter().copied().chain(more) {
        for link in read(page).split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            let folder = top().join(page);
            let target = folder.parent().map(|folder| folder.join(link));
            let good = link.starts_with("https://") || target.is_some_and(|target| target.exists());
            assert!(good, "{page} links to {link:?}, which does not exist");
        }
    }
}

/// The reference has every key that there is, in the words of the schema.
#[test]
fn the_reference_is_that_of_the_schema() {
    const PAGE: &str = "docs/lab-file.md";
    const MARK: &str = "<!-- What follows is written by `cargo xtask bless`. -->\n";
    let page = read(PAGE);
    let (words, _) = page.split_once(MARK).expect("the mark is on the page");
    let mut text = format!("{words}{MARK}");
    let schema = lab::schema();
    table(&mut text, "The file", &schema);
    golden(&top().join(PAGE), &text);
}

/// Writes a table of an object's keys, and then those of the objects in it.
fn table(text: &mut String, title: &str, schema: &Value) {
    let Some(keys) = schema["properties"].as_object() else { return };
    let about = schema["description"].as_str().unwrap_or_default();
    text.push_str(&format!("\n## {title}\n\n{about}\n\n| key | value | what |\n|---|---|---|\n"));
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    for (key, value) in keys {
        let must = if required.iter().any(|name| name == key) { " Required." } else { "" };
        let what = value["description"].as_str().unwrap_or_default().replace('|', "\\|");
        text.push_str(&format!("| `{key}` | {} | {what}{must} |\n", kind(value)));
    }
    for (key, value) in keys {
        // A pod's `ports` are short for those of its container.
        let of_choices = || value["anyOf"].as_array()?.iter().find(|choice| choice["properties"].is_object());
        let (shown, inner) = if value["items"].is_object() {
            (format!("[[{key}]]"), &value["items"])
        } else {
            (format!("[{key}]"), of_choices().unwrap_or(value))
        };
        let title = if title == "The file" { format!("`{shown}`") } else { format!("{title} `{key}`") };
        if !matches!(title.as_str(), "`[[pod]]` `ports`" | "`[[pod]]` `readiness`") {
            table(text, &title, inner);
        }
    }
}

/// What a value is, in a word or two.
fn kind(schema: &Value) -> String {
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
        return words.join(", ");
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        return choices.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    if schema["const"].is_string() {
        return format!("`{}`", schema["const"]);
    }
    let pattern = schema["pattern"].as_str().unwrap_or_default();
    match schema["type"].as_str() {
        Some("array") if schema["items"]["type"] == "object" => "tables".to_owned(),
        Some("array") => format!("list of: {}", kind(&schema["items"])),
        Some("object") if schema["properties"].is_object() => "table".to_owned(),
        Some("object") if schema["additionalProperties"]["type"] == "number" => "pairs of names and numbers".to_owned(),
        Some("object") => "pairs of texts".to_owned(),
        Some("integer") => match (&schema["minimum"], &schema["maximum"]) {
            (Value::Number(low), Value::Number(high)) => format!("{low} to {high}"),
            _ => "number".to_owned(),
        },
        Some("boolean") => "`true`, `false`".to_owned(),
        Some("string") if schema["format"] == "ipv4" => "address".to_owned(),
        Some("string") if pattern.contains("{3}/") => "address/length".to_owned(),
        Some("string") if pattern.contains("(ms|") => "time".to_owned(),
        Some("string") if pattern.starts_with("^/") => "path".to_owned(),
        Some("string") if !pattern.is_empty() => "name".to_owned(),
        Some("string") => "text".to_owned(),
        _ => "value".to_owned(),
    }
}

/// Runs a page and compares; once more if a distribution test failed, as chance alone makes one
/// in a thousand fail, which the page says too.
fn check(page: &str, who: Who) {
    let text = read(page);
    let examples: Vec<Example> =
        blocks(&text).iter().filter(|block| block.language == "console").flat_map(examples).collect();
    if examples.is_empty() {
        return;
    }
    let mut printed = printed_by(&examples, who);
    if blessing() {
        fs::write(top().join(page), blessed(&text, &examples, &printed)).expect("the page can be written");
        return;
    }
    if printed.iter().flatten().any(|line| line.contains("NOT as it must be")) {
        printed = printed_by(&examples, who);
    }
    let differences = differences(&examples, &printed);
    assert!(
        differences.is_empty(),
        "{page}, run by {who:?}; see NETLAB_BLESS=1 cargo test\n{}",
        differences.join("\n")
    );
}

fn printed_by(examples: &[Example], who: Who) -> Vec<Vec<String>> {
    let commands: Vec<&str> = examples.iter().map(|example| example.command.as_str()).collect();
    support::run(&commands, who)
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
    const ANSWERS: [&str; 2] = ["HTTP Server IP address: ", "X-Netlab-Client: "];
    const VOLATILE: [&str; 6] = [" %", " ms", "milliseconds", "process ", " times in a row", "p = "];
    if let Some(answer) = ANSWERS.into_iter().find(|answer| line.starts_with(answer)) {
        return answer.to_owned();
    }
    let volatile = VOLATILE.iter().any(|sign| line.contains(sign));
    // The bars of shares are as long as the shares.
    let words = line.split_whitespace().filter(|word| !word.chars().all(|c| "█▓░│".contains(c)));
    let words = words.map(|word| match word {
        age if is_age(age) => "#s".to_owned(),
        _ if volatile => without_numbers(word),
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// How long ago something was: `5s`, `3m12s`, `7h5m`.
fn is_age(word: &str) -> bool {
    let parts: Vec<&str> = word.split_inclusive(['s', 'm', 'h', 'd', 'y']).collect();
    let is_part = |part: &&str| part.len() > 1 && part[..part.len() - 1].bytes().all(|byte| byte.is_ascii_digit());
    !parts.is_empty() && word.ends_with(['s', 'm', 'h', 'd', 'y']) && parts.iter().all(is_part)
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
        ("  pod1a  25.2 %  ██▓│░░  is 19.2 %", "  pod1a  9.1 %  ███▓▓░ │  is 7 %", true),
        ("by node1: p = 0.31, as it must be", "by node1: p = 0.0042, as it must be", true),
        ("by node1: p = 0.31, as it must be", "by node1: p = 0.31, NOT as it must be", false),
        ("2 failed", "3 failed", false),
        ("nodeport 3 12s", "nodeport  3  0s", true),
        ("nodeport 3 12s", "nodeport  4  0s", false),
        ("pod1a 0 3m12s", "pod1a  0  5s", true),
        ("pod1a 0 3m12", "pod1a  0  5s", false),
        ("pod1a is", "pod1a s", false),
        ("HTTP Server IP address: 1.2.3.4", "HTTP Server IP address: 5.6.7.8", true),
    ];
    for (shown, printed, same) in cases {
        assert_eq!(matches(&lines(shown), &lines(printed)), same, "{shown:?} and {printed:?}");
    }
}
