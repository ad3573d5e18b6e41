//! Filters of the ports that services bind, as programs of their cgroups: whatever account a process has, its cgroup
//! decides. A refused bind(2) fails with EPERM, and the port is noted for the service's log. Source: Linux
//! `Documentation/bpf/` and `include/uapi/linux/bpf.h`, `struct bpf_sock_addr`.
//!
//! Not restricted: sockets without a port of UDP or TCP, such as raw ones, which need a capability.

use std::fs::File;
use std::io;

use krazy_boot::manifest::ports::{FIRST_HIGH_PORT, PortRules};

use super::bpf::{self, Cells, Hook, Instruction};

/// The filters of all services, and the ports that they refused.
#[derive(Debug)]
pub(crate) struct PortFilters(Cells);

impl PortFilters {
    /// Prepares the filters of this many services. Fails on a kernel without programs for cgroups.
    pub(crate) fn new(services: usize) -> io::Result<Self> {
        Cells::new(services).map(PortFilters)
    }

    /// Restricts the processes of a cgroup, that of the service `id`.
    pub(crate) fn restrict(&self, id: usize, cgroup: &File, rules: &PortRules) -> io::Result<()> {
        let program = assemble(rules, self.0.descriptor(), id)?;
        bpf::attach(&program, Hook::Inet4Bind, cgroup)?;
        bpf::attach(&program, Hook::Inet6Bind, cgroup)
    }

    /// Returns the port that was refused to the service `id` last, once.
    pub(crate) fn take_refused(&self, id: usize) -> Option<u16> {
        u16::try_from(self.0.take(id)).ok().filter(|port| *port != 0)
    }
}

/// Operations. Source: RFC 9669, sections 4 and 5.
mod code {
    pub(super) const MOVE: u8 = 0xb7;
    pub(super) const LOAD_32: u8 = 0x61;
    pub(super) const STORE_32: u8 = 0x63;
    pub(super) const TO_BIG_ENDIAN: u8 = 0xdc;
    pub(super) const JUMP_IF_EQUAL: u8 = 0x15;
    pub(super) const JUMP_IF_LESS: u8 = 0xa5;
    pub(super) const LOAD_64: u8 = 0x18;
    pub(super) const EXIT: u8 = 0x95;
}

/// The result, the argument, and a register for the port.
const RESULT: u8 = 0;
const ARGUMENT: u8 = 1;
const PORT: u8 = 2;

/// The source "register" of [`code::LOAD_64`] for an address within the value of a map.
const MAP_VALUE: u8 = 2;

/// The offset of the port in `struct bpf_sock_addr`, in network byte order.
const USER_PORT: i16 = 24;

