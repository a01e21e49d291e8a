//! A lab that is up.

use std::sync::Arc;

use serde_json::Value;

use super::{
    call::{Call, Done},
    process::Marked,
    world::World,
};

/// A lab that is up; it is taken down when it goes out of scope.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) world: Arc<World>,
    pub(crate) name: String,
}

impl Lab {
    pub(super) fn new(world: Arc<World>, name: String) -> Self {
        Lab { world, name }
    }

    /// A call of a program in a place of the lab.
    pub(crate) fn exec<S: AsRef<str>>(&self, place: &str, command: impl IntoIterator<Item = S>) -> Call {
        self.world.netlab(["exec", place, "--lab", &self.name, "--"]).args(command)
    }

    /// A call of a shell script in a place of the lab.
    pub(crate) fn script(&self, place: &str, script: &str) -> Call {
        self.exec(place, ["sh", "-ec", script])
    }

    /// A call of `netlab verify`, with a false-alarm rate that a hundred calls a day can bear.
    pub(crate) fn verify(&self) -> Call {
        self.world.netlab(["verify", &self.name, "--alpha", "0.000001"])
    }

    /// What `netlab verify` reports, and its exit code.
    pub(crate) fn report(&self) -> (Value, Done) {
        let done = self.verify().args(["-o", "json"]).done();
        let report = serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error} in {done}"));
        (report, done)
    }

    /// Its directory on the host.
    pub(crate) fn directory(&self) -> std::path::PathBuf {
        match self.world.user.uid() {
            0 => format!("/run/netlab/{}", self.name).into(),
            uid => format!("/tmp/netlab-{uid}/{}", self.name).into(),
        }
    }

    /// Its agent, as this host sees it.
    pub(crate) fn agent(&self) -> Marked {
        let agents = self.world.processes().into_iter().filter(Marked::is_agent);
        let mut agents = agents.filter(|agent| agent.arguments.get(2) == Some(&self.name));
        agents.next().unwrap_or_else(|| panic!("the lab {} has no agent", self.name))
    }

    /// Takes it down, and sees that it has gone at once.
    pub(crate) fn down(self) {
        self.world.netlab(["down", &self.name]).succeeds().prints(&format!("{} is down", self.name));
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // It may be down already, which is fine with `down` too.
        let _ = self.world.netlab(["down", &self.name]).done();
    }
}
