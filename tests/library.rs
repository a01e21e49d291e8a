//! Labs in a test, as a user of the library has them.

#[path = "executable/mod.rs"]
mod executable;

use std::process::Command;

use netlab::{Error, ErrorKind, Lab, Options};

const SHOP: &str = r#"
    [dns]
    engine = "none"

    [[node]]
    name = "node1"

    [[pod]]
    name = "web"
    labels = { app = "web" }

    [[service]]
    name = "shop"
    selector = { app = "web" }
    ports = [{ port = 80 }]
"#;

#[test]
fn three_lines() -> Result<(), Error> {
    Lab::from_toml(SHOP)?.up()?.verify()?;
    Ok(())
}

#[test]
fn what_a_running_lab_can_be_asked() -> Result<(), Error> {
    let lab = Lab::from_toml(SHOP)?.with_name(format!("library-{}", std::process::id())).up()?;
    assert_eq!(lab.name(), format!("library-{}", std::process::id()));
    assert_eq!(
        lab.pod_address("web")?,
        lab.exec("web", ["hostname", "-i"])?.trim().parse::<std::net::IpAddr>().expect("an address")
    );
    assert_eq!(lab.service_address("shop")?.to_string(), "10.96.1.1");
    assert!(lab.node_address("node1").is_ok());
    assert!(lab.pod_address("cat").expect_err("no cat").to_string().contains("there is no cat among the pods"));

    let failed = lab.exec("web", ["sh", "-c", "echo no luck >&2; exit 7"]).expect_err("it fails");
    assert!(failed.to_string().contains("exit status: 7\nno luck"), "{failed}");
    let output = lab.command("web", "sh").args(["-c", "echo here"]).output().expect("netlab can be run");
    assert_eq!(output.stdout, b"here\n");

    lab.ready("web", false)?;
    assert!(lab.tell(["get", "pods"])?.contains("0/1"));
    lab.ready("web", true)?;
    let nothing = lab.verify_with(&Options::default().only("cats")).expect_err("there are none");
    assert_eq!(nothing.kind(), ErrorKind::Usage);

    let again = Lab::from_toml(SHOP)?.with_name(lab.name()).up().expect_err("it is up");
    assert!(again.to_string().contains("is up already"), "{again}");
    let name = lab.name().to_owned();
    lab.down()?;
    // It has ended, so that its name is free.
    Lab::from_toml(SHOP)?.with_name(name).up()?.down()
}

/// The error is the probes that failed, however it is printed.
#[test]
fn a_probe_that_fails() -> Result<(), Error> {
    let text = SHOP.to_owned()
        + "[[probe]]\nname = \"a cat\"\nfrom = \"node1\"\nurl = \"http://shop/\"\nexpect = { body_contains = \"cat\" }\n";
    let lab = Lab::from_toml(text)?.up()?;
    let error = lab.verify_with(&Options::default().only("yours").builtin_client()).expect_err("there is no cat");
    assert_eq!(error.kind(), ErrorKind::Probe);
    assert_eq!(error.report().map(|report| report.probes.len()), Some(1));
    assert_eq!(format!("{error:?}"), error.to_string());
    for part in ["1 of 1 probes failed", "yours/a cat", "expected a body with \"cat\""] {
        assert!(error.to_string().contains(part), "{error}");
    }
    Ok(())
}

#[test]
fn a_lab_that_does_not_come_up() -> Result<(), Error> {
    let text = SHOP.replace(
        "labels",
        "command = [\"sh\", \"-c\", \"echo no luck; exit 3\"]\n    ports = [{ container_port = 80 }]\n    labels",
    );
    let error = Lab::from_toml(text)?.up().expect_err("the server ends");
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("the server of web ended with exit code 3: no luck"), "{error}");
    let error = Lab::from_toml(SHOP)?.with_name("No Name").up().expect_err("no name");
    assert!(error.to_string().contains("\"No Name\" cannot be the name of a lab"), "{error}");
    Ok(())
}

/// The program must be there, and be of the library's version.
#[test]
fn another_program() -> Result<(), Error> {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = Lab::from_toml(SHOP)?.with_program(folder.path().join("netlab")).up().expect_err("no program");
    assert_eq!(missing.kind(), ErrorKind::Host);
    // One from before there were libraries; and what one from later on will be told.
    let old = folder.path().join("old");
    executable::script(&old, "#!/bin/sh\necho \"error: unrecognized subcommand 'hold'\" >&2\nexit 2\n");
    let error = Lab::from_toml(SHOP)?.with_program(&old).up().expect_err("too old");
    assert!(error.to_string().contains(&format!("is not netlab {}", env!("CARGO_PKG_VERSION"))), "{error}");
    let later = "echo '{\"version\": \"999.0.0\", \"what\": 1}' | \"$0\" hold";
    let output = Command::new("sh").args(["-c", later, env!("CARGO_BIN_EXE_netlab")]).output().expect("sh");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("of different versions"));
    Ok(())
}