/// Returns the program that carries out `rules` and writes a port that it refuses to the cell `cell` of `map`.
fn assemble(rules: &PortRules, map: i32, cell: usize) -> io::Result<Vec<Instruction>> {
    let instruction = |code, source: u8, target: u8, offset, constant| Instruction {
        code,
        registers: source << 4 | target,
        offset,
        constant,
    };
    // Each comparison, and the decision if it holds.
    let mut tests = vec![(code::JUMP_IF_EQUAL, 0, true)];
    tests.extend(rules.granted.iter().map(|port| (code::JUMP_IF_EQUAL, i32::from(*port), true)));
    tests.extend(rules.refused.iter().map(|port| (code::JUMP_IF_EQUAL, i32::from(*port), false)));
    if rules.refuses_low {
        tests.push((code::JUMP_IF_LESS, i32::from(FIRST_HIGH_PORT), false));
    }
    let mut program = vec![
        instruction(code::MOVE, 0, RESULT, 0, 1),
        instruction(code::LOAD_32, ARGUMENT, PORT, USER_PORT, 0),
        instruction(code::TO_BIG_ENDIAN, 0, PORT, 0, 16),
    ];
    let count = tests.len();
    for (number, (code, port, is_allowed)) in tests.into_iter().enumerate() {
        // The instruction after the tests allows, the one after that refuses.
        let left = count - 1 - number + usize::from(!is_allowed);
        let offset = i16::try_from(left).map_err(|_| io::Error::other("too many ports"))?;
        program.push(instruction(code, 0, PORT, offset, port));
    }
    let offset = i32::try_from(cell * 4).map_err(io::Error::other)?;
    program.extend([
        instruction(code::EXIT, 0, 0, 0, 0),
        instruction(code::LOAD_64, MAP_VALUE, ARGUMENT, 0, map),
        instruction(0, 0, 0, 0, offset),
        instruction(code::STORE_32, PORT, ARGUMENT, 0, 0),
        instruction(code::MOVE, 0, RESULT, 0, 0),
        instruction(code::EXIT, 0, 0, 0, 0),
    ]);
    Ok(program)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use super::*;

    /// Executes a program with a port, as the kernel does. Returns its result and the port that it noted.
    fn execute(program: &[Instruction], port: u16) -> (i64, Option<u16>) {
        let mut registers = [0i64; 3];
        let mut noted = None;
        let mut at = 0;
        loop {
            let Instruction { code, registers: both, offset, constant } = program[at];
            let (source, target) = (usize::from(both >> 4), usize::from(both & 15));
            at += 1;
            match code {
                code::MOVE => registers[target] = constant.into(),
                code::LOAD_32 => {
                    assert_eq!((source, offset), (1, 24));
                    registers[target] = u16::from_ne_bytes(port.to_be_bytes()).into();
                }
                code::TO_BIG_ENDIAN => {
                    assert_eq!(constant, 16);
                    registers[target] = u16::from_be(registers[target] as u16).into();
                }
                code::JUMP_IF_EQUAL if registers[target] == i64::from(constant) => at += offset as usize,
                code::JUMP_IF_LESS if registers[target] < i64::from(constant) => at += offset as usize,
                code::JUMP_IF_EQUAL | code::JUMP_IF_LESS => {}
                code::LOAD_64 => {
                    assert_eq!((constant, program[at].constant), (5, 12));
                    at += 1;
                }
                code::STORE_32 => noted = Some(registers[source] as u16),
                code::EXIT => return (registers[0], noted),
                _ => panic!("{code:#x}"),
            }
        }
    }

    fn rules(granted: &[u16], refused: &[u16], refuses_low: bool) -> PortRules {
        let (granted, refused) = (granted.iter().copied().collect(), refused.iter().copied().collect());
        PortRules { granted, refused, refuses_low }
    }

    #[test]
    fn program_decides_about_every_port_as_the_rules_do() {
        for rules in [
            rules(&[], &[], false),
            rules(&[], &[67, 68, 123, 8443], false),
            rules(&[80, 443, 8443], &[67, 68, 123, 9000], true),
            rules(&[], &[67], true),
        ] {
            let program = assemble(&rules, 5, 3).unwrap();
            for port in 0..=u16::MAX {
                let allowed = rules.allow(port);
                let wanted = (i64::from(allowed), (!allowed).then_some(port));
                assert_eq!(execute(&program, port), wanted, "{port}: {rules:?}");
            }
        }
    }

    #[test]
    fn more_ports_than_a_jump_reaches_are_an_error() {
        let all: Vec<u16> = (1..40_000).collect();
        assert!(assemble(&rules(&all, &[], false), 5, 0).is_err());
    }

    /// A cgroup that is removed at the end; `None` where none can be made.
    struct Group(std::path::PathBuf);

    impl Group {
        fn new() -> Option<Self> {
            let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
            let root =
                roots.iter().find(|root| fs::exists(format!("{root}/cgroup.procs")).is_ok_and(|is| is))?;
            let path = std::path::Path::new(root).join(format!("krazy-ports-{}", std::process::id()));
            fs::create_dir(&path).ok()?;
            Some(Group(path))
        }
    }

    impl Drop for Group {
        fn drop(&mut self) {
            let _ = fs::remove_dir(&self.0);
        }
    }

    #[test]
    fn kernel_refuses_and_notes_a_port() {
        // Only root may load the program, on a kernel that has them.
        let Some(group) = Group::new() else { return };
        let filters = match PortFilters::new(2) {
            Ok(filters) => filters,
            Err(error) => {
                assert!([Some(libc::EPERM), Some(libc::ENOSYS)].contains(&error.raw_os_error()), "{error}");
                return;
            }
        };
        let cgroup = File::open(&group.0).unwrap();
        filters.restrict(1, &cgroup, &rules(&[], &[45_123], true)).unwrap();
        let procs = fs::OpenOptions::new().write(true).open(group.0.join("cgroup.procs")).unwrap();
        let mut child = Command::new("true");
        // SAFETY: system calls, and no allocation that another thread could hold a lock of.
        unsafe {
            child.pre_exec(move || {
                std::io::Write::write_all(&mut &procs, b"0")?;
                let refused = |socket: io::Result<UdpSocket>| {
                    socket.is_err_and(|error| error.raw_os_error() == Some(libc::EPERM))
                };
                let v4 = refused(UdpSocket::bind((Ipv4Addr::LOCALHOST, 45_123)));
                let v6 = refused(UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 45_123)));
                let low = refused(UdpSocket::bind((Ipv4Addr::LOCALHOST, 999)));
                let free = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).is_ok();
                if v4 && v6 && low && free { Ok(()) } else { Err(io::ErrorKind::Other.into()) }
            });
        }
        assert!(child.status().unwrap().success());
        assert_eq!((filters.take_refused(0), filters.take_refused(1)), (None, Some(999)));
        assert_eq!(filters.take_refused(1), None);
    }
}
