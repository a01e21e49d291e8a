//! `netlab doctor`: whether this host can run labs, and what to do if not.

use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use nix::{
    sys::resource::{Resource, getrlimit},
    unistd::geteuid,
};
use serde::Serialize;

use super::{
    args,
    output::{Terminal, print},
};
use crate::{
    diag::Colour,
    error::{Context, Error, ErrorKind, Result},
    kernel::{
        examine::{self, Finding, Grade},
        tools::{Need, TOOLS, Tool},
    },
};

/// What a program reads.
#[derive(Debug, Serialize)]
struct Report<'a> {
    version: u32,
    findings: &'a [Finding],
}

pub(super) fn doctor(args: &args::Doctor, terminal: &Terminal) -> Result<ExitCode> {
    if args.fix {
        install(terminal)?;
    }
    let mut findings = examine::examine()?;
    findings.extend(TOOLS.iter().map(tool));
    findings.extend(limits());
    findings.push(kernel());
    match args.output {
        args::PlainFormat::Json => {
            let report = Report { version: 1, findings: &findings };
            print(&(serde_json::to_string_pretty(&report).context("cannot write JSON")? + "\n"));
        }
        args::PlainFormat::Table => print(&text(&findings, terminal.colour())),
    }
    let worst = findings.iter().map(|finding| finding.grade).max();
    if worst == Some(Grade::Bad) {
        return Ok(ExitCode::from(ErrorKind::Host.exit_code()));
    }
    Ok(ExitCode::SUCCESS)
}

fn text(findings: &[Finding], colour: Colour) -> String {
    let width = findings.iter().map(|finding| finding.what.len()).max().unwrap_or(0);
    let mut text = String::new();
    for Finding { what, grade, text: found, hint } in findings {
        let (word, colour_of) = match grade {
            Grade::Good => ("good", AnsiColor::Green),
            Grade::Warn => ("warn", AnsiColor::Yellow),
            Grade::Bad => ("bad ", AnsiColor::Red),
        };
        let style = if colour == Colour::On { colour_of.on_default().bold() } else { Style::new() };
        text.push_str(&format!("{style}{word}{style:#}  {what:width$}  {found}\n"));
        if let Some(hint) = hint {
            text.push_str(&format!("      {:width$}  hint: {hint}\n", ""));
        }
    }
    let bad = findings.iter().filter(|finding| finding.grade == Grade::Bad).count();
    text.push_str(&match bad {
        0 => "\nthis host can run labs\n".to_owned(),
        1 => "\nthis host cannot run labs: 1 thing is bad\n".to_owned(),
        bad => format!("\nthis host cannot run labs: {bad} things are bad\n"),
    });
    text
}

fn tool(tool: &Tool) -> Finding {
    match tool.find().map(|path| (path, tool.complaint())) {
        Some((_, Some(complaint))) => Finding::lack(tool.program, Grade::Warn, complaint, tool.source()),
        Some((path, None)) => {
            let version = tool.say_version().unwrap_or_else(|| "of unknown version".to_owned());
            Finding::good(tool.program, format!("{version} ({})", path.display()))
        }
        None => {
            let grade = match tool.need {
                Need::Required => Grade::Bad,
                Need::Useful => Grade::Warn,
            };
            Finding::lack(tool.program, grade, format!("not installed; needed for {}", tool.purpose), tool.source())
        }
    }
}

fn limits() -> Vec<Finding> {
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let mut findings = Vec::new();
    // Descriptors: a listening socket per built-in pod, and what a measurement opens.
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let what = "open files";
        findings.push(if hard >= 4096 {
            Finding::good(what, format!("up to {hard}"))
        } else {
            let text = format!("only {hard}: labs of more than {} pods will not come up", hard / 4);
            Finding::lack(what, Grade::Warn, text, Some("raise the hard limit: ulimit -Hn".to_owned()))
        });
    }
    for kind in ["net", "mnt", "pid", "uts", "ipc", "user"] {
        let path = format!("/proc/sys/user/max_{kind}_namespaces");
        let what = format!("{kind} namespaces");
        match number(&path) {
            Some(limit) if limit < 256 => {
                let hint = format!("as root: sysctl user.max_{kind}_namespaces=15000");
                findings.push(Finding::lack(what, Grade::Warn, format!("only {limit}"), Some(hint)));
            }
            Some(limit) if kind == "net" => findings.push(Finding::good(what, format!("up to {limit}"))),
            _ => {}
        }
    }
    findings
}

/// `pidfd_open` and `setns` to a pidfd came with 5.8, `close_range` with 5.9.
fn kernel() -> Finding {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= (5, 9) {
        return Finding::good("kernel", release);
    }
    let text = format!("{release} is too old: netlab needs Linux 5.9 or newer");
    Finding::lack("kernel", Grade::Bad, text, None)
}

/// Installs the packages of the programs that are missing.
fn install(terminal: &Terminal) -> Result<()> {
    let mut packages: Vec<&str> =
        TOOLS.iter().filter(|tool| tool.find().is_none()).filter_map(|tool| tool.package).collect();
    packages.sort_unstable();
    packages.dedup();
    if packages.is_empty() {
        terminal.say("every program is installed already");
        return Ok(());
    }
    let by_hand = format!("as root: apt-get install {}", packages.join(" "));
    if which::which("apt-get").is_err() {
        return Err(Error::host("this is not Debian: there is no apt-get")
            .hint(format!("install with your distribution's tool what Debian calls {}", packages.join(", "))));
    }
    if !geteuid().is_root() {
        return Err(Error::host("only root can install packages").hint(by_hand));
    }
    terminal.say(format!("installing {}", packages.join(", ")));
    let apt = |arguments: Vec<&str>| {
        let apt =
            duct::cmd("apt-get", arguments).env("DEBIAN_FRONTEND", "noninteractive").stdin_null().stdout_to_stderr();
        apt.run().map_err(|error| Error::refused(format!("apt-get failed: {error}")).hint(by_hand.clone()))
    };
    apt(vec!["update", "-q"])?;
    apt([vec!["install", "-q", "-y", "--no-install-recommends"], packages].concat())?;
    Ok(())
}
