//! From a lab and a place in it to the `/etc/hosts` there, and to what the place calls itself.

use crate::lab::model::{Lab, Place, PodId};

/// What a pod's programs are told that their machine is called. One on the host network is on its
/// node's machine.
pub fn hostname(lab: &Lab, id: PodId) -> &str {
    let pod = lab.pod(id);
    if pod.host_network { lab.node(pod.node).name.as_str() } else { pod.own_name().as_str() }
}

/// The file of a pod, as the kubelet writes it.
pub fn of_pod(lab: &Lab, id: PodId) -> String {
    let pod = lab.pod(id);
    if pod.host_network {
        return format!("# Kubernetes-managed hosts file (host network).\n{}", of_machines(lab));
    }
    let name = pod.own_name();
    let names = match &pod.subdomain {
        Some(subdomain) => {
            format!("{name}.{subdomain}.{}.svc.{}\t{name}", pod.namespace, lab.cluster.domain)
        }
        None => name.to_string(),
    };
    format!("# Kubernetes-managed hosts file.\n{LOCALHOST}{}\t{names}\n", pod.ip)
}

/// The file of every machine that is not a pod: all of those know each other by name.
pub fn of_machines(lab: &Lab) -> String {
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
            // The names of the lab's internet are for its name server to tell.
            Place::Pod(_) | Place::External(_) => continue,
        };
        text.push_str(&format!("{ip}\t{}\n", lab.netns(place)));
    }
    text
}

const LOCALHOST: &str = "127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::0\tip6-localnet\n\
    fe00::0\tip6-mcastprefix\n\
    fe00::1\tip6-allnodes\n\
    fe00::2\tip6-allrouters\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::load;

    const LAB: &str = r#"
        [[pod]]
        name = "plain"
        node = "node1"
        [[pod]]
        name = "db-0"
        node = "node2"
        hostname = "first"
        subdomain = "db"
        namespace = "shop"
        labels = { app = "db" }
        [[pod]]
        name = "db-1"
        node = "node1"
        subdomain = "db"
        labels = { app = "db" }
        [[pod]]
        name = "agent"
        node = "node2"
        host_network = true
        [[service]]
        name = "db"
        namespace = "shop"
        cluster_ip = "None"
        selector = { app = "db" }
        [[service]]
        name = "db"
        cluster_ip = "None"
        selector = { app = "db" }
        [[client]]
        name = "laptop"
        ip = "192.0.2.10/24"
        "#;

    #[test]
    fn a_pod_knows_itself() {
        let lab = load(LAB).unwrap();
        let last = |id| of_pod(&lab, PodId(id)).lines().last().unwrap().to_owned();
        assert_eq!(last(0), "10.244.0.2\tplain");
        assert_eq!(last(1), "10.244.1.2\tfirst.db.shop.svc.cluster.local\tfirst");
        assert_eq!(last(2), "10.244.0.3\tdb-1.db.default.svc.cluster.local\tdb-1");
        assert_eq!((hostname(&lab, PodId(1)), hostname(&lab, PodId(3))), ("first", "node2"));
        assert_eq!(of_pod(&lab, PodId(0)).lines().next(), Some("# Kubernetes-managed hosts file."));
    }

    #[test]
    fn on_the_host_network_it_has_the_nodes_file() {
        let lab = load(LAB).unwrap();
        let text = of_pod(&lab, PodId(3));
        assert_eq!(text, format!("# Kubernetes-managed hosts file (host network).\n{}", of_machines(&lab)));
        assert!(text.ends_with("10.30.45.1\thost\n10.30.45.11\tnode1\n10.30.45.12\tnode2\n192.0.2.10\tlaptop\n"));
    }
}
