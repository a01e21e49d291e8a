//! A lab that is up.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Write},
    net::IpAddr,
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;

use super::{
    Error,
    hold::{self, Order},
    program::Program,
};
use crate::{error::ErrorKind, report::Report};

/// A lab that is up. It ends when this is dropped.
///
/// Its methods may be called by several threads at a time.
#[derive(Debug)]
#[must_use = "the lab ends with this value"]
pub struct Running {
    name: String,
    program: Program,
    holder: Child,
}

/// Which probes to try, and how: the options of `netlab verify`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Options {
    only: Option<String>,
    samples: Option<u32>,
    alpha: Option<f64>,
    builtin: bool,
}

impl Options {
    /// Only the probes of this group, with this text in their id or name, or matching it with `*` and `?`.
    #[must_use]
    pub fn only(mut self, text: impl Into<String>) -> Self {
        self.only = Some(text.into());
        self
    }

    /// So many connections per distribution test, 10 to 1,000,000; by default as many as it needs.
    #[must_use]
    pub fn samples(mut self, samples: u32) -> Self {
        self.samples = Some(samples);
        self
    }

    /// The probability that a good lab fails its distribution tests; by default 0.001.
    #[must_use]
    pub fn alpha(mut self, alpha: f64) -> Self {
        self.alpha = Some(alpha);
        self
    }

    /// Asked by netlab itself, not by the host's curl.
    #[must_use]
    pub fn builtin_client(mut self) -> Self {
        self.builtin = true;
        self
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        let mut say = |option: &str, value: Option<String>| {
            arguments.extend(value.into_iter().flat_map(|value| [option.to_owned(), value]));
        };
        say("--only", self.only.clone());
        say("--samples", self.samples.map(|samples| samples.to_string()));
        say("--alpha", self.alpha.map(|alpha| alpha.to_string()));
        say("--engine", self.builtin.then(|| "builtin".to_owned()));
        arguments
    }
}

