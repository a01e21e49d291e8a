//! What a lab file means: defaults, placement, allocation, references.

use netlab::{
    diag::Colour,
    lab::{
        load, load_named,
        model::{
            Asks, Attach, Host, Lab, Place, PodId, Server, ServiceKind, TargetPort, TrafficDistribution, TrafficPolicy,
        },
    },
    proxy::endpoints::conditions,
};

/// The lab of a text; without a DNS, whose pods and Service are no business of most tests.
fn lab(text: &str) -> Lab {
    let text = if text.contains("[dns]") { text.to_owned() } else { format!("{text}\n[dns]\nengine = \"none\"\n") };
    load(&text).unwrap_or_else(|problems| panic!("{}", problems.render("lab.toml", &text, Colour::Off)))
}

fn pods(lab: &Lab) -> Vec<String> {
    lab.pods.iter().map(|pod| format!("{} {} {}", pod.full_name(), lab.node(pod.node).name, pod.ip)).collect()
}

const WEB: &str = "[[pod]]\nname = \"web\"\nlabels = { app = \"web\" }\n";

/// A lab with one pod and one Service with these further keys.
fn service(keys: &str) -> Lab {
    lab(&format!("{WEB}[[service]]\nname = \"shop\"\nselector = {{ app = \"web\" }}\n{keys}"))
}

#[test]
fn the_name_comes_from_the_file_or_from_the_caller() -> Result<(), Box<dyn std::error::Error>> {
    let name = "by-file-name".parse()?;
    assert_eq!(load_named(WEB, &name)?.name.as_str(), "by-file-name");
    assert_eq!(load_named(&format!("name = \"own\"\n{WEB}"), &name)?.name.as_str(), "own");
    Ok(())
}

#[test]
fn a_bare_pod_is_an_echo_server_on_port_80() {
    let lab = lab(WEB);
    let container = &lab.pods[0].containers[0];
    assert_eq!((container.name.as_str(), &container.server), ("server", &Server::Echo));
    assert_eq!(container.ports.iter().map(|port| port.container_port).collect::<Vec<_>>(), [80]);
    assert_eq!(lab.pods[0].namespace.as_str(), "default");
}

#[test]
fn a_command_listens_only_where_it_says() {
    let lab = lab("[[pod]]\nname = \"a\"\ncommand = [\"sleep\", \"60\"]\n");
    assert!(lab.pods[0].containers[0].ports.is_empty());
}

#[test]
fn containers_without_names_are_numbered() {
    let lab = lab("[[pod]]\nname = \"a\"\ncontainers = [{}, { ports = [{ container_port = 81 }] }]\n");
    let names: Vec<&str> = lab.pods[0].containers.iter().map(|container| container.name.as_str()).collect();
    assert_eq!(names, ["server", "server-2"]);
}

#[test]
fn nodes_have_bridges_unless_routed() {
    let lab =
        lab(&format!("[[node]]\nname = \"a\"\n[[node]]\nname = \"b\"\nattach = \"routed\"\nzone = \"z1\"\n{WEB}"));
    assert!(matches!(&lab.nodes[0].attach, Attach::Bridge(name) if name.as_str() == "br0"));
    assert_eq!(lab.nodes[1].attach, Attach::Routed);
    assert_eq!(lab.nodes[1].zone.as_ref().map(AsRef::as_ref), Some("z1"));
}

