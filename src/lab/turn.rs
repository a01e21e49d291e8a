//! Two labs → the few Services in which they differ, if they differ in nothing else: what follows from the
//! others is as it was.

use std::ops::Range;

use super::model::{Common, Lab};

/// The Services that are not the same objects in both labs, by their places there. Those before them
/// have the same places in both, and those after them follow in the same order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// In the lab before.
    pub old: Range<usize>,
    /// In the lab after.
    pub new: Range<usize>,
}

/// More Services at once are no small turn.
const MOST: usize = 64;

impl Turn {
    /// From one lab to another one. Neither has anybody in front of its nodes, which follows from all
    /// Services.
    pub fn between(old: &Lab, new: &Lab) -> Option<Self> {
        let (was, is) = (&old.services, &new.services);
        let head = was.iter().zip(is).take_while(|(one, other)| Common::is_same(one, other)).count();
        let rest = was[head..].iter().rev().zip(is[head..].iter().rev());
        let tail = rest.take_while(|(one, other)| Common::is_same(one, other)).count();
        let turn = Turn { old: head..was.len() - tail, new: head..is.len() - tail };
        let small = turn.old.len() <= MOST && turn.new.len() <= MOST;
        (small && old.load_balancer.is_none() && new.load_balancer.is_none() && rest_is_alike(old, new)).then_some(turn)
    }
}

/// Whatever Services and their names depend on.
fn rest_is_alike(old: &Lab, new: &Lab) -> bool {
    let pods = old.pods.len() == new.pods.len() && old.pods.iter().zip(&new.pods).all(|(one, it)| one.is_like(it));
    let dns = |lab: &Lab| {
        let it = lab.dns.as_ref()?;
        Some(format!("{:?}", (it.engine, it.ip, &it.upstream, it.ttl, it.pod_records, it.external_names)))
    };
    let rest = |lab: &Lab| format!("{:?} {:?} {:?}", lab.cluster, lab.nodes, dns(lab));
    pods && rest(old) == rest(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::load;

    const LAB: &str = "[[pod]]\nname = \"web\"\nlabels = { app = \"web\" }\n\n[[service]]\nname = \"a\"\nselector = { app = \"web\" }\n\
                       ports = [{ port = 80 }]\n[[service]]\nname = \"b\"\nselector = { app = \"web\" }\nports = [{ port = 80 }]\n";

    #[test]
    fn what_is_the_same_object_is_left_out() {
        let old = load(LAB).unwrap_or_else(|problems| panic!("{problems:?}"));
        assert_eq!(Turn::between(&old, &old.clone()), Some(Turn { old: 3..3, new: 3..3 }));
        let mut new = old.clone();
        new.services.insert(1, (*old.services[0]).clone().into());
        assert_eq!(Turn::between(&old, &new), Some(Turn { old: 1..1, new: 1..2 }));
        assert_eq!(Turn::between(&new, &old), Some(Turn { old: 1..2, new: 1..1 }));
        let mut new = old.clone();
        new.services[2].ports.clear();
        assert_eq!(old.services[2].ports.len(), 3, "the other lab has its own");
        assert_eq!(Turn::between(&old, &new), Some(Turn { old: 2..3, new: 2..3 }));
        new.pods[0].ready = false;
        assert_eq!(Turn::between(&old, &new), None);
    }
}
