//! What a pod's processes see of their own: hostname, `/etc/hosts`, `/etc/resolv.conf`.
//!
//! The files are in the nest's private `/run`, and are laid over the host's in the mount
//! namespace of each process; the host's own are never touched.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::mount::{MsFlags, mount};

use super::process::PrivateView;
use crate::{
    error::{Context, Result},
    lab::model::{Lab, Place, Pod, PodId},
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
        fs::write(target, NO_NAMES)?;
    }
    Ok(())
}

/// Lays the lab's own `/etc/hosts` and `/etc/resolv.conf` over the host's, for every place that
/// has no view of its own: machines know each other by name, and ask no name server of the real
/// network, which they could not reach.
///
/// # Errors
///
/// When the private `/run` cannot be written to, or the host forbids the mount.
pub fn lay_over(lab: &Lab) -> Result<()> {
    for (file, text) in [("hosts", machines(lab)), ("resolv.conf", NO_NAMES.to_owned())] {
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

/// Every machine of the lab that is not a pod, by name.
fn machines(lab: &Lab) -> String {
    let mut text = String::from(LOCALHOST);
    for place in lab.places() {
        let ip = match place {
            Place::Host => lab.cluster.gateway,
            Place::Node(id) => lab.node(id).ip,
            Place::Client(id) => lab.client(id).ip.addr(),
            Place::LoadBalancer => match &lab.load_balancer {
                Some(balancer) => balancer.ip,
                None => continue,
            },
            Place::Pod(_) | Place::External(_) => continue,
        };
        text.push_str(&format!("{ip}\t{}\n", lab.netns(place)));
    }
    text
}

/// A resolver without a name server asks 127.0.0.1, where nobody listens: it fails at once.
const NO_NAMES: &str = "# This lab has no DNS.\n";

/// The view of a pod; its files are written when the first process needs them.
///
/// # Errors
///
/// When the private `/run` cannot be written to.
pub fn of(lab: &Lab, id: PodId) -> Result<PrivateView> {
    PrivateView::new(&hostname(lab.pod(id)), &binds(lab, id)?)
}

/// The files to lay over the host's: pairs of a file of the lab's and a path.
///
/// # Errors
///
/// When the private `/run` cannot be written to.
pub fn binds(lab: &Lab, id: PodId) -> Result<Vec<(String, String)>> {
    let pod = lab.pod(id);
    let directory = Path::new(DIRECTORY).join("pods").join(pod.full_name());
    fs::create_dir_all(&directory).context(format!("cannot make {}", directory.display()))?;
    let mut binds = Vec::new();
    for (file, text) in [("hosts", hosts(pod)), ("resolv.conf", NO_NAMES.to_owned())] {
        let over = format!("/etc/{file}");
        if Path::new(&over).exists() {
            let path = directory.join(file);
            write_once(&path, &text).context(format!("cannot write {}", path.display()))?;
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

/// A pod's hostname: its name.
pub fn hostname(pod: &Pod) -> String {
    pod.name.to_string()
}

/// As the kubelet writes it.
fn hosts(pod: &Pod) -> String {
    format!("# Kubernetes-managed hosts file.\n{LOCALHOST}{}\t{}\n", pod.ip, hostname(pod))
}

const LOCALHOST: &str = "127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::0\tip6-localnet\n\
    fe00::0\tip6-mcastprefix\n\
    fe00::1\tip6-allnodes\n\
    fe00::2\tip6-allrouters\n";
