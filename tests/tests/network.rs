//! A machine in the networks of others: its second card is connected to dnsmasq, in a namespace of its own. What the machine
//! makes of it is told by its own program.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use krazy_tests::fixture::Package;
use krazy_tests::guest::{BOOT_LIMIT, Guest};
use krazy_tests::krazy::Krazy;
use krazy_tests::network::Network;
use krazy_tests::process::succeed;
use krazy_tests::qmp::Qmp;
use krazy_tests::setup::judges;

/// The end of the namespaces in which everything runs, and its interface.
const HERE: usize = 0;
const TAP: &str = "tap0";

/// Prints the state of the network whenever it changes: what programs find in `/etc/resolv.conf`, the second interface's MTU and
/// routes, and the address from which a packet to elsewhere would be sent.
const MAIN: &str = r#"
use std::fs::read_to_string;
use std::net::{Ipv4Addr, UdpSocket};

fn address(hex: &str) -> Ipv4Addr {
    u32::from_str_radix(hex, 16).unwrap_or_default().to_le_bytes().into()
}

fn main() {
    let mut before = String::new();
    loop {
        let text = read_to_string("/etc/resolv.conf").unwrap_or_default();
        let of = |key: &str| text.lines().filter_map(|line| line.strip_prefix(key)).collect::<String>();
        let routes = read_to_string("/proc/net/route").unwrap_or_default();
        let mut routes: Vec<String> = routes.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            (fields[0] == "eth1").then(|| format!("{}>{}", address(fields[1]), address(fields[2])))
        }).collect();
        routes.sort();
        let mtu = read_to_string("/sys/class/net/eth1/mtu").unwrap_or_default();
        let socket = UdpSocket::bind("0.0.0.0:0").expect("no socket");
        let source = socket.connect("198.51.100.1:9").and_then(|()| socket.local_addr());
        let now = format!(
            "network: servers{} search{} mtu {} routes {} source {}",
            of("nameserver"), of("search"), mtu.trim(), routes.join(" "),
            source.map_or("none".to_owned(), |source| source.ip().to_string()),
        );
        if now != before {
            println!("{now} .");
            before = now;
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}
"#;

/// dnsmasq at the other end of the second card's cable.
struct Dnsmasq(Child);

impl Dnsmasq {
    /// Starts it on `address`, as the server of the hosts 50 to 60 in that network of 24 bits.
    fn start(network: &Network, directory: &Path, address: &str, options: &[&str]) -> Result<Self> {
        network.set_address(HERE, TAP, &format!("{address}/24"))?;
        let (net, _) = address.rsplit_once('.').context("no address")?;
        let mut command = judges::command("dnsmasq")?;
        command.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--port=0",
            "--user=root",
            "--no-ping",
        ]);
        command.args(["--bind-interfaces", "--except-interface=lo", "--log-facility=-", "--log-dhcp"]);
        // Without a DNS server of its own it names none by itself.
        command.arg(format!("--dhcp-option=option:dns-server,{address}")).arg(format!("--interface={TAP}"));
        command.arg(format!("--pid-file={}", directory.join("dnsmasq.pid").display()));
        command.arg(format!("--dhcp-leasefile={}", directory.join(format!("leases-{net}")).display()));
        command.arg(format!("--dhcp-range={net}.50,{net}.60,255.255.255.0,2m")).args(options);
        let mut command = network.at(HERE, &command)?;
        Ok(Dnsmasq(command.stdin(Stdio::null()).spawn().context("failed to start dnsmasq")?))
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Waits until the machine tells a state of its network that has all of `words`.
fn wait_for(guest: &mut Guest, limit: Duration, words: &[&str]) -> Result<()> {
    let end = Instant::now() + limit;
    while Instant::now() < end {
        let line = guest.wait_for("network: servers", end.saturating_duration_since(Instant::now()));
        let line = line.with_context(|| format!("waiting for {words:?}"))?;
        if words.iter().all(|word| line.contains(word)) {
            return Ok(());
        }
    }
    bail!("the network is never {words:?}:\n{}", guest.seen())
}

/// Pulls the cable of a card of QEMU and plugs it in again.
fn replug(qmp: &mut Qmp, card: &str) -> Result<()> {
    for up in [false, true] {
        qmp.set_link(card, up)?;
        std::thread::sleep(Duration::from_secs(2));
    }
    Ok(())
}

