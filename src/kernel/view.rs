//! What the processes of a place see of their own: hostname, `/etc/hosts`, `/etc/resolv.conf`,
//! environment.
//!
//! The files are in the nest's private `/run`, and are laid over the host's in the mount
//! namespace of each process; the host's own are never touched.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use nix::mount::{MsFlags, mount};

use super::{
    events::Events,
    limits, netns,
    process::{Entrance, PrivateView},
};
use crate::{
    agent::protocol::View,
    dns::{
        environment::{Environment, Fitted},
        hosts,
        resolv::Resolver,
    },
    error::{Context, Error, Result},
    lab::model::{Lab, Place, PodId},
};

/// Where the lab's own files are, in its private `/run`.
pub const DIRECTORY: &str = "/run/netlab";
/// The lesson's server, for python to run.
pub const HTTP_SERVER: &str = "/run/netlab/http_server.py";

/// Writes the files that do not depend on a pod.
///
/// # Errors
///
/// When the private `/run` cannot be written to.
pub fn prepare() -> Result<()> {
    fs::create_dir_all(DIRECTORY).context(format!("cannot make {DIRECTORY}"))?;
    fs::write(HTTP_SERVER, include_str!("../../templates/http_server.py"))
        .context(format!("cannot write {HTTP_SERVER}"))?;
    if let Err(error) = resurrect_resolv_conf() {
        // Only name resolution by the host's tools in the outer namespace would miss it.
        eprintln!("cannot stand in for /etc/resolv.conf: {error}");
    }
    Ok(())
}

/// `/etc/resolv.conf` is often a link into `/run`, which is private here: without its target
/// there would be nothing to lay a pod's own file over.
fn resurrect_resolv_conf() -> io::Result<()> {
    let Ok(target) = fs::read_link("/etc/resolv.conf") else { return Ok(()) };
    let target = Path::new("/etc").join(target);
    if !target.exists()
        && let Some(parent) = target.parent()
    {
        fs::create_dir_all(parent)?;
        fs::write(target, Resolver::default().to_string())?;
    }
    Ok(())
}

/// Lays the lab's own `/etc/hosts` and `/etc/resolv.conf` over the host's, for every place that
/// has none of its own: machines know each other by name, and ask no name server of the real
/// network, which they could not reach. `resolv.conf` is that of the lab's outer namespace.
///
/// # Errors
///
/// When the private `/run` cannot be written to, or the host forbids the mount.
pub fn lay_over(lab: &Lab) -> Result<()> {
    for (file, text) in common(lab) {
        let over = format!("/etc/{file}");
        if !Path::new(&over).exists() {
            continue;
        }
        let path = Path::new(DIRECTORY).join(file);
        let what = format!("cannot lay the lab's own file over {over}");
        fs::write(&path, text).context(&what)?;
        mount(Some(&path), over.as_str(), None::<&str>, MsFlags::MS_BIND, None::<&str>).context(&what)?;
    }
    Ok(())
}

/// Tells machines of those that came and went since, and whom to ask now. The files stay those that
/// are laid over.
///
/// # Errors
///
/// When the private `/run` cannot be written to.
pub fn know_again(lab: &Lab) -> Result<()> {
    for (file, text) in common(lab) {
        let path = Path::new(DIRECTORY).join(file);
        if path.exists() {
            fs::write(&path, text).context(format!("cannot write {}", path.display()))?;
        }
    }
    // Pods that stay may have other neighbours on their node now, or another name server. Nothing is taken
    // away: somebody may be on the way in, and has been told which files to lay over others.
    for given in given(lab).iter().filter(|given| given.found().is_some_and(|found| found != given.text)) {
        given.write()?;
    }
    Ok(())
}

/// A file that was written for the programs of a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The network namespace of the place.
    pub netns: String,
    /// Where programs find it.
    pub over: String,
    /// Where it is.
    pub path: PathBuf,
    /// What it should say.
    pub text: String,
}