#[test]
fn given_places_count_before_others_are_chosen() {
    let lab = lab("
        [[pod]]
        name = \"spread\"
        replicas = 3
        [[pod]]
        name = \"fixed\"
        node = \"node1\"
        replicas = 2
        [[pod]]
        name = \"by-address\"
        ip = \"10.244.1.2\"
    ");
    assert_eq!(
        pods(&lab),
        [
            "spread-0 node2 10.244.1.3",
            "spread-1 node1 10.244.0.2",
            "spread-2 node2 10.244.1.4",
            "fixed-0 node1 10.244.0.3",
            "fixed-1 node1 10.244.0.4",
            "by-address node2 10.244.1.2",
        ]
    );
}

#[test]
fn given_addresses_are_never_allocated() {
    let lab = lab("
        [[node]]
        name = \"a\"
        [[node]]
        name = \"b\"
        ip = \"10.30.45.11\"
        pod_subnet = \"10.244.0.0/24\"
        [[pod]]
        name = \"p\"
        node = \"b\"
        [[pod]]
        name = \"q\"
        ip = \"10.244.0.2\"
    ");
    assert_eq!(lab.nodes[0].ip.to_string(), "10.30.45.12");
    assert_eq!(lab.nodes[0].pod_subnet.to_string(), "10.244.1.0/24");
    assert_eq!(pods(&lab), ["p b 10.244.0.3", "q b 10.244.0.2"]);
}

#[test]
fn names_may_repeat_in_other_namespaces() {
    let lab = lab(&format!("{WEB}[[pod]]\nname = \"web\"\nnamespace = \"prod\"\n"));
    assert_eq!(lab.find("web"), Some(Place::Pod(PodId(0))));
    assert_eq!(lab.find("web.prod"), Some(Place::Pod(PodId(1))));
}

#[test]
fn no_replicas_are_no_pods_but_no_mistake() {
    let lab = lab("
        [[pod]]
        name = \"web\"
        replicas = 0
        labels = { app = \"web\" }
        [[service]]
        name = \"shop\"
        selector = { app = \"web\" }
        ports = [{ port = 80 }]
    ");
    assert!(lab.pods.is_empty());
}

#[test]
fn a_service_has_the_defaults_of_kubernetes() {
    let lab = service("ports = [{ port = 8080 }]");
    let shop = &lab.services[0];
    assert_eq!(shop.kind, ServiceKind::ClusterIp);
    assert_eq!(shop.cluster_ip.map(|ip| ip.to_string()).as_deref(), Some("10.96.1.1"));
    assert_eq!(shop.ports[0].target_port, TargetPort::Number(8080));
    assert_eq!(shop.ports[0].protocol.as_str(), "TCP");
    assert_eq!(shop.ports[0].node_port, None);
    assert_eq!(shop.session_affinity, None);
    assert_eq!(shop.internal_traffic_policy, TrafficPolicy::Cluster);
    assert_eq!(shop.external_traffic_policy, TrafficPolicy::Cluster);
}

#[test]
fn headless_services_need_no_ports() {
    assert_eq!(service("cluster_ip = \"None\"").services[0].cluster_ip, None);
}

#[test]
fn node_ports_avoid_the_given_ones_and_are_shared_between_protocols() {
    let lab = lab(&format!(
        "{WEB}
        [[service]]
        name = \"a\"
        type = \"NodePort\"
        selector = {{ app = \"web\" }}
        ports = [
          {{ name = \"t\", port = 53 }},
          {{ name = \"u\", port = 53, protocol = \"UDP\" }},
          {{ name = \"x\", port = 54 }},
        ]
        [[service]]
        name = \"b\"
        type = \"NodePort\"
        selector = {{ app = \"web\" }}
        ports = [
          {{ name = \"t\", port = 53, protocol = \"UDP\" }},
          {{ name = \"u\", port = 53, node_port = 30086 }},
        ]"
    ));
    let ports = |nth: usize| lab.services[nth].ports.iter().map(|port| port.node_port).collect::<Vec<_>>();
    assert_eq!(ports(0), [Some(30087), Some(30087), Some(30088)]);
    assert_eq!(ports(1), [Some(30086), Some(30086)]);
}

#[test]
fn node_ports_run_out() {
    let services: String = (0..2769)
        .map(|n| {
            format!("[[service]]\nname = \"s{n}\"\ntype = \"NodePort\"\nendpoints = []\nports = [{{ port = 80 }}]\n")
        })
        .collect();
    let problems = load(&format!("{WEB}{services}")).expect_err("there are only 2768 node ports");
    assert_eq!(problems.to_string(), "failed to allocate a nodePort: range is full");
}

#[test]
fn load_balancers() {
    let lab = service(
        "
        type = \"LoadBalancer\"
        external_traffic_policy = \"Local\"
        load_balancer_source_ranges = [\" 192.0.2.0/24 \"]
        session_affinity = \"ClientIP\"
        traffic_distribution = \"PreferClose\"
        publish_not_ready_addresses = true
        ports = [{ port = 80 }]
        ",
    );
    let shop = &lab.services[0];
    assert_eq!(shop.load_balancer_ips.iter().map(ToString::to_string).collect::<Vec<_>>(), ["203.0.113.1"]);
    assert_eq!(shop.ports[0].node_port, Some(30086));
    assert_eq!(shop.health_check_node_port, Some(30087));
    assert_eq!(shop.source_ranges.iter().map(ToString::to_string).collect::<Vec<_>>(), ["192.0.2.0/24"]);
    assert_eq!(shop.session_affinity, Some(10800));
    assert_eq!(shop.traffic_distribution, Some(TrafficDistribution::PreferSameZone));
    assert!(shop.publish_not_ready_addresses);
}

#[test]
fn load_balancer_addresses_are_outside_all_networks() {
    let lab = service(
        "type = \"LoadBalancer\"\nports = [{ port = 80 }]\nexternal_ips = [\"198.51.100.1\"]\n\
         [[client]]\nname = \"laptop\"\nip = \"203.0.113.10/24\"",
    );
    assert_eq!(lab.services[0].load_balancer_ips[0].to_string(), "198.51.100.2");
}

#[test]
fn load_balancers_without_node_ports() {
    let lab = service("type = \"LoadBalancer\"\nallocate_load_balancer_node_ports = false\nports = [{ port = 80 }]");
    assert_eq!(lab.services[0].ports[0].node_port, None);
}

#[test]
fn external_ips_make_a_cluster_ip_service_external() {
    let lab = service("external_ips = [\"10.30.45.11\"]\nexternal_traffic_policy = \"Local\"\nports = [{ port = 80 }]");
    assert!(lab.services[0].externally_accessible());
    assert_eq!(lab.services[0].external_traffic_policy, TrafficPolicy::Local);
}

#[test]
fn endpoints_by_hand() {
    let lab = lab("
        [[service]]
        name = \"outside\"
        endpoints = [{ ip = \"192.0.2.10\" }, { ip = \"10.244.0.2\", node = \"node2\" }]
        ports = [{ port = 80 }]
    ");
    let endpoints: Vec<_> = lab.services[0].endpoints.iter().map(|e| (e.ip.to_string(), e.node.map(|n| n.0))).collect();
    assert_eq!(endpoints, [("192.0.2.10".to_owned(), None), ("10.244.0.2".to_owned(), Some(1))]);
}

#[test]
fn pods_on_the_host_network_have_their_nodes_address() {
    let lab = lab("[[pod]]\nname = \"web\"\nnode = \"node2\"\nhost_network = true\n");
    assert_eq!(pods(&lab), ["web node2 10.30.45.12"]);
    assert_eq!(lab.pod_place(PodId(0)), Place::Node(lab.pods[0].node));
}

#[test]
fn host_ports() {
    let lab =
        lab("[[pod]]\nname = \"web\"\nports = [{ container_port = 80, host_port = 8080, host_ip = \"0.0.0.0\" }]\n\
         [[pod]]\nname = \"api\"\nports = [{ container_port = 80, host_port = 8080, host_ip = \"127.0.0.1\" }]\n");
    let port = |pod: usize| lab.pods[pod].containers[0].ports[0].host_port.clone().map(|port| (port.port, port.ip));
    assert_eq!(port(0), Some((8080, None)));
    assert_eq!(port(1), Some((8080, Some([127, 0, 0, 1].into()))));
}

#[test]
fn probes_name_places_and_get_addresses() {
    let urls = [
        ("http://node2:30080/x?y=z", "http://10.30.45.12:30080/x?y=z"),
        ("http://laptop", "http://192.0.2.10:80/"),
        ("http://web", "http://10.244.0.2:80/"),
        ("http://shop:8080/", "http://10.96.1.1:8080/"),
        ("http://shop.default.svc.cluster.local:8080/", "http://10.96.1.1:8080/"),
        ("http://shop.default:8080?a", "http://10.96.1.1:8080/?a"),
        ("http://localhost:30080/", "http://127.0.0.1:30080/"),
        ("http://host/", "http://10.30.45.1:80/"),
        ("http://198.51.100.7:81/", "http://198.51.100.7:81/"),
    ];
    let probes: String =
        urls.iter().map(|(url, _)| format!("[[probe]]\nfrom = \"node1\"\nurl = \"{url}\"\n")).collect();
    let lab = service(&format!(
        "ports = [{{ port = 8080 }}]\n[[client]]\nname = \"laptop\"\nip = \"192.0.2.10/24\"\n{probes}"
    ));
    for (probe, (written, url)) in lab.probes.iter().zip(urls) {
        assert_eq!((probe.written.as_str(), asked(&probe.asks).as_str()), (written, url));
        assert_eq!(probe.name, format!("node1 asks {written}"));
    }
}

/// A URL with the address in it, or the name that a resolver is asked for.
fn asked(asks: &Asks) -> String {
    let Asks::Http(ask) = asks else { panic!("{asks:?} is no URL") };
    let host = match &ask.to.host {
        Host::Address(ip) => ip.to_string(),
        Host::Name(name) => name.clone(),
    };
    format!("http://{host}:{}{}", ask.to.port, ask.path)
}

#[test]
fn probes_come_from_whom_a_selector_matches() {
    let askers = |from: &str| -> Vec<String> {
        let lab = lab(&format!(
            "[[pod]]\nname = \"web\"\nreplicas = 2\nlabels = {{ app = \"web\" }}\n\
             [[pod]]\nname = \"agent\"\nhost_network = true\nlabels = {{ app = \"agent\" }}\n\
             [[client]]\nname = \"laptop\"\nip = \"192.0.2.10/24\"\n\
             [[external]]\nname = \"api.example.com\"\nip = \"198.51.100.7\"\n\
             [[probe]]\nname = \"x\"\nfrom = {from}\nurl = \"http://api.example.com./\"\n"
        ));
        assert!(lab.probes.iter().all(|probe| asked(&probe.asks) == "http://api.example.com.:80/"));
        lab.probes.iter().map(|probe| probe.name.clone()).collect()
    };
    assert_eq!(askers("\"web-1\""), ["x"]);
    assert_eq!(askers("[\"web-1\"]"), ["x from web-1"]);
    assert_eq!(askers("\"web\""), ["x from web-0", "x from web-1"]);
    assert_eq!(askers("\"pods\""), ["x from web-0", "x from web-1", "x from agent"]);
    assert_eq!(askers("\"pods app!=web\""), ["x from agent"]);
    assert_eq!(askers("[\"pods app in (web)\", \"web-0\"]"), ["x from web-0", "x from web-1"]);
    assert_eq!(
        askers("[\"nodes\", \"clients\", \"host\", \"api.example.com\"]"),
        ["x from node1", "x from node2", "x from laptop", "x from host", "x from api.example.com"]
    );
}

#[test]
fn backends_of_probes_may_be_groups() {
    let lab = lab("
        [[pod]]
        name = \"web\"
        replicas = 2
        [[pod]]
        name = \"api\"
        [[probe]]
        from = \"api\"
        url = \"http://web-1/\"
        expect = { status = 200, backends = [\"web\", \"api\"] }
    ");
    assert_eq!(lab.probes[0].expect.backends, [PodId(0), PodId(1), PodId(2)]);
    assert_eq!(lab.probes[0].from, Place::Pod(PodId(2)));
}

#[test]
fn pods_are_ready_unless_the_file_says_otherwise() {
    let lab = lab("
        [[pod]]
        name = \"a\"
        [[pod]]
        name = \"b\"
        replicas = 2
        ready = false
        [[pod]]
        name = \"c\"
        terminating = true
    ");
    let states: Vec<_> = lab.pods.iter().map(|pod| (pod.ready, pod.terminating)).collect();
    assert_eq!(states, [(true, false), (false, false), (false, false), (true, true)]);
    let known: Vec<_> = conditions(&lab).into_iter().map(|(pod, it)| (pod.0, it.ready, it.terminating)).collect();
    assert_eq!(known, [(1, false, false), (2, false, false), (3, true, true)]);
}

#[test]
fn load_balancer_addresses_are_nobodys_on_the_labs_internet() {
    let lab = service(
        "type = \"LoadBalancer\"\nports = [{ port = 80 }]\n\
         [[external]]\nname = \"api.example.com\"\nip = [\"203.0.113.1\", \"203.0.113.2\"]",
    );
    assert_eq!(lab.services[0].load_balancer_ips[0].to_string(), "203.0.113.3");
}

#[test]
fn a_hostname_is_a_name_below_a_headless_service() {
    let lab = lab("
        [[service]]
        name = \"db\"
        cluster_ip = \"None\"
        selector = { app = \"db\" }
        [[pod]]
        name = \"db\"
        replicas = 2
        labels = { app = \"db\" }
        hostname = \"primary\"
        subdomain = \"db\"
    ");
    let names: Vec<_> = lab.pods.iter().map(|pod| (pod.own_name().as_str(), pod.subdomain.is_some())).collect();
    assert_eq!(names, [("primary", true), ("primary", true)]);
}
