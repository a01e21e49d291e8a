//! Edits of texts, read in part and as a whole: the labs are the same, or only the whole says anything.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::lab::load_after;

const REST: &str = "[[node]]\nname = \"node1\"\n\n[[node]]\nname = \"node2\"\n\n[[pod]]\nname = \"web\"\nreplicas = 3\n\
                    labels = { app = \"web\" }\n\n";

fn name() -> Name {
    "lab".parse().expect("a name")
}

fn service(nth: usize, more: &str) -> String {
    format!("[[service]]\nname = \"svc{nth}\"\nselector = {{ app = \"web\" }}\n{more}ports = [{{ port = 80 }}]\n\n")
}

/// The lab of the second text, both ways; the first is that of the lab before.
#[track_caller]
fn check(old: &str, new: &str) -> bool {
    let was = load_after(old, &name(), &Kept::default()).unwrap_or_else(|problems| panic!("{problems:?}"));
    check_after(&was, old, new).is_some()
}

#[track_caller]
fn check_after(was: &Lab, old: &str, new: &str) -> Option<Lab> {
    let whole = load_after(new, &name(), &Kept::of(was));
    let edited = load_edited((old, was), new, &name(), Kept::of);
    if let Some(edited) = &edited {
        let whole = whole.unwrap_or_else(|problems| panic!("only the whole text is wrong: {problems:?}\n{new}"));
        assert_eq!(format!("{edited:#?}"), format!("{whole:#?}"), "\n{old}\nbecomes\n{new}");
    }
    edited
}

#[test]
fn services_come_and_go_and_change() {
    let one = format!("{REST}{}{}", service(1, ""), service(2, ""));
    let three = format!("{one}{}", service(3, ""));
    assert!(check(&one, &three) && check(&three, &one));
    let node_port = format!("{REST}{}{}", service(1, "type = \"NodePort\"\n"), service(2, ""));
    assert!(check(&one, &node_port) && check(&node_port, &one));
    let first = format!("{REST}{}{}{}", service(0, ""), service(1, ""), service(2, ""));
    assert!(check(&one, &first) && check(&first, &one));
    // What comes after moves with them.
    let before_pods = format!("{}{}{REST}", service(1, ""), service(2, "labels.a = \"b\"\n"));
    assert!(check(&before_pods, &format!("{}{before_pods}", service(3, ""))));
    assert!(!check(&before_pods, &format!("name = \"lab\"\n{before_pods}")));
}

#[test]
fn the_rest_is_read_as_a_whole() {
    let one = format!("{REST}{}", service(1, ""));
    let check_not = |what: &str, old: &str, new: &str| assert!(!check(old, new), "{what}");
    let more = |text: &str| format!("{one}{text}");
    check_not("a pod", &one, &more("[[pod]]\nname = \"x\"\n"));
    check_not("a load balancer", &one, &more(&service(2, "type = \"LoadBalancer\"\n")));
    check_not("an address outside", &one, &more(&service(2, "external_ips = [\"203.0.113.9\"]\n")));
    let long = more(&service(2, "labels = { a = \"\"\"b\"\"\" }\n"));
    check_not("long strings", &long, &format!("{long}{}", service(3, "")));
    check_not("another way to write it", &one, &more("[\"service\".x]\n"));
    let probe = "[[probe]]\nfrom = \"web-0\"\nurl = \"http://svc1/\"\n";
    let probed = format!("{REST}{}{probe}", service(1, ""));
    check_not("a probe", &probed, &format!("{REST}{}{}{probe}", service(1, ""), service(2, "")));
    for wrong in [
        service(1, ""),
        service(2, "cluster_ip = \"10.96.1.300\"\n"),
        service(2, "cluster_ip = \"10.96.0.10\"\n"),
        service(2, "selectr = 1\n"),
        service(2, "").replace("web", "nobody"),
        "[[service]]\nname = \"x\"\nendpoints = [{ ip = \"10.96.1.0\" }]\nports = [{ port = 80 }]\n".to_owned(),
        "[[service]\n".to_owned(),
        "[service]\nname = \"x\"\n".to_owned(),
    ] {
        check_not("what is wrong", &one, &more(&wrong));
    }
}

#[test]
fn what_another_has_is_not_given_again() {
    let one = format!("{REST}{}", service(1, "type = \"NodePort\"\n"));
    let was = load_after(&one, &name(), &Kept::default()).expect("it is good");
    let ip = was.services[0].cluster_ip.expect("it has one");
    let port = was.services[0].ports[0].node_port.expect("it has one");
    // Who asks for it by number gets it, and the other one gets something else.
    let by_number = format!("{one}{}", service(2, &format!("cluster_ip = \"{ip}\"\n")));
    assert!(!check(&one, &by_number));
    let node_port = format!("ports = [{{ port = 80, node_port = {port} }}]");
    let by_port = service(2, "type = \"NodePort\"\n").replace("ports = [{ port = 80 }]", &node_port);
    assert!(!check(&one, &format!("{one}{by_port}")));
}

#[test]
fn any_edit_of_services() {
    for seed in 0..30 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut services: Vec<String> = (0..6).map(|nth| service(nth, "")).collect();
        let text = |services: &[String]| format!("{REST}{}", services.concat());
        let mut old = text(&services);
        let mut was = load_after(&old, &name(), &Kept::default()).expect("it is good");
        let mut edits = 0;
        for step in 0..12 {
            let at = random.random_range(0..=services.len());
            let more = ["", "type = \"NodePort\"\n", "cluster_ip = \"None\"\n", "labels = { a = \"b\" }\n# said\n"];
            let fresh = service(100 + step, more[random.random_range(0..more.len())]);
            match random.random_range(0..4) {
                0 if at < services.len() => _ = services.remove(at),
                1 if at < services.len() => {
                    services[at] = services[at].replace("port = 80 ", &format!("port = {} ", 81 + step));
                }
                _ => services.insert(at, fresh),
            }
            let new = text(&services);
            edits += usize::from(check_after(&was, &old, &new).is_some());
            was = load_after(&new, &name(), &Kept::of(&was)).expect("it is good");
            old = new;
        }
        assert_eq!(edits, 12, "seed {seed}");
    }
}
