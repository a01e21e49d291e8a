//! From a lab and a container to its environment: its hostname, and where the Services of its
//! namespace are.

use std::collections::BTreeMap;

use super::hosts;
use crate::lab::model::{Lab, PodId, Service};

/// The API server's Service, which every pod is told about.
const MASTER: (&str, &str) = ("default", "kubernetes");

/// What the programs of a container find in their environment. What the container says itself wins.
pub fn of_container(lab: &Lab, pod: PodId, container: usize) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::from([("HOSTNAME".to_owned(), hosts::hostname(lab, pod).to_owned())]);
    environment.extend(of_services(lab, pod));
    environment.extend(lab.pod(pod).containers[container].env.clone());
    environment
}

/// The variables about Services, as the kubelet sets them.
fn of_services(lab: &Lab, pod: PodId) -> impl Iterator<Item = (String, String)> + '_ {
    let pod = lab.pod(pod);
    let own = |service: &Service| pod.enable_service_links && service.namespace == pod.namespace;
    let master = |service: &Service| (service.namespace.as_str(), service.name.as_str()) == MASTER;
    // What is said last wins: a pod's own namespace may have a Service of the API server's name.
    let masters = lab.services.iter().filter(move |service| master(service));
    masters.chain(lab.services.iter().filter(move |service| own(service))).flat_map(|service| of_service(service))
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
        let environment = of_container(lab, PodId(pod), 0);
        environment.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
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
        let environment = of_container(&lab, PodId(2), 0);
        assert_eq!(environment["KUBERNETES_SERVICE_HOST"], "10.96.1.9");
        assert!(!environment.keys().any(|name| name.starts_with("MY_SHOP")), "{environment:?}");
    }
}
