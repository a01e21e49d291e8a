//! From a lab and a container to its environment: its hostname, and where the Services of its
//! namespace are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::hosts;
use crate::lab::model::{Lab, PodId, Service};

/// The API server's Service, which every pod is told about.
const MASTER: (&str, &str) = ("default", "kubernetes");

/// What the programs of a place find in their environment, besides what is there anyway.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Environment {
    /// What they find in any case. What the container says itself wins.
    own: BTreeMap<String, String>,
    /// Where the Services of their namespace are.
    links: BTreeMap<String, String>,
}

/// An environment that a program can be started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fitted {
    /// Names and values.
    pub variables: BTreeMap<String, String>,
    /// How many variables about Services there was no room for: none, or all but those of the API server.
    pub left_out: usize,
}

impl Environment {
    /// That of a container.
    pub fn of_container(lab: &Lab, id: PodId, container: usize) -> Self {
        let pod = lab.pod(id);
        let said = &pod.containers[container].env;
        let mut own = BTreeMap::from([("HOSTNAME".to_owned(), hosts::hostname(lab, id).to_owned())]);
        let is_master = |service: &Service| (service.namespace.as_str(), service.name.as_str()) == MASTER;
        own.extend(lab.services.iter().filter(|service| is_master(service)).flat_map(|service| of_service(service)));
        own.extend(said.clone());
        let is_own = |service: &Service| pod.enable_service_links && service.namespace == pod.namespace;
        let mut links: BTreeMap<String, String> =
            lab.services.iter().filter(|service| is_own(service)).flat_map(|service| of_service(service)).collect();
        // A pod's own namespace may have a Service of the API server's name, and that wins; what is the
        // same is there in any case.
        links.retain(|name, value| !said.contains_key(name) && own.get(name) != Some(value));
        Environment { own, links }
    }

    /// All of it if its Services take at most `room` bytes of what the kernel passes to a program, and without them otherwise.
    pub fn within(&self, room: usize) -> Fitted {
        let mut variables = self.own.clone();
        let needed: usize = self.links.iter().map(|(name, value)| passed(name, value)).sum();
        let left_out = if needed > room { self.links.len() } else { 0 };
        if left_out == 0 {
            variables.extend(self.links.clone());
        }
        Fitted { variables, left_out }
    }
}

/// What a variable takes of what execve(2) passes on: `NAME=VALUE`, a NUL, and a pointer to it.
fn passed(name: &str, value: &str) -> usize {
    name.len() + value.len() + 2 + size_of::<usize>()
}

fn of_service(service: &Service) -> Vec<(String, String)> {
    let (Some(ip), Some(first)) = (service.cluster_ip, service.ports.first()) else { return Vec::new() };
    let name = variable(service.name.as_str());
    let mut variables = vec![
        (format!("{name}_SERVICE_HOST"), ip.to_string()),
        (format!("{name}_SERVICE_PORT"), first.port.to_string()),
        // From here on as Docker's links had it.
        (format!("{name}_PORT"), format!("{}://{ip}:{}", first.protocol.lower(), first.port)),
    ];
    for port in &service.ports {
        if let Some(of) = &port.name {
            variables.push((format!("{name}_SERVICE_PORT_{}", variable(of.as_str())), port.port.to_string()));
        }
        let (number, protocol) = (port.port, port.protocol);
        let prefix = format!("{name}_PORT_{number}_{protocol}");
        variables.push((prefix.clone(), format!("{}://{ip}:{number}", protocol.lower())));
        variables.push((format!("{prefix}_PROTO"), protocol.lower().to_owned()));
        variables.push((format!("{prefix}_PORT"), number.to_string()));
        variables.push((format!("{prefix}_ADDR"), ip.to_string()));
    }
    variables
}