impl Given {
    /// What it says; `None` if nobody has needed it yet.
    pub fn found(&self) -> Option<String> {
        fs::read(&self.path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Lets it say what it should. It stays the file that is laid over others.
    ///
    /// # Errors
    ///
    /// When the private `/run` cannot be written to.
    pub fn write(&self) -> Result<()> {
        fs::write(&self.path, &self.text).context(format!("cannot write {}", self.path.display()))
    }
}

/// The files for the programs of all places, whether anybody has needed them yet or not.
pub fn given(lab: &Lab) -> Vec<Given> {
    let directory = Path::new(DIRECTORY);
    let etc = |netns: String, directory: &Path, file: &str, text: String| Given {
        netns,
        over: format!("/etc/{file}"),
        path: directory.join(file),
        text,
    };
    let mut all: Vec<Given> =
        common(lab).into_iter().map(|(file, text)| etc(netns::HOST.to_owned(), directory, file, text)).collect();
    for place in lab.present_places() {
        if matches!(place, Place::Pod(_)) {
            continue;
        }
        let (own, netns) = (Resolver::of(lab, place), lab.netns(place));
        let machine = etc(netns.clone(), &directory.join("machines").join(netns), "resolv.conf", own.to_string());
        // One that used to be different may still be laid over the others' for somebody.
        if own != Resolver::of(lab, Place::Host) || machine.path.exists() {
            all.push(machine);
        }
    }
    for pod in lab.pod_ids().filter(|pod| !lab.is_off(lab.pod_place(*pod))) {
        let (netns, directory) = (lab.netns(lab.pod_place(pod)), directory.join("pods").join(lab.pod(pod).full_name()));
        for (file, text) in of_pod_files(lab, pod) {
            all.push(etc(netns.clone(), &directory, file, text));
        }
    }
    let (over, text) = (HTTP_SERVER.to_owned(), include_str!("../../templates/http_server.py").to_owned());
    all.push(Given { netns: netns::HOST.to_owned(), path: PathBuf::from(&over), over, text });
    all
}

fn of_pod_files(lab: &Lab, id: PodId) -> [(&'static str, String); 2] {
    [("hosts", hosts::of_pod(lab, id)), ("resolv.conf", Resolver::of_pod(lab, id).to_string())]
}

/// The files of every place that has none of its own.
fn common(lab: &Lab) -> [(&'static str, String); 2] {
    [("hosts", hosts::of_machines(lab)), ("resolv.conf", Resolver::of(lab, Place::Host).to_string())]
}

/// Forgets the files of a pod or another place that is gone.
pub fn forget(name: &str) {
    for kind in ["pods", "machines"] {
        // It may never have needed any.
        let _ = fs::remove_dir_all(Path::new(DIRECTORY).join(kind).join(name));
    }
}

/// What processes see in a place, by the name of its network namespace, or in a pod on the host
/// network, by its own name. Files are written when they are first needed.
///
/// # Errors
///
/// When there is no such place, or the private `/run` cannot be written to.
pub fn find(lab: &Lab, name: &str) -> Result<View> {
    if let Some(place) = lab.find(name) {
        must_be_on(lab, place)?;
    }
    if let Some(pod) = lab.pod_ids().find(|id| lab.pod(*id).full_name() == name) {
        return of_pod(lab, pod);
    }
    let place = lab.find(name).ok_or_else(|| Error::usage(format!("there is no {name} in this lab")))?;
    let hostname = match place {
        Place::Host => None,
        _ => Some(name.to_owned()),
    };
    let resolver = Resolver::of(lab, place);
    let own = (resolver != Resolver::of(lab, Place::Host)).then(|| ("resolv.conf", resolver.to_string()));
    let binds = binds(&Path::new(DIRECTORY).join("machines").join(name), own)?;
    Ok(View { netns: lab.netns(place), hostname, binds, env: Environment::default() })
}

/// The machine of a place is not powered off.
///
/// # Errors
///
/// When it is.
pub fn must_be_on(lab: &Lab, place: Place) -> Result<()> {
    let node = match place {
        Place::Node(node) => node,
        Place::Pod(pod) => lab.pod(pod).node,
        _ => return Ok(()),
    };
    if !lab.is_off(place) {
        return Ok(());
    }
    let (name, node) = (lab.netns(place), &lab.node(node).name);
    let what = if name == node.as_str() { name } else { format!("{name} is on {node}, which") };
    Err(Error::usage(format!("{what} is stopped")).hint(format!("netlab node start {node}")))
}

/// What the processes of a pod see; its environment is that of its first container.
///
/// # Errors
///
/// When the private `/run` cannot be written to.
pub fn of_pod(lab: &Lab, id: PodId) -> Result<View> {
    let files = of_pod_files(lab, id);
    Ok(View {
        netns: lab.netns(lab.pod_place(id)),
        hostname: Some(hosts::hostname(lab, id).to_owned()),
        binds: binds(&Path::new(DIRECTORY).join("pods").join(lab.pod(id).full_name()), files)?,
        env: Environment::of_container(lab, id, 0),
    })
}

/// What a program of a container finds in its environment. What there is no room for is told of.
pub(super) fn environment(lab: &Lab, (pod, container): (PodId, usize), events: &Events) -> BTreeMap<String, String> {
    let environment = Environment::of_container(lab, pod, container);
    let Fitted { variables, left_out } = environment.within(limits::room_for_services());
    if left_out > 0 {
        let message = format!("{left_out} environment variables about Services are left out: they take too much room");
        events.warning(format!("pod/{}", lab.pod(pod).full_name()), "NoServiceLinks", message);
    }
    variables
}

/// The way into a place, for a process that is to see it like this.
///
/// # Errors
///
/// When there is no such namespace.
pub fn entrance(view: &View) -> Result<Entrance> {
    match &view.hostname {
        None => Entrance::to_netns(&view.netns),
        Some(hostname) => Entrance::to_place(&view.netns, PrivateView::new(hostname, &view.binds)?),
    }
}

/// The files to lay over the host's: pairs of a file of the lab's and a path.
fn binds(directory: &Path, files: impl IntoIterator<Item = (&'static str, String)>) -> Result<Vec<(String, String)>> {
    let mut binds = Vec::new();
    for (file, text) in files {
        let over = format!("/etc/{file}");
        if Path::new(&over).exists() {
            let path = directory.join(file);
            let what = || format!("cannot write {}", path.display());
            fs::create_dir_all(directory).context(what())?;
            write_once(&path, &text).context(what())?;
            binds.push((path.to_string_lossy().into_owned(), over));
        }
    }
    Ok(binds)
}

/// Written under another name first, so that no process ever reads half a file.
fn write_once(path: &PathBuf, text: &str) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let new = path.with_extension(format!("{:?}.new", std::thread::current().id()));
    fs::write(&new, text)?;
    fs::rename(new, path)
}
