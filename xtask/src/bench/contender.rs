//! One turn of one contender: from the command to what stops the clock, and its end.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::lab::{Grid, Prepared};
use crate::run::{Failure, Result, top};

/// The node port that is asked.
const NODE_PORT: &str = "10.30.45.100:30080";
/// The name of the labs of this run, which may have namesakes.
const NAME: &str = "bench";

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    /// `netlab up`, until a node port has answered.
    UpAnswered,
    /// The script, until a node port has answered.
    ScriptAnswered,
    /// `netlab up --stage rules`.
    UpRules,
    /// The script, until its last rule is in.
    ScriptRules,
    /// `netlab up`.
    Up,
    /// The kernel's own calls.
    Floor,
    /// The same, and then each node's rules by the bare tool.
    FloorRules,
}

/// How long a turn took.
#[derive(Debug)]
pub(crate) struct Took {
    /// To what stops the clock.
    pub(crate) up: Duration,
    /// The end, if that is netlab's.
    pub(crate) down: Option<Down>,
}

/// How long an end took.
#[derive(Debug)]
pub(crate) struct Down {
    /// Until the command had come back.
    pub(crate) ended: Duration,
    /// Until the kernel was done with it.
    pub(crate) freed: Duration,
}

/// The programs, and a directory for what they need.
#[derive(Debug)]
pub(crate) struct Bench {
    netlab: PathBuf,
    xtask: PathBuf,
    /// The interpreter itself: what is called `python3` may be a slow wrapper around it.
    python: String,
    directory: tempfile::TempDir,
}

impl Measure {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Measure::UpAnswered => "netlab up, to the first answer",
            Measure::ScriptAnswered => "the script, to the first answer",
            Measure::UpRules => "netlab up --stage rules",
            Measure::ScriptRules => "the script, without servers",
            Measure::Up => "netlab up",
            Measure::Floor => "the kernel floor",
            Measure::FloorRules => "the kernel floor, and the tool for each node's rules",
        }
    }

    /// What it is to be compared with, besides the floor.
    pub(crate) fn against(self) -> Option<&'static str> {
        match self {
            Measure::UpAnswered => Some(Measure::ScriptAnswered.name()),
            Measure::UpRules => Some(Measure::ScriptRules.name()),
            Measure::Up => Some(Measure::Floor.name()),
            Measure::ScriptAnswered | Measure::ScriptRules | Measure::Floor | Measure::FloorRules => None,
        }
    }
}

impl Bench {
    pub(crate) fn new(netlab: PathBuf, xtask: PathBuf) -> Result<Self> {
        let directory = tempfile::tempdir().map_err(|error| Failure(format!("no directory for the labs: {error}")))?;
        fs::write(directory.path().join("script.sh"), include_str!("script.sh"))
            .map_err(|error| Failure(format!("cannot write the script: {error}")))?;
        let python = output(Command::new("python3").args(["-c", "import sys; print(sys.executable)"]))?;
        Ok(Bench { netlab, xtask, python: python.trim().to_owned(), directory })
    }

    /// A lab of the project.
    pub(crate) fn lab(&self, file: &str) -> Result<Prepared> {
        self.prepare(top().join(file))
    }

    /// A lab of any size.
    pub(crate) fn grid(&self, grid: &Grid, proxy: &str) -> Result<Prepared> {
        let file = self.directory.path().join(format!("{}-{}-{proxy}.toml", grid.name, grid.services));
        let text = output(self.netlab().args(["new", "grid", "-"]).args(grid.words(proxy)))?;
        fs::write(&file, text).map_err(|error| Failure(format!("cannot write a lab: {error}")))?;
        self.prepare(file)
    }

    /// The program.
    pub(crate) fn netlab(&self) -> Command {
        Command::new(&self.netlab)
    }

    fn prepare(&self, file: PathBuf) -> Result<Prepared> {
        let plan = self.directory.path().join(file.file_name().unwrap_or_default()).with_extension("plan");
        let output = Command::new(&self.netlab).arg("plan").arg(&file).output();
        let output = output.map_err(|error| Failure(format!("cannot run netlab: {error}")))?;
        if !output.status.success() {
            return Err(Failure(format!("netlab plan failed: {}", String::from_utf8_lossy(&output.stderr))));
        }
        fs::write(&plan, &output.stdout).map_err(|error| Failure(format!("cannot write a plan: {error}")))?;
        let rules = plan.with_extension("rules");
        self.write_rules(&file, &String::from_utf8_lossy(&output.stdout), &rules)?;
        Ok(Prepared { file, plan, rules })
    }

