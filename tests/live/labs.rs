//! Every lab in `labs/` comes up, is verified, and goes down.

use std::{fs, path::Path, sync::Arc};

use crate::{
    support::{Test, World, world::book},
    tests,
};

pub(crate) const TESTS: &[Test] =
    tests![shared: every_lab_of_the_book_passes, the_builtin_client_says_the_same; alone: ];

fn every_lab_of_the_book_passes(world: &Arc<World>) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("labs");
    let entries = fs::read_dir(directory).expect("there are labs");
    let mut files: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    files.retain(|file| file.ends_with(".toml"));
    files.sort();
    assert!(files.len() >= 4, "the book has four labs at least: {files:?}");
    for file in files {
        let lab = world.up(&book(&file));
        lab.verify().succeeds().prints("probes passed");
        lab.down();
    }
}

fn the_builtin_client_says_the_same(world: &Arc<World>) {
    let lab = world.up(&book("nodeport.toml"));
    let verdicts = |engine: &str| {
        let done = lab.verify().args(["--engine", engine, "-o", "json"]).succeeds();
        let report: serde_json::Value = serde_json::from_str(&done.stdout).expect("it is JSON");
        let probes = report["probes"].as_array().expect("a list").iter();
        let verdicts: Vec<String> = probes.map(|probe| format!("{} {}", probe["id"], probe["result"])).collect();
        verdicts
    };
    assert_eq!(verdicts("curl"), verdicts("builtin"));
}
