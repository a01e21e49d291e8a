//! A lab in a program: `cargo run --example library`.

use netlab::{Error, Lab, Options};

const SHOP: &str = r#"
    [[node]]
    name = "node1"

    [[pod]]
    name = "web"
    replicas = 2
    labels = { app = "web" }

    [[pod]]
    name = "client"

    [[service]]
    name = "shop"
    selector = { app = "web" }
    ports = [{ port = 80 }]
"#;

pub(crate) fn main() -> Result<(), Error> {
    let lab = Lab::from_toml(SHOP)?.up()?;

    // Any program of this machine runs in a pod; names are the cluster's.
    let answer = lab.exec("client", ["curl", "-s", "http://shop/hello"])?;
    println!("the shop says:\n{answer}");
    assert!(answer.contains("Request path: /hello"));

    // A pod that is not ready gets nothing any more: all answers are the other one's.
    lab.ready("web-0", false)?;
    let other = format!("HTTP Server IP address: {}", lab.pod_address("web-1")?);
    for _ in 0..8 {
        assert!(lab.exec("client", ["curl", "-s", "http://shop/"])?.contains(&other));
    }

    // Everything is still as Kubernetes promises; `?` would print the probes that failed.
    let report = lab.verify_with(&Options::default().only("services"))?;
    println!("{} probes passed", report.probes.len());

    // What is wrong is an error that can be looked at.
    let wrong = SHOP.to_owned()
        + "[[probe]]\nname = \"cats\"\nfrom = \"client\"\nurl = \"http://shop/\"\nexpect = { body_contains = \"cat\" }\n";
    lab.apply(&wrong)?;
    let error = lab.verify_with(&Options::default().only("yours")).expect_err("there are no cats");
    println!("{error}");

    // The lab would end with the value as well, and with this process in any case.
    lab.down()
}
