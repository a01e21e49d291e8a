//! `verify --evidence`: what is kept of a failed probe shows where its packet was lost.

use std::{collections::BTreeMap, fs, path::Path, path::PathBuf, sync::Arc};

use pcap_file::pcapng::{Block, PcapNgReader, blocks::interface_description::InterfaceDescriptionOption};

use crate::{
    support::{Lab, Test, World, world::book},
    tests,
};

pub(crate) const TESTS: &[Test] = tests![
    shared: a_lost_packet_is_shown, a_good_lab_leaves_an_empty_folder, a_folder_that_is_used_is_refused;
    alone:
];

/// How many packets each interface saw, by `NAMESPACE/NAME`.
fn packets(file: &Path) -> BTreeMap<String, usize> {
    let mut reader = PcapNgReader::new(fs::File::open(file).expect("the packets")).expect("a pcapng file");
    let mut names = Vec::new();
    let mut seen = BTreeMap::new();
    while let Some(block) = reader.next_block() {
        match block.expect("a block") {
            Block::InterfaceDescription(interface) => names.extend(interface.options.iter().find_map(|it| match it {
                InterfaceDescriptionOption::IfName(name) => Some(name.to_string()),
                _ => None,
            })),
            Block::EnhancedPacket(packet) => *seen.entry(names[packet.interface_id as usize].clone()).or_default() += 1,
            _ => {}
        }
    }
    seen
}

fn kept(lab: &Lab, name: &str, only: &str) -> (PathBuf, Vec<PathBuf>) {
    let folder = lab.world.file(name, "");
    fs::remove_file(&folder).expect("it is there");
    let path = folder.to_string_lossy().into_owned();
    let words = ["verify", &lab.name, "--only", only, "--engine", "builtin", "--evidence", &path];
    lab.world.netlab(words).fails(1).prints(&format!("evidence {path}/01-"));
    let mut folders: Vec<PathBuf> =
        fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    folders.sort();
    (folder, folders)
}

fn a_lost_packet_is_shown(world: &Arc<World>) {
    for proxy in ["iptables", "nftables"] {
        let lab = world.up(&book("nodeport.toml").replace("[cluster]\n", &format!("[cluster]\nproxy = \"{proxy}\"\n")));
        lab.script("node2", "ip link set veth-pod2 down").succeeds();
        let (_, folders) = kept(&lab, proxy, "pods/pod1a/pod/pod2:80");
        let [folder] = folders.as_slice() else { panic!("one probe failed: {folders:?}") };
        let file = folder.join("packets.pcapng");
        let seen = packets(&file);
        for there in ["pod1a/eth0", "node1/br0", "node1/eth0", "host/veth-node2", "node2/eth0"] {
            assert!(seen.contains_key(there), "{there} saw nothing: {seen:?}");
        }
        assert!(!seen.contains_key("pod2/eth0"), "the packet was not lost: {seen:?}");
        // An independent reader.
        let file = file.to_string_lossy().into_owned();
        let text = world.program("tcpdump").args(["-nr", &file]).succeeds();
        text.prints("192.168.2.20.80: Flags [S]");
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(read("probe.txt").contains("expected  an answer from pod2"), "{}", read("probe.txt"));
        assert!(read("probe.txt").contains("node2/eth0"), "{}", read("probe.txt"));
        assert!(read("node1.rules.txt").contains("KUBE-SERVICES") || read("node1.rules.txt").contains("service-ips"));
        assert!(read("node2.network.txt").contains("192.168.2.0/24 dev br0"), "{}", read("node2.network.txt"));
        assert!(read("node1.conntrack.txt").contains("[UNREPLIED]"), "{}", read("node1.conntrack.txt"));
        assert!(read("trace.txt").contains("pod2"), "{}", read("trace.txt"));
    }
}

fn a_good_lab_leaves_an_empty_folder(world: &Arc<World>) {
    let lab = world.up(&book("minimal.toml"));
    let folder = world.file("good", "");
    fs::remove_file(&folder).expect("it is there");
    let path = folder.to_string_lossy().into_owned();
    let words = ["verify", &lab.name, "--only", "pods", "--engine", "builtin", "--evidence", &path];
    world.netlab(words).succeeds().does_not_print("evidence");
    assert_eq!(fs::read_dir(&folder).expect("a folder").count(), 0);
}

fn a_folder_that_is_used_is_refused(world: &Arc<World>) {
    let lab = world.up(&book("minimal.toml"));
    let file = world.file("mine", "precious");
    let folder = file.parent().expect("a folder").to_string_lossy().into_owned();
    let words = ["verify", &lab.name, "--evidence", &folder];
    world.netlab(words).fails(2).complains("is not empty");
    assert_eq!(fs::read_to_string(file).expect("it is there"), "precious");
    world.netlab(["verify", &lab.name, "--evidence", "/proc/evidence"]).fails(2).complains("cannot make the folder");
}
