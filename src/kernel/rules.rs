//! Loads a node's rules, as one transaction: nftables' by what the kernel itself is told, if every word of
//! them is known, all others with the host's own tool.

use std::{os::unix::process::ExitStatusExt, process::Command};

use tokio::task;

use super::{
    netns,
    nfnetlink::{self, Heard},
    process::{Entrance, Output, Processes},
    serve::describe,
};
use crate::{
    error::{Context, Error, Result},
    lab::model::ProxyMode,
    proxy::{nfnetlink::Batch, sync},
};

/// In a user namespace nft's and iptables-nft's netlink transaction must fit the send buffer
/// that a socket begins with (`net.core.wmem_default`, 212,992 bytes): they enlarge it with
/// SO_SNDBUFFORCE, which is not allowed there, and try nothing else. What rules become is about
/// four times their text (54,329 bytes of it were too much); a longer set goes to iptables-legacy,
/// which hands over a table in one piece and has no such limit.
const NFT_TEXT_LIMIT: usize = 40 << 10;

/// A tool and its arguments.
struct Tool {
    program: &'static str,
    arguments: &'static [&'static str],
}

/// The `iptables-restore` of the distribution's choice, the one that `iptables` belongs to.
/// `-w` waits for the lock of the legacy one, which others may hold for a moment.
const RESTORE: Tool = Tool { program: "iptables-restore", arguments: &["--noflush", "-w", "10"] };
const RESTORE_LEGACY: Tool = Tool { program: "iptables-legacy-restore", arguments: &["--noflush", "-w", "10"] };
const SAVE: Tool = Tool { program: "iptables-save", arguments: &[] };
const SAVE_LEGACY: Tool = Tool { program: "iptables-legacy-save", arguments: &[] };
const NFT: Tool = Tool { program: "nft", arguments: &["-f", "-"] };
const NFT_LIST: Tool = Tool { program: "nft", arguments: &["-s", "list", "ruleset"] };
/// One table of iptables-legacy after the other: which there are is in `/proc/net/ip_tables_names`,
/// which is not for who is root in a user namespace only.
const SAVE_LEGACY_TABLES: [&[&str]; 3] = [&["-t", "mangle"], &["-t", "filter"], &["-t", "nat"]];

/// How a change of rules went wrong.
#[derive(Debug)]
pub struct Mishap {
    /// What became of the tool.
    pub how: How,
    /// What to say about it.
    pub error: Error,
}

/// What became of a tool that did not change the rules as it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It could not be started: nothing was changed.
    NotStarted,
    /// A signal ended it: what it had done by then is for the kernel to say.
    Killed,
    /// It did not take the rules.
    Refused,
}

impl From<Mishap> for Error {
    fn from(mishap: Mishap) -> Self {
        mishap.error
    }
}

/// Loads rules into a namespace.
///
/// # Errors
///
/// When the tool is missing, or does not take the rules; nothing is loaded then.
pub async fn load(netns: &str, proxy: ProxyMode, text: String, processes: &Processes) -> Result<()> {
    if proxy == ProxyMode::Nftables && told(netns, sync::first(&text)).await?.is_none() {
        return Ok(());
    }
    load_into(Entrance::to_netns(netns)?, proxy, text, processes).await
}

/// Changes the rules of a namespace; `loaded` is the length of the whole text that is, or will be, loaded
/// there, which decides about the tool.
///
/// # Errors
///
/// When the kernel does not take the change, or a tool that is needed is missing; nothing is changed
/// then, unless the tool was killed.
pub async fn change_in(
    netns: &str,
    proxy: ProxyMode,
    loaded: usize,
    text: String,
    processes: &Processes,
) -> Result<(), Mishap> {
    let mut text = text;
    if proxy == ProxyMode::Nftables {
        match told(netns, text).await? {
            None => return Ok(()),
            Some(untold) => text = untold,
        }
    }
    let entrance = Entrance::to_netns(netns).map_err(|error| Mishap { how: How::NotStarted, error })?;
    change(entrance, proxy, loaded, text, processes).await
}

/// Tells the kernel a transaction; gives it back, with nothing done, if that is for the tool to do.
async fn told(netns: &str, text: String) -> Result<Option<String>, Mishap> {
    let netns = netns.to_owned();
    let telling = task::spawn_blocking(move || {
        let Some(batch) = Batch::of(&text) else { return Ok(Some(text)) };
        match nfnetlink::send(&netns, &batch) {
            Ok(Heard::Done) => Ok(None),
            Ok(Heard::TooLong) => Ok(Some(text)),
            Ok(Heard::Refused(error)) => Err(Mishap { how: How::Refused, error }),
            Err(error) => Err(Mishap { how: How::NotStarted, error }),
        }
    });
    let panicked = |panic: task::JoinError| Err(Mishap { how: How::Refused, error: Error::bug(panic.to_string()) });
    telling.await.unwrap_or_else(panicked)
}

/// Loads rules at the other end of an entrance.
///
/// # Errors
///
/// When the tool is missing, or does not take the rules; nothing is loaded then.
pub async fn load_into(entrance: Entrance, proxy: ProxyMode, text: String, processes: &Processes) -> Result<()> {
    Ok(change(entrance, proxy, text.len(), text, processes).await?)
}