fn variable(name: &str) -> String {
    name.replace('-', "_").to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{load, model::Lab};

    const LAB: &str = r#"
        [[pod]]
        name = "web"
        labels = { app = "web" }
        server = "python"
        env = { OWN = "yes", MY_SHOP_PORT = "mine" }
        [[pod]]
        name = "silent"
        enable_service_links = false
        [[pod]]
        name = "stranger"
        namespace = "other"
        labels = { app = "web" }
        [[service]]
        name = "my-shop"
        cluster_ip = "10.96.1.1"
        selector = { app = "web" }
        ports = [{ name = "http-alt", port = 8080 }, { name = "dgram", port = 8080, protocol = "UDP" }]
        [[service]]
        name = "headless"
        cluster_ip = "None"
        selector = { app = "web" }
        ports = [{ port = 80 }]
        [[service]]
        name = "alias"
        type = "ExternalName"
        external_name = "example.org"
        [[service]]
        name = "kubernetes"
        cluster_ip = "10.96.0.1"
        selector = { app = "web" }
        ports = [{ name = "https", port = 443 }]
        [[service]]
        name = "kubernetes"
        namespace = "other"
        cluster_ip = "10.96.1.9"
        selector = { app = "web" }
        ports = [{ port = 1 }]
        "#;

    fn said(lab: &Lab, pod: usize) -> Vec<String> {
        let fitted = Environment::of_container(lab, PodId(pod), 0).within(usize::MAX);
        assert_eq!(fitted.left_out, 0);
        fitted.variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn as_the_kubelet_sets_them() {
        let lab = load(LAB).unwrap();
        assert_eq!(
            said(&lab, 0),
            [
                "HOSTNAME=web",
                "KUBERNETES_PORT=tcp://10.96.0.1:443",
                "KUBERNETES_PORT_443_TCP=tcp://10.96.0.1:443",
                "KUBERNETES_PORT_443_TCP_ADDR=10.96.0.1",
                "KUBERNETES_PORT_443_TCP_PORT=443",
                "KUBERNETES_PORT_443_TCP_PROTO=tcp",
                "KUBERNETES_SERVICE_HOST=10.96.0.1",
                "KUBERNETES_SERVICE_PORT=443",
                "KUBERNETES_SERVICE_PORT_HTTPS=443",
                "MY_SHOP_PORT=mine",
                "MY_SHOP_PORT_8080_TCP=tcp://10.96.1.1:8080",
                "MY_SHOP_PORT_8080_TCP_ADDR=10.96.1.1",
                "MY_SHOP_PORT_8080_TCP_PORT=8080",
                "MY_SHOP_PORT_8080_TCP_PROTO=tcp",
                "MY_SHOP_PORT_8080_UDP=udp://10.96.1.1:8080",
                "MY_SHOP_PORT_8080_UDP_ADDR=10.96.1.1",
                "MY_SHOP_PORT_8080_UDP_PORT=8080",
                "MY_SHOP_PORT_8080_UDP_PROTO=udp",
                "MY_SHOP_SERVICE_HOST=10.96.1.1",
                "MY_SHOP_SERVICE_PORT=8080",
                "MY_SHOP_SERVICE_PORT_DGRAM=8080",
                "MY_SHOP_SERVICE_PORT_HTTP_ALT=8080",
                "OWN=yes",
            ]
        );
    }

    #[test]
    fn without_links_only_the_api_server_is_told() {
        let lab = load(LAB).unwrap();
        let said = said(&lab, 1);
        assert_eq!(said.len(), 9, "{said:?}");
        assert!(said.iter().all(|line| line.starts_with("KUBERNETES_") || line == "HOSTNAME=silent"), "{said:?}");
    }

    #[test]
    fn ones_own_namespace_wins() {
        let lab = load(LAB).unwrap();
        let environment = Environment::of_container(&lab, PodId(2), 0).within(usize::MAX).variables;
        assert_eq!(environment["KUBERNETES_SERVICE_HOST"], "10.96.1.9");
        assert!(!environment.keys().any(|name| name.starts_with("MY_SHOP")), "{environment:?}");
    }

    #[test]
    fn services_that_do_not_fit_are_left_out() {
        let lab = load(LAB).unwrap();
        let environment = Environment::of_container(&lab, PodId(0), 0);
        let needed: usize = environment.links.iter().map(|(name, value)| passed(name, value)).sum();
        let whole = environment.within(needed);
        assert_eq!((whole.variables.len(), whole.left_out), (23, 0));
        let fitted = environment.within(needed - 1);
        // One of them is the container's own.
        assert_eq!(fitted.left_out, 12);
        let names: Vec<&str> = fitted.variables.keys().map(String::as_str).collect();
        assert_eq!(names.len(), 11, "{names:?}");
        assert!(
            names.iter().all(|it| it.starts_with("KUBERNETES_") || ["HOSTNAME", "OWN", "MY_SHOP_PORT"].contains(it))
        );
    }
}