impl Running {
    /// Has a process hold the lab, and waits until it does.
    pub(super) fn begin(program: Program, order: &Order) -> Result<Running, Error> {
        let mut command = program.command([hold::VERB]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut holder = command.spawn().map_err(|error| program.is_not_there(&error))?;
        let mut line = serde_json::to_string(order).unwrap_or_else(|_| unreachable!("texts and times are JSON"));
        line.push('\n');
        // One that ends without having read it says why.
        let _ = holder.stdin.as_mut().map(|stdin| stdin.write_all(line.as_bytes()));
        let mut answer = String::new();
        // As above.
        let _ = holder.stdout.as_mut().map(|stdout| BufReader::new(stdout).read_line(&mut answer));
        match serde_json::from_str::<hold::Up>(&answer) {
            Ok(up) => Ok(Running { name: up.name, program, holder }),
            Err(_) => {
                let output = holder.wait_with_output().map_err(|error| program.is_not_there(&error))?;
                let said = String::from_utf8_lossy(&output.stderr);
                // One that is older does not know the verb at all.
                let is_another = said.contains("unrecognized subcommand") || said.contains(hold::VERSION_DIFFERS);
                Err(if is_another { program.is_another() } else { Error::of(&output) })
            }
        }
    }

    /// The name by which `netlab` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Probes every path of the lab as `netlab verify` does.
    ///
    /// # Errors
    ///
    /// When a probe fails; the error says which, and has the whole [`Error::report`]. When there was
    /// no probe to try. When the lab has ended.
    pub fn verify(&self) -> Result<Report, Error> {
        self.verify_with(&Options::default())
    }

    /// [`Running::verify`], with options.
    ///
    /// # Errors
    ///
    /// As there; and when no probe is called as [`Options::only`] says.
    pub fn verify_with(&self, options: &Options) -> Result<Report, Error> {
        let report = self.report(options)?;
        if report.passed() { Ok(report) } else { Err(Error::of_probes(report)) }
    }

    /// What the probes show, whether they pass or not.
    ///
    /// # Errors
    ///
    /// When they could not be tried.
    pub fn report(&self, options: &Options) -> Result<Report, Error> {
        self.report_as(options, |text| text)
    }

    /// The report, of whose text something is replaced.
    pub(crate) fn report_as(&self, options: &Options, edit: impl FnOnce(String) -> String) -> Result<Report, Error> {
        let words = ["verify", &self.name, "-o", "json"].map(str::to_owned);
        let output = self.program.call(words.into_iter().chain(options.arguments()), "")?;
        if !matches!(output.status.code(), Some(0 | 1)) {
            return Err(Error::of(&output));
        }
        let text = edit(String::from_utf8_lossy(&output.stdout).into_owned());
        serde_json::from_str(&text)
            .map_err(|error| Error::new(ErrorKind::Bug, format!("netlab verify printed no report: {error}")))
    }

    /// Runs a command in a place of the lab (`host`, a node, a pod, a client) and gives back what it
    /// prints. It must succeed.
    ///
    /// # Errors
    ///
    /// When there is no such place or program, or the command fails; with what it complained about.
    pub fn exec<S: AsRef<OsStr>>(&self, place: &str, command: impl IntoIterator<Item = S>) -> Result<String, Error> {
        let mut words = command.into_iter();
        let Some(program) = words.next() else {
            return Err(Error::new(ErrorKind::Usage, "there is no command to run"));
        };
        let program = program.as_ref();
        let mut command = self.command(place, program);
        let output = command.args(words).stdin(Stdio::null()).output();
        let output = output.map_err(|error| self.program.is_not_there(&error))?;
        let Output { status, stdout, stderr } = &output;
        if !status.success() {
            let complaint = String::from_utf8_lossy(stderr);
            let what = format!("{} in {place}: {status}\n{}", program.to_string_lossy(), complaint.trim());
            return Err(Error::new(ErrorKind::Refused, what.trim_end()));
        }
        Ok(String::from_utf8_lossy(stdout).into_owned())
    }

    /// A command in a place of the lab, yet to be given its arguments and run.
    pub fn command(&self, place: &str, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.program.command(["exec", place, "--lab", &self.name, "--"]);
        command.arg(program);
        command
    }

    /// Makes the lab what this lab file's text says, as `netlab apply` does.
    ///
    /// # Errors
    ///
    /// With every problem of the text; or when the change cannot be made, and then nothing has changed.
    pub fn apply(&self, text: &str) -> Result<(), Error> {
        self.program.ask(["apply", "--lab", &self.name, "-"], text).map(drop)
    }

    /// Makes a pod ready, or not ready, as `netlab ready` does.
    ///
    /// # Errors
    ///
    /// When there is no such pod.
    pub fn ready(&self, pod: &str, ready: bool) -> Result<(), Error> {
        self.tell(["ready".to_owned(), format!("{pod}={ready}")]).map(drop)
    }

    /// Any other verb that takes `--lab`, with its arguments: `lab.tell(["scale", "web", "5"])`. Gives
    /// back what it prints.
    ///
    /// # Errors
    ///
    /// When it fails; with what it complained about.
    pub fn tell<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Result<String, Error> {
        let words: Vec<_> = words.into_iter().map(|word| word.as_ref().to_owned()).collect();
        let lab = ["--lab", &self.name].map(Into::into);
        self.program.ask(words.into_iter().chain(lab), "")
    }

    /// The address of a pod; of one outside the Kubernetes namespace `default`, as POD.NAMESPACE.
    ///
    /// # Errors
    ///
    /// When there is no such pod.
    pub fn pod_address(&self, pod: &str) -> Result<IpAddr, Error> {
        self.address("pods", pod, "ip")
    }

    /// The address of a node on the LAN between the nodes.
    ///
    /// # Errors
    ///
    /// When there is no such node.
    pub fn node_address(&self, node: &str) -> Result<IpAddr, Error> {
        self.address("nodes", node, "ip")
    }

    /// The ClusterIP of a Service; outside the Kubernetes namespace `default`, of SERVICE.NAMESPACE.
    ///
    /// # Errors
    ///
    /// When there is no such Service, or it has none.
    pub fn service_address(&self, service: &str) -> Result<IpAddr, Error> {
        self.address("services", service, "cluster_ip")
    }

    fn address(&self, kind: &str, name: &str, key: &str) -> Result<IpAddr, Error> {
        let text = self.tell(["get", kind, "-o", "json"])?;
        let listed: Value = serde_json::from_str(&text)
            .map_err(|error| Error::new(ErrorKind::Bug, format!("netlab get printed no JSON: {error}")))?;
        let items = listed["items"].as_array().into_iter().flatten();
        let found = items.into_iter().find(|item| full_name(item).as_deref() == Some(name));
        let found = found.ok_or_else(|| {
            Error::new(ErrorKind::Usage, format!("there is no {name} among the {kind} of the lab {}", self.name))
        })?;
        let address = found[key].as_str().unwrap_or_default();
        address.parse().map_err(|_| Error::new(ErrorKind::Usage, format!("{name} has no address: {address:?}")))
    }

    /// Ends the lab, and waits until it has ended. Dropping it does the same, but cannot say what went
    /// wrong.
    ///
    /// # Errors
    ///
    /// When it had ended before, or the kernel does not end it.
    pub fn down(mut self) -> Result<(), Error> {
        let output = self.end().map_err(|error| self.program.is_not_there(&error))?;
        if output.status.success() { Ok(()) } else { Err(Error::of(&output)) }
    }

    fn end(&mut self) -> std::io::Result<Output> {
        drop(self.holder.stdin.take());
        let status = self.holder.wait()?;
        let mut stderr = Vec::new();
        if let Some(mut pipe) = self.holder.stderr.take() {
            std::io::Read::read_to_end(&mut pipe, &mut stderr)?;
        }
        Ok(Output { status, stdout: Vec::new(), stderr })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Who wants to know calls `down`.
        let _ = self.end();
    }
}

/// `NAME`, or `NAME.NAMESPACE` outside the namespace `default`. Pods may be listed so already.
fn full_name(item: &Value) -> Option<String> {
    let name = item["name"].as_str()?;
    match item["namespace"].as_str() {
        None | Some("default") => Some(name.to_owned()),
        Some(namespace) if name.ends_with(&format!(".{namespace}")) => Some(name.to_owned()),
        Some(namespace) => Some(format!("{name}.{namespace}")),
    }
}
