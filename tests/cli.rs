//! What the program prints when no lab is up: exact output and exit codes, and the plan and
//! the rules of every lab in `labs/`, in `tests/golden/`.

mod support;

use std::{collections::BTreeSet, fs};

use support::{Who, golden, run, top};

/// Commands whose whole output is in `tests/golden/cli.txt`.
const COMMANDS: &[&str] = &[
    "netlab ls",
    "netlab ls -o json",
    "netlab get pods",
    "netlab get labs",
    "netlab describe pod1a",
    "netlab exec pod1a -- true",
    "netlab shell",
    "netlab logs pod1a",
    "netlab rules node1",
    "netlab verify",
    "netlab verify nodeport",
    "netlab verify --samples 9",
    "netlab ready web-1",
    "netlab ready web-1=false",
    "netlab scale web",
    "netlab scale web 2",
    "netlab delete web-1",
    "netlab kill web-1",
    "netlab events",
    "netlab down",
    "netlab down nodeport",
    "netlab down --all",
    "netlab up nowhere.toml",
    "netlab up labs",
    "netlab up --stage nowhere labs/minimal.toml",
    "netlab run labs/minimal.toml",
    "netlab check",
    "netlab check labs/*.toml",
    "netlab check --quiet labs/minimal.toml",
    "echo 'name = 7' | netlab check -",
    "printf '' | netlab check -",
    "printf 'name = \"\\377\"\\n' | netlab check -",
    "printf 'expect = \"invalid\"\n' | netlab check -",
    "printf 'expect = { }\n[[pod]]\nname = \"web\"\n' | netlab check -",
    "netlab test nowhere",
    "mkdir empty && netlab test empty",
    "netlab test --output-file yaml=report.yaml labs",
    "netlab test --output-file junit=nowhere/report.xml labs",
    "printf 'expect = { invalid = \"no pods\" }\n' >stated.toml; netlab test stated.toml | sed 's/[0-9]* ms/# ms/'; netlab test -o tap stated.toml; rm stated.toml",
    "netlab rules node3 --file labs/nodeport.toml",
    "netlab rules node1 --proxy ipvs --file labs/nodeport.toml",
    "netlab plan --stage namespaces labs/minimal.toml | head -n 3",
    "netlab new",
    "netlab new nothing",
    "netlab new grid - --services 2 --endpoints 2 --node-ports 1 --proxy nftables | netlab check - --verbose",
    "netlab new grid --endpoints 7",
    "netlab new minimal --nodes 3",
    "netlab new minimal mine.toml",
    "netlab new minimal mine.toml",
    "netlab check",
    "netlab check mine.toml --verbose",
    "netlab new minimal - | cmp - labs/minimal.toml && echo same",
    "netlab up --dry-run labs/echo.toml | cmp - <(netlab plan labs/echo.toml) && echo same",
    "netlab schema | head -n 4",
    "netlab schema test | head -n 4",
    "netlab completions bash | bash -n && echo good",
    "netlab completions tcsh",
    "netlab --version",
    "netlab nothing",
    "netlab get nothing",
];

#[test]
fn what_is_printed_when_no_lab_is_up() {
    let commands: Vec<String> = COMMANDS.iter().map(|command| format!("{command}; echo \"exit code $?\"")).collect();
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    for who in Who::all() {
        let printed = run(&commands, who);
        let transcript =
            COMMANDS.iter().zip(printed).map(|(command, lines)| format!("$ {command}\n{}\n", lines.join("\n")));
        golden(&top().join("tests/golden/cli.txt"), &transcript.collect::<Vec<_>>().join("\n"));
    }
}

/// What programs may rely on is published.
#[test]
fn schemas_of_reports() {
    let printed = run(&["netlab schema test"], Who::Myself).concat();
    golden(&top().join("docs/test-report.schema.json"), &(printed.join("\n") + "\n"));
}

#[test]
fn plans_and_rules_of_every_lab() {
    let mut commands = Vec::new();
    for lab in labs() {
        commands.push((format!("{lab}.plan"), format!("netlab plan labs/{lab}.toml")));
        for node in ["node1", "node2"] {
            for proxy in ["iptables", "nftables", "ladder"] {
                let command = format!("netlab rules {node} --proxy {proxy} --file labs/{lab}.toml");
                commands.push((format!("{lab}.{node}.{proxy}"), command));
            }
        }
    }
    let texts: Vec<&str> = commands.iter().map(|(_, command)| command.as_str()).collect();
    for ((file, _), lines) in commands.iter().zip(run(&texts, Who::Myself)) {
        golden(&top().join("tests/golden").join(file), &(lines.join("\n") + "\n"));
    }
}

#[test]
fn templates_are_the_labs() {
    let listed = run(&["netlab new"], Who::Myself).concat();
    let listed: BTreeSet<String> =
        listed.iter().skip(1).filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
    let mut expected = labs();
    // The one that is made to measure.
    expected.insert("grid".to_owned());
    assert_eq!(listed, expected);
}

fn labs() -> BTreeSet<String> {
    let files = fs::read_dir(top().join("labs")).expect("there are labs");
    files.filter_map(|file| Some(file.ok()?.path().file_stem()?.to_str()?.to_owned())).collect()
}