fn image(krazy: &Krazy) -> Result<PathBuf> {
    let directory = krazy.directory.path();
    let metadata = "[package.metadata.krazy]\nadmind = false\n\n\
                    [package.metadata.krazy.service.networked]\nuser = \"root\"";
    let package = Package::new(directory, "networked", MAIN, metadata)?;
    let image = directory.join("networked.img");
    succeed(krazy.command(["image", "--manifest-path"])?.arg(package.manifest()).arg("-o").arg(&image))?;
    Ok(image)
}

#[test]
fn machine_follows_the_networks_of_foreign_servers() -> Result<()> {
    let krazy = Krazy::new()?;
    let directory = krazy.directory.path();
    let image = image(&krazy)?;
    let network = Network::new()?;
    network.add_tap(HERE, TAP)?;
    let serve = |address: &str, options: &[&str]| Dnsmasq::start(&network, directory, address, options);
    let first = serve(
        "10.78.0.1",
        &[
            "--dhcp-option=option:domain-name,wrong.example",
            "--dhcp-option=option:domain-search,lan.example,example.com",
            "--dhcp-option=option:mtu,1400",
            "--dhcp-option=option:classless-static-route,192.0.2.0/24,10.78.0.9,0.0.0.0/0,10.78.0.1",
        ],
    )?;

    let mut command: Command =
        krazy.command(["run-qemu", "--accel", "tcg", "--timeout", "3000", "--image"])?;
    let monitor = directory.join("qmp");
    command.arg(&image).args(["--", "-netdev"]);
    command.arg(format!("tap,id=lan,ifname={TAP},script=no,downscript=no"));
    command.args(["-device", "virtio-net-pci,netdev=lan,romfile=", "-qmp"]);
    command.arg(format!("unix:{},server=on,wait=off", monitor.display()));
    let mut guest = Guest::start(network.at(HERE, &command)?)?;
    wait_for(
        &mut guest,
        BOOT_LIMIT,
        &[
            " 10.78.0.1 ",
            "search lan.example example.com mtu 1400 ",
            "0.0.0.0>10.78.0.1 ",
            "10.78.0.0>0.0.0.0 ",
            "192.0.2.0>10.78.0.9 ",
            "source 10.0.2.15 ",
        ],
    )?;
    let mut qmp = Qmp::connect(&monitor)?;

    // A route that the server no longer names goes with the next renewal.
    drop(first);
    let second = serve("10.78.0.1", &["--dhcp-authoritative"])?;
    let routes = "routes 0.0.0.0>10.78.0.1 10.78.0.0>0.0.0.0 source";
    wait_for(&mut guest, BOOT_LIMIT, &[routes])?;

    // The preferred card is out: the other one's route and name server are used, and then again the former ones.
    qmp.set_link("net", false)?;
    wait_for(&mut guest, BOOT_LIMIT, &["servers 10.78.0.1 ", "source 10.78.0.5"])?;
    qmp.set_link("net", true)?;
    wait_for(&mut guest, BOOT_LIMIT, &["servers 10.0.2.3", "source 10.0.2.15 "])?;

    // The cable is plugged into another network, whose server rejects the old address.
    drop(second);
    let third = serve("10.79.0.1", &["--dhcp-authoritative"])?;
    replug(&mut qmp, "lan")?;
    wait_for(&mut guest, BOOT_LIMIT, &["routes 0.0.0.0>10.79.0.1 10.79.0.0>0.0.0.0 "])?;

    // And into one whose server has never heard of it and says nothing.
    drop(third);
    let fourth = serve("10.80.0.1", &[])?;
    replug(&mut qmp, "lan")?;
    wait_for(&mut guest, BOOT_LIMIT, &["routes 0.0.0.0>10.80.0.1 10.80.0.0>0.0.0.0 "])?;

    // A single address with a gateway outside of it, as clouds have it.
    drop(fourth);
    let single = ["--dhcp-option=option:netmask,255.255.255.255", "--dhcp-option=option:router,10.99.0.1"];
    let _fifth = serve("10.81.0.1", &[&single[..], &["--dhcp-authoritative"]].concat())?;
    replug(&mut qmp, "lan")?;
    wait_for(&mut guest, BOOT_LIMIT, &["routes 0.0.0.0>10.99.0.1 source"])
}
