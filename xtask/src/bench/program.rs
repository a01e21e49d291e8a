//! The programs that are measured, the files of their labs, and what they are told.

use std::{
    cell::OnceCell,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::lab::Grid;
use crate::run::{Failure, Result, top};

/// The programs, and a directory for what they need.
#[derive(Debug)]
pub(crate) struct Bench {
    netlab: PathBuf,
    xtask: PathBuf,
    /// The interpreter itself: what is called `python3` may be a slow wrapper around it.
    pub(crate) python: String,
    directory: tempfile::TempDir,
}

/// A lab in files.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The lab file.
    pub(crate) file: PathBuf,
    /// What `netlab plan` prints of it.
    pub(crate) plan: PathBuf,
    /// A directory with a file of rules for each node, for the tool that has its name.
    pub(crate) rules: PathBuf,
    /// Who asks what address, to see whether the lab answers.
    pub(crate) question: OnceCell<(String, String)>,
}

impl Bench {
    pub(crate) fn new(netlab: PathBuf, xtask: PathBuf) -> Result<Self> {
        let directory = tempfile::tempdir().map_err(|error| Failure(format!("no directory for the labs: {error}")))?;
        for (name, text) in [("script.sh", include_str!("script.sh")), ("hosts.py", include_str!("hosts.py"))] {
            write(&directory.path().join(name), text)?;
        }
        let python = output(Command::new("python3").args(["-c", "import sys; print(sys.executable)"]))?;
        Ok(Bench { netlab, xtask, python: python.trim().to_owned(), directory })
    }

    /// A lab of the project, with another proxy. It is asked at a node port.
    pub(crate) fn book(&self, file: &str, proxy: &str) -> Result<Prepared> {
        const NODE_PORT: (&str, &str) = ("host", "10.30.45.100:30080");
        let text = fs::read_to_string(top().join("labs").join(file))
            .map_err(|error| Failure(format!("cannot read labs/{file}: {error}")))?;
        let text = text.replacen("[cluster]\n", &format!("[cluster]\nproxy = \"{proxy}\"\n"), 1);
        let prepared = self.prepare(&format!("{proxy}-{file}"), &text)?;
        // It is empty.
        let _ = prepared.question.set((NODE_PORT.0.to_owned(), NODE_PORT.1.to_owned()));
        Ok(prepared)
    }

    /// A lab of any size.
    pub(crate) fn grid(&self, grid: &Grid, proxy: &str) -> Result<Prepared> {
        self.prepare(&format!("{}-{}-{proxy}.toml", grid.name, grid.services), &self.grid_text(grid, proxy)?)
    }

    fn grid_text(&self, grid: &Grid, proxy: &str) -> Result<String> {
        output(self.netlab().args(["new", "grid", "-"]).args(grid.words(proxy)))
    }

    /// The same without what only the floor needs.
    pub(crate) fn grid_file(&self, grid: &Grid, proxy: &str) -> Result<PathBuf> {
        let file = self.file(&format!("{}-{}-{proxy}.toml", grid.name, grid.services));
        write(&file, &self.grid_text(grid, proxy)?)?;
        Ok(file)
    }

    /// The program.
    pub(crate) fn netlab(&self) -> Command {
        Command::new(&self.netlab)
    }

    /// This program.
    pub(crate) fn xtask(&self) -> Command {
        Command::new(&self.xtask)
    }

    /// This program in a place of a lab.
    pub(crate) fn xtask_in(&self, lab: &str, place: &str) -> Command {
        let mut exec = self.netlab();
        exec.args(["exec", "--lab", lab, place, "--"]).arg(&self.xtask);
        exec
    }

    /// A command in namespaces of its own, which end with it.
    pub(crate) fn apart(&self) -> Command {
        let mut command = Command::new("unshare");
        if !nix::unistd::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--mount", "--net", "--pid", "--fork", "--mount-proc", "--"]);
        command
    }

    /// A file of this run.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn prepare(&self, name: &str, text: &str) -> Result<Prepared> {
        let file = self.file(name);
        write(&file, text)?;
        let (plan, rules) = (file.with_extension("plan"), file.with_extension("rules"));
        let steps = output(self.netlab().arg("plan").arg(&file))?;
        write(&plan, &steps)?;
        self.write_rules(&file, &steps, &rules)?;
        Ok(Prepared { file, plan, rules, question: OnceCell::new() })
    }

    /// One file for each node whose rules the plan loads: `netlab rules NODE`, in a directory that is named
    /// as the tool.
    fn write_rules(&self, lab: &Path, plan: &str, rules: &Path) -> Result<()> {
        for line in plan.lines() {
            let Some((command, node)) = line.split_once("# netlab rules ") else { continue };
            let tool = if command.contains("nft -f") { "nft" } else { "iptables-restore" };
            fs::create_dir_all(rules.join(tool))
                .map_err(|error| Failure(format!("cannot write rules down: {error}")))?;
            let text = output(self.netlab().args(["rules", node, "--file"]).arg(lab))?;
            write(&rules.join(tool).join(node), &text)?;
        }
        Ok(())
    }

    /// Waits until the kernel has freed what ended before.
    pub(crate) fn settle(&self) -> Result<()> {
        output(self.xtask().arg("settle")).map(drop)
    }

    /// Where the first Service of a lab that is up answers.
    pub(crate) fn first_service(&self, lab: &str) -> Result<String> {
        let services = self.service_addresses(lab)?;
        services.into_iter().next().ok_or_else(|| Failure(format!("{lab} has no Service")))
    }

    /// Where the Services of a grid answer, in the order of their names, which is that of the rules.
    pub(crate) fn service_addresses(&self, lab: &str) -> Result<Vec<String>> {
        let services = json(&output(self.netlab().args(["get", "services", "--lab", lab, "-o", "json"]))?)?;
        let items = services["items"].as_array().cloned().unwrap_or_default();
        let named = |item: &serde_json::Value| {
            let name = item["name"].as_str().filter(|name| name.starts_with("svc"))?;
            Some((name.to_owned(), format!("{}:80", item["cluster_ip"].as_str()?)))
        };
        let mut addresses: Vec<_> = items.iter().filter_map(named).collect();
        addresses.sort();
        Ok(addresses.into_iter().map(|(_, address)| address).collect())
    }

    /// The process of a lab's agent.
    pub(crate) fn agent(&self, lab: &str) -> Result<u32> {
        let labs = json(&output(self.netlab().args(["ls", "-o", "json"]))?)?;
        let found = labs["items"].as_array().and_then(|items| items.iter().find(|item| item["name"] == lab));
        let pid = found.and_then(|item| u32::try_from(item["pid"].as_u64()?).ok());
        pid.ok_or_else(|| Failure(format!("netlab ls does not know the agent of {lab}")))
    }
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).map_err(|error| Failure(format!("cannot write {}: {error}", file.display())))
}

pub(crate) fn json(text: &str) -> Result<serde_json::Value> {
    serde_json::from_str(text).map_err(|error| Failure(format!("that is no JSON: {error}")))
}

/// What a command prints; fails when the command does.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let program = Path::new(command.get_program()).display().to_string();
    let output =
        command.stdin(Stdio::null()).output().map_err(|error| Failure(format!("cannot run {program}: {error}")))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => {
            let said = [output.stderr, output.stdout].map(|said| String::from_utf8_lossy(&said).trim().to_owned());
            Err(Failure(format!("{command:?}: {}", said.join("\n").trim())))
        }
    }
}
