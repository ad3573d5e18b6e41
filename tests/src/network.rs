//! Two network namespaces with a cable between them, for programs that use a local network.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;

use crate::process::succeed;
use crate::setup::judges;

/// The addresses of the two ends.
pub const ADDRESSES: [&str; 2] = ["10.77.0.1", "10.77.0.5"];

/// Two network namespaces (network_namespaces(7)). They are deleted when this value is dropped.
#[derive(Debug)]
pub struct Network {
    names: [String; 2],
}

impl Network {
    /// Makes both namespaces, with [`ADDRESSES`].
    pub fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let names = ["a", "b"].map(|end| format!("krazy-{}-{number}{end}", std::process::id()));
        let network = Network { names };
        for name in &network.names {
            ip(&["netns", "add", name])?;
        }
        let [first, second] = &network.names;
        ip(&["-n", first, "link", "add", "lan0", "type", "veth", "peer", "name", "lan0", "netns", second])?;
        for (name, address) in network.names.iter().zip(ADDRESSES) {
            ip(&["-n", name, "address", "add", &format!("{address}/24"), "dev", "lan0"])?;
            ip(&["-n", name, "link", "set", "lan0", "up"])?;
        }
        Ok(network)
    }

    /// Makes a network interface at one end whose cable is a machine's: the network `tap` of QEMU.
    pub fn add_tap(&self, end: usize, name: &str) -> Result<()> {
        self.ip(end, &["tuntap", "add", "dev", name, "mode", "tap"])?;
        self.ip(end, &["link", "set", name, "up"])
    }

    /// Gives an interface at one end this address with prefix length, and no other.
    pub fn set_address(&self, end: usize, interface: &str, address: &str) -> Result<()> {
        self.ip(end, &["-4", "address", "flush", "dev", interface])?;
        self.ip(end, &["address", "add", address, "dev", interface])
    }

    fn ip(&self, end: usize, arguments: &[&str]) -> Result<()> {
        ip(&[&["netns", "exec", &self.names[end], "ip"], arguments].concat())
    }

    /// Returns a command that runs `command` at one end. Set `Command::env` and the like on the result.
    pub fn at(&self, end: usize, command: &Command) -> Result<Command> {
        let mut wrapped = judges::command("ip")?;
        wrapped.args(["netns", "exec", &self.names[end]]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(name, value),
                None => wrapped.env_remove(name),
            };
        }
        if let Some(directory) = command.get_current_dir() {
            wrapped.current_dir(directory);
        }
        Ok(wrapped)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in &self.names {
            // A namespace that was not made cannot be deleted.
            let _gone = ip(&["netns", "delete", name]);
        }
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    succeed(judges::command("ip")?.args(arguments)).map(drop)
}
