//! Names of a lab that has become another one: those that are made of the names before, and those that
//! are made anew.

use super::super::zone::Zone;
use crate::{
    lab::{Turn, model::Lab},
    proxy::endpoints::conditions,
};

fn lab() -> Lab {
    let mut lab = super::lab();
    lab.load_balancer = None;
    lab
}

#[track_caller]
fn check(old: &Lab, new: &Lab, is_small: bool) {
    let whole = |lab: &Lab| Zone::new(lab, lab.dns.as_ref().expect("it has DNS"), &conditions(lab));
    let (before, whole) = (whole(old), whole(new));
    let after = before.after(old, new);
    assert_eq!(after.is_some(), is_small);
    assert_eq!(after.as_ref().unwrap_or(&whole).all(), whole.all());
}

#[test]
fn a_service_comes_and_goes_and_changes() {
    let lab = lab();
    let dns = lab.dns.as_ref().expect("it has DNS").service;
    for at in (0..lab.services.len()).filter(|at| *at != dns.0) {
        let mut less = lab.clone();
        less.services.remove(at);
        let dns = less.services.iter().position(|it| it.name.as_str() == "kube-dns").expect("it is there");
        less.dns.as_mut().expect("it has DNS").service.0 = dns;
        let alone = |lab: &Lab| lab.services.iter().any(|it| it.namespace == super::lab().services[at].namespace);
        check(&lab, &less, alone(&less));
        check(&less, &lab, alone(&less));
        let mut other = lab.clone();
        other.services[at].selector.clear();
        other.services[at].ports.iter_mut().for_each(|port| port.port += 1);
        check(&lab, &other, true);
        assert!(Turn::between(&lab, &other).is_some());
    }
    let mut other = lab.clone();
    other.pods[0].labels.clear();
    check(&lab, &other, false);
    let mut other = lab.clone();
    other.services[0].namespace = "elsewhere".parse().expect("a name");
    check(&lab, &other, false);
}
