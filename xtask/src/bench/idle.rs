//! What a pod that has nothing to do takes of the agent's memory: what a thousand take more than a
//! hundred, by the pod.

use super::{
    inside::{AGENT_OWN, number, status},
    lab::{IDLE, PROXIES},
    program::{Bench, output},
    table::{Row, Table, Unit},
};
use crate::run::Result;

/// What the rows are under.
pub(crate) const CASE: &str = "memory of idle pods";
/// The slope.
pub(crate) const POD: &str = "a pod";
/// All of the agent at a thousand pods.
pub(crate) const WHOLE: &str = "the agent at 1,000 pods, with what it shares";
/// Its peak.
pub(crate) const PEAK: &str = "the agent at 1,000 pods, at its peak";

/// Brings both labs up in turn.
pub(crate) fn idle(bench: &Bench, rounds: usize, table: &mut Table) -> Result<()> {
    let files = IDLE.iter().map(|grid| bench.grid_file(grid, PROXIES[0])).collect::<Result<Vec<_>>>()?;
    for round in 1..=rounds {
        eprintln!("{CASE}: round {round} of {rounds}");
        let mut own = Vec::new();
        for (grid, file) in IDLE.iter().zip(&files) {
            let name = "bench-idle";
            output(bench.netlab().args(["up", "--quiet", "--name", name]).arg(file))?;
            let status = bench.agent(name).and_then(status);
            output(bench.netlab().args(["down", "--quiet", name]))?;
            let status = status?;
            let kib = number(&status, "RssAnon")?;
            own.push(kib);
            let row = Row::new(CASE, &format!("{AGENT_OWN}, {} pods", grid.size()), Unit::Mebibytes);
            table.add(&row, kib / 1024.0);
            if grid.size() == IDLE[1].size() {
                table.add(&Row::new(CASE, WHOLE, Unit::Mebibytes), number(&status, "VmRSS")? / 1024.0);
                table.add(&Row::new(CASE, PEAK, Unit::Mebibytes), number(&status, "VmHWM")? / 1024.0);
            }
        }
        let pods = f64::from(IDLE[1].size() - IDLE[0].size());
        table.add(&Row::new(CASE, POD, Unit::Kibibytes), (own[1] - own[0]) / pods);
    }
    Ok(())
}