/// Changes rules at the other end of an entrance; `loaded` is the length of the whole text that is, or
/// will be, loaded there, which decides about the tool.
///
/// # Errors
///
/// When the tool is missing, or does not take the change; nothing is changed then, unless the tool was
/// killed.
pub async fn change(
    entrance: Entrance,
    proxy: ProxyMode,
    loaded: usize,
    text: String,
    processes: &Processes,
) -> Result<(), Mishap> {
    let tool = match proxy {
        ProxyMode::Nftables => NFT,
        ProxyMode::Iptables | ProxyMode::Ladder => restore_tool(loaded),
    };
    let output = run(&tool, entrance, text.into_bytes(), processes).await;
    let output = output.map_err(|error| Mishap { how: How::NotStarted, error })?;
    if output.status.success() {
        return Ok(());
    }
    let how = if output.status.signal().is_some() { How::Killed } else { How::Refused };
    Err(Mishap { how, error: complaint(&tool, &output) })
}

/// The rules at the other end of an entrance, as the tool prints them; `loaded` is the length
/// of the text that was loaded there, which decides about the tool.
///
/// # Errors
///
/// When the tool is missing or fails.
pub async fn save_from(entrance: Entrance, proxy: ProxyMode, loaded: usize, processes: &Processes) -> Result<String> {
    let tool = match proxy {
        ProxyMode::Nftables => NFT_LIST,
        ProxyMode::Iptables | ProxyMode::Ladder => match restore_tool(loaded).program {
            "iptables-legacy-restore" => SAVE_LEGACY,
            _ => SAVE,
        },
    };
    let again = entrance.try_clone()?;
    match print(&tool, entrance, processes).await {
        Err(_) if proxy != ProxyMode::Nftables && is_legacy(proxy, loaded, processes).await? => {
            let mut text = String::new();
            for arguments in SAVE_LEGACY_TABLES {
                let tool = Tool { program: tool.program, arguments };
                text.push_str(&print(&tool, again.try_clone()?, processes).await?);
            }
            Ok(text)
        }
        printed => printed,
    }
}

async fn print(tool: &Tool, entrance: Entrance, processes: &Processes) -> Result<String> {
    let output = run(tool, entrance, Vec::new(), processes).await?;
    if !output.status.success() {
        return Err(complaint(tool, &output));
    }
    String::from_utf8(output.stdout).context(format!("{} printed something strange", tool.program))
}

/// Whether rules of this length were, or would be, loaded with iptables-legacy, of whose rules
/// nft knows nothing.
///
/// # Errors
///
/// When the tool is missing.
pub async fn is_legacy(proxy: ProxyMode, loaded: usize, processes: &Processes) -> Result<bool> {
    let tool = match proxy {
        ProxyMode::Nftables => return Ok(false),
        ProxyMode::Iptables | ProxyMode::Ladder => restore_tool(loaded),
    };
    let version = Tool { program: tool.program, arguments: &["--version"] };
    let output = run(&version, Entrance::to_netns(super::netns::HOST)?, Vec::new(), processes).await?;
    Ok(!String::from_utf8_lossy(&output.stdout).contains("nf_tables"))
}

/// Rules as the tool prints them once they are loaded: neither rounding nor spelling differs from what
/// it prints of a node that has them. They are loaded where nobody is.
///
/// # Errors
///
/// When the tool is missing, or does not take the rules.
pub async fn printed(proxy: ProxyMode, text: &str, processes: &Processes) -> Result<String> {
    let scratch = netns::unnamed()?;
    let inside =
        || -> Result<Entrance> { Ok(Entrance::to_file(scratch.try_clone().context("cannot share a namespace")?)) };
    load_into(inside()?, proxy, text.to_owned(), processes).await?;
    save_from(inside()?, proxy, text.len(), processes).await
}

/// Whether texts of these lengths are loaded by the same tool of iptables.
pub fn same_tool(one: usize, other: usize) -> bool {
    restore_tool(one).program == restore_tool(other).program
}

/// What is typed to load such a text.
pub fn command_line(proxy: ProxyMode, loaded: usize) -> String {
    let tool = match proxy {
        ProxyMode::Nftables => NFT,
        ProxyMode::Iptables | ProxyMode::Ladder => restore_tool(loaded),
    };
    format!("{} {}", tool.program, tool.arguments.join(" "))
}

fn restore_tool(bytes: usize) -> Tool {
    let rootless = !super::nest::is_privileged();
    if rootless && bytes > NFT_TEXT_LIMIT && find(RESTORE_LEGACY.program).is_ok() { RESTORE_LEGACY } else { RESTORE }
}

async fn run(tool: &Tool, entrance: Entrance, input: Vec<u8>, processes: &Processes) -> Result<Output> {
    let program = find(tool.program)?;
    let mut command = Command::new(program);
    command.args(tool.arguments);
    processes.run(command, entrance, input).await
}

/// Finds a program; those of the administrator are often not on a user's PATH.
///
/// # Errors
///
/// When it is not installed.
pub fn find(program: &str) -> Result<std::path::PathBuf> {
    find_for_users(program).map_err(|error| error.hint("netlab doctor --fix"))
}

/// The same for a program that the user names, which is no need of netlab's own.
///
/// # Errors
///
/// When it is not installed.
pub fn find_for_users(program: &str) -> Result<std::path::PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{path}:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin");
    which::which_in(program, Some(path), "/").map_err(|_| Error::host(format!("{program} is not installed")))
}

fn complaint(tool: &Tool, output: &Output) -> Error {
    let words = String::from_utf8_lossy(&output.stderr);
    let words: Vec<&str> = words.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let how = match output.status.signal() {
        Some(_) => format!("{} {} while it was at the rules", tool.program, describe(output.status)),
        None => format!("{} refused the rules: {}", tool.program, words.join("; ")),
    };
    Error::refused(how)
}