    /// One file for each node whose rules the plan loads: `netlab rules NODE`, in a directory that is named
    /// as the tool.
    fn write_rules(&self, lab: &Path, plan: &str, rules: &Path) -> Result<()> {
        let wrong = |error| Failure(format!("cannot write rules down: {error}"));
        for line in plan.lines() {
            let Some((command, node)) = line.split_once("# netlab rules ") else { continue };
            let tool = if command.contains("nft -f") { "nft" } else { "iptables-restore" };
            fs::create_dir_all(rules.join(tool)).map_err(wrong)?;
            let text = output(self.netlab().args(["rules", node, "--file"]).arg(lab))?;
            fs::write(rules.join(tool).join(node), text).map_err(wrong)?;
        }
        Ok(())
    }

    /// One turn, to its very end: the kernel frees namespaces in the background, and what it
    /// still has to do must not be the next one's burden.
    pub(crate) fn take(&self, measure: Measure, lab: &Prepared) -> Result<Took> {
        let took = self.turn(measure, lab)?;
        output(Command::new(&self.xtask).arg("settle"))?;
        Ok(took)
    }

    fn turn(&self, measure: Measure, lab: &Prepared) -> Result<Took> {
        match measure {
            Measure::Up => self.up_and_down(lab, &[], false),
            Measure::UpRules => self.up_and_down(lab, &["--stage", "rules"], false),
            Measure::UpAnswered => self.up_and_down(lab, &[], true),
            Measure::ScriptRules => self.script("rules", "rules"),
            Measure::ScriptAnswered => self.script("all", "answered"),
            Measure::Floor | Measure::FloorRules => {
                let mut floor = Command::new(&self.xtask);
                floor.arg("floor").arg(&lab.plan);
                if measure == Measure::FloorRules {
                    floor.arg("--rules").arg(&lab.rules);
                }
                let text = output(&mut floor)?;
                let nanos = text.trim().parse().map_err(|_| Failure(format!("the floor said {text:?}")))?;
                Ok(Took { up: Duration::from_nanos(nanos), down: None })
            }
        }
    }

    fn up_and_down(&self, lab: &Prepared, stage: &[&str], ask: bool) -> Result<Took> {
        let began = Instant::now();
        output(Command::new(&self.netlab).args(["up", "--quiet", "--name", NAME]).args(stage).arg(&lab.file))?;
        if ask {
            let mut exec = Command::new(&self.netlab);
            exec.args(["exec", "--lab", NAME, "host", "--"]).arg(&self.xtask).args(["ask", NODE_PORT]);
            output(&mut exec)?;
        }
        let up = began.elapsed();
        let began = Instant::now();
        let text = output(Command::new(&self.netlab).args(["down", "--wait", NAME]))?;
        let freed = began.elapsed();
        // `NAME is down (3 ms); …`: what it says itself, as this call waits for the kernel too.
        let ended = text.split_once('(').and_then(|(_, rest)| rest.split_once(" ms")?.0.parse().ok());
        let ended = Duration::from_millis(ended.ok_or_else(|| Failure(format!("netlab down said {text:?}")))?);
        Ok(Took { up, down: Some(Down { ended, freed }) })
    }

    fn script(&self, what: &str, until: &str) -> Result<Took> {
        let mut command = Command::new("unshare");
        if !nix::unistd::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--mount", "--net", "--pid", "--fork", "--mount-proc", "bash"]);
        command.arg(self.directory.path().join("script.sh"));
        command.arg(what).arg(&self.python).arg(top().join("templates/http_server.py")).arg(&self.xtask);
        let began = Instant::now();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let child = child.as_mut().map_err(|error| Failure(format!("cannot run the script: {error}")))?;
        let up = said(child, until).map(|()| began.elapsed());
        let status = child.wait().map_err(|error| Failure(format!("lost the script: {error}")))?;
        up.ok_or_else(|| Failure(format!("the script broke off: {status}"))).map(|up| Took { up, down: None })
    }
}

/// Waits until a child has said a word.
fn said(child: &mut Child, word: &str) -> Option<()> {
    let lines = BufReader::new(child.stdout.take()?).lines();
    lines.map_while(std::result::Result::ok).any(|line| line == word).then_some(())
}

pub(crate) fn output(command: &mut Command) -> Result<String> {
    let program = Path::new(command.get_program()).display().to_string();
    let output =
        command.stdin(Stdio::null()).output().map_err(|error| Failure(format!("cannot run {program}: {error}")))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(Failure(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))),
    }
}
