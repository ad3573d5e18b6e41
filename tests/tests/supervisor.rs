//! Init in real machines: services that misbehave, disks and networks that fail, slots that are tried. What happens
//! is judged inside the machine, by a service of `tests/guest`; here its verdicts are collected, and everything that
//! was to be judged has to be among them.

#[path = "supervisor/clock.rs"]
mod clock;

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use krazy_tests::disk::{Partition, extract, partitions};
use krazy_tests::guest::{Guest, emulator};
use krazy_tests::krazy::Krazy;
use krazy_tests::lan::{Asked, Dhcp, Lan};
use krazy_tests::process::succeed;
use krazy_tests::qmp::Qmp;
use krazy_tests::root::{Root, service};
use krazy_tests::setup::judges;
use serde_json::{Value, json};

/// From one event of a machine to the next, on a machine with other work to do.
const LIMIT: Duration = Duration::from_secs(600);

/// The text after the name of a case that does not hold.
const FAILED: &str = ": FAILED";

/// Copies of one service in the malformed root.
const COPIES: usize = 300;

/// Makes the image of `krazy-guest`.
fn image(krazy: &Krazy) -> Result<PathBuf> {
    let image = krazy.directory.path().join("guest.img");
    let mut command = krazy.command(["image", "-p", "krazy-guest", "-o"])?;
    succeed(command.arg(&image))?;
    Ok(image)
}

/// Checks that exactly the cases of `list`, one a line, were judged, and that all hold.
fn check(console: &str, list: &str) -> Result<()> {
    let verdicts: Vec<(&str, &str, bool)> = console.lines().filter_map(verdict).collect();
    let failed: Vec<&str> =
        verdicts.iter().filter(|(.., ok)| !ok).map(|(line, ..)| line.trim_end()).collect();
    ensure(failed.is_empty(), || format!("cases failed:\n{}", failed.join("\n")), console)?;
    let mut judged: Vec<&str> = verdicts.iter().map(|(_, name, _)| *name).collect();
    let mut wanted: Vec<&str> = list.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    judged.sort_unstable();
    wanted.sort_unstable();
    let missing: Vec<&&str> = wanted.iter().filter(|name| !judged.contains(name)).collect();
    let unknown: Vec<&&str> = judged.iter().filter(|name| !wanted.contains(name)).collect();
    ensure(judged == wanted, || format!("not judged: {missing:?}\nnot in the list: {unknown:?}"), console)
}

/// Returns a judge's line, the name of its case, and true if the case holds. A message of the kernel may follow on the
/// same line: both write to the serial port.
fn verdict(line: &str) -> Option<(&str, &str, bool)> {
    let case = line.split_once(": case ")?.1;
    let holds = case.split_once(": ok").map(|(name, _)| (line, name, true));
    holds.or_else(|| case.split_once(FAILED).map(|(name, _)| (line, name, false)))
}

fn ensure(holds: bool, why: impl FnOnce() -> String, console: &str) -> Result<()> {
    ensure!(holds, "{}\n{console}", why());
    Ok(())
}

#[test]
fn services_and_trials_pass_every_case_in_a_real_machine() -> Result<()> {
    let krazy = Krazy::new()?;
    let directory = krazy.directory.path();
    let image = image(&krazy)?;
    // The disk is larger than the image, as an SD card is: the first boot makes /data reach to its end.
    OpenOptions::new().write(true).open(&image)?.set_len(448 << 20)?;
    let socket = directory.join("qmp");
    let mut command = krazy.command(["run-qemu", "--timeout", "3000", "--image"])?;
    command.arg(&image).args([
        "--",
        "-device",
        "qemu-xhci,id=usb",
        "-netdev",
        "user,id=usbnet,net=192.168.3.0/24",
        "-chardev",
        "null,id=line",
        "-device",
        "usb-serial,always-plugged=on,chardev=line,bus=usb.0",
    ]);
    command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", socket.display()));
    let mut guest = Guest::start(command)?;
    guest.fail_on(FAILED);
    guest.wait_for("waiting for the host: a slow disk", 3 * LIMIT)?;
    let mut qmp = Qmp::connect(&socket)?;
    qmp.throttle_writes("disk", 512 << 10)?;
    guest.wait_for("waiting for the host: a fast disk", LIMIT)?;
    qmp.throttle_writes("disk", 0)?;
    guest.wait_for("waiting for the host: a network adapter", LIMIT)?;
    qmp.execute(
        "device_add",
        json!({ "driver": "usb-net", "netdev": "usbnet", "id": "adapter", "bus": "usb.0" }),
    )?;
    guest.wait_for("waiting for the host: the power button", LIMIT)?;
    qmp.power_button()?;
    guest.wait_for("switching off: the power button was pressed", LIMIT)?;
    let (_, console) = guest.wait(LIMIT)?;

    check(&console, include_str!("supervisor/machine.txt"))?;
    for said in [
        "service quits keeps exiting",
        "service daemon left processes behind",
        "service stubborn did not exit in time and is killed",
        "lines are only in /tmp/flood.log",
        "slot B is on trial",
        "restarting: service fragile keeps exiting: exit status 7; it wrote last: a part is missing",
        "slot B was tried and not confirmed: service fragile keeps exiting: exit status 7; it wrote last: a part is missing",
        "slot B is confirmed",
        "init was hit by a fatal signal, restarting the machine",
    ] {
        assert!(console.contains(said), "nobody said `{said}`:\n{console}");
    }
    assert!(!console.contains("Attempted to kill init"), "{console}");
    // The error that the judge reported to the kernel is noted in the file system; nothing else is wrong with it.
    check_data(&image, directory)
}

#[test]
fn malformed_root_damaged_data_and_missing_network_leave_the_machine_running() -> Result<()> {
    let krazy = Krazy::new()?;
    let directory = krazy.directory.path();
    let image = image(&krazy)?;
    let (_, table) = partitions(&image)?;
    replace_root(&image, directory)?;
    damage(&image, table[3])?;
    let before = start_of(&image, table[3])?;

    let command = machine(&image, directory)?;
    let mut guest = Guest::start(command)?;
    guest.fail_on(FAILED);
    guest.wait_for("waiting for the host: Ctrl-Alt-Del", 2 * LIMIT)?;
    Qmp::connect(&directory.join("qmp"))?.press(&["ctrl", "alt", "delete"])?;
    guest.wait_for("restarting: a signal to init requests it", LIMIT)?;
    let (_, console) = guest.wait(LIMIT)?;

    check(&console, include_str!("supervisor/malformed.txt"))?;
    assert!(console.contains("/data is temporary and will be lost"), "{console}");
    assert_eq!(start_of(&image, table[3])?, before, "a damaged /data must not be written");
    Ok(())
}

#[test]
fn rogue_servers_and_wrong_times_are_ignored_and_an_expired_lease_is_given_up() -> Result<()> {
    let krazy = Krazy::new()?;
    let directory = krazy.directory.path();
    let image = image(&krazy)?;
    // The service that pretends to be the machine's DHCP server has the port of one.
    leave_only_the_judge(&image, directory, "--link", |manifest| {
        let program = manifest["services"][0]["program"].clone();
        let impostor = json!({ "name": "impostor", "program": program, "later": { "ports": [67] } });
        manifest["services"].as_array_mut().expect("a list").push(impostor);
    })?;
    // It is made and grows while the network is tried.
    blank_data(&image)?;

    let (mut lan, netdev) = Lan::new()?;
    let mut command = machine(&image, directory)?;
    command.args(["-netdev", &netdev, "-device", "virtio-net-pci,netdev=net,romfile="]);
    let mut guest = Guest::start(command)?;
    lan.dhcp = Dhcp::Rogue;
    serve(&lan, Asked::Discover, 4)?;
    guest.wait_for("impostor listens", LIMIT)?;
    serve(&lan, Asked::Discover, 1)?;
    lan.dhcp = Dhcp::Honest;
    // Five years.
    lan.lies = [5 * 365 * 86_400; 3];
    serve(&lan, Asked::Time, 1)?;
    guest.wait_for("the time from the network is not believed", LIMIT)?;
    // Renewal is asked for and not answered.
    lan.dhcp = Dhcp::Silent;
    serve(&lan, Asked::Request, 1)?;
    serve(&lan, Asked::Discover, 1)?;
    guest.wait_for("eth0: the lease of 10.9.0.50 has ended", LIMIT)?;
    lan.dhcp = Dhcp::Honest;
    lan.lies = [90; 3];
    serve(&lan, Asked::Time, 1)?;
    let line = guest.wait_for("the clock was stepped forward by ", LIMIT)?;
    let seen = guest.seen();
    assert!(!seen.contains("6.6.6.") && !seen.contains("impostor has answered"), "{seen}");
    let servers = "case name servers come from DHCP and from the router: ok";
    assert!(guest.seen().contains(servers), "{}", guest.seen());
    // The guest's clock drifts by seconds when the host is busy: only the host's lie is 90 s.
    let step = line.rsplit_once(" by ").and_then(|(_, step)| step.trim().strip_suffix(" ms"));
    let step: u32 = step.with_context(|| line.clone())?.parse()?;
    assert!((60_000..120_000).contains(&step), "{line}");

    // A machine may miss that its cable was out for a moment: until it notices and asks for its address again.
    let mut qmp = Qmp::connect(&directory.join("qmp"))?;
    let end = Instant::now() + LIMIT;
    let mut asked = false;
    while !asked {
        ensure!(Instant::now() < end, "a cable that is plugged in again is not noticed");
        qmp.set_link("net", false)?;
        std::thread::sleep(Duration::from_secs(1));
        qmp.set_link("net", true)?;
        let soon = Instant::now() + Duration::from_secs(5);
        while !asked && Instant::now() < soon {
            asked = matches!(lan.serve()?, Some(Asked::Request | Asked::Discover));
        }
    }

    assert!(guest.seen().contains("/data was blank and has been formatted"), "{}", guest.seen());
    if !guest.seen().contains("/data has grown to ") {
        guest.wait_for("/data has grown to ", LIMIT)?;
    }
    drop(guest);
    check_data(&image, directory)
}

#[test]
fn fixed_address_is_used_and_a_read_only_disk_still_halts() -> Result<()> {
    let krazy = Krazy::new()?;
    let directory = krazy.directory.path();
    let image = image(&krazy)?;
    let interface = json!({ "address": "10.0.2.77/24", "gateway": "10.0.2.2" });
    leave_only_the_judge(&image, directory, "--fixed", |manifest| {
        manifest["network"] = json!({ "interfaces": { "eth0": interface } });
    })?;

    let mut command = machine(&image, directory)?;
    command.args(["-set", "drive.disk.read-only=on"]);
    command.args(["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="]);
    let mut guest = Guest::start(command)?;
    guest.wait_for("reboot: System halted", 2 * LIMIT)?;
    check(guest.seen(), include_str!("supervisor/fixed.txt"))
}

#[test]
fn power_cuts_while_data_is_formatted_and_grown_leave_it_consistent() -> Result<()> {
    let krazy = Krazy::new()?;
    let directory = krazy.directory.path();
    let image = image(&krazy)?;
    leave_only_the_judge(&image, directory, "--link", |_| {})?;
    blank_data(&image)?;
    // Wherever the machine is when the power goes, somewhere between the BIOS's word and a grown /data: what it has
    // written is no file system yet, or one whose journal tells the rest.
    for milliseconds in [1000, 1500, 2000, 2300, 2600, 3000, 3500, 4000] {
        let mut guest = Guest::start(machine(&image, directory)?)?;
        guest.wait_for("Booting from Hard Disk", LIMIT)?;
        std::thread::sleep(Duration::from_millis(milliseconds));
        drop(guest);
        if size_of_data(&image)? > 0 {
            check_data(&image, directory)?;
        }
    }
    let _guest = Guest::start(machine(&image, directory)?)?;
    let end = Instant::now() + LIMIT;
    while size_of_data(&image)? < partitions(&image)?.1[3].len * 9 / 10 {
        ensure!(Instant::now() < end, "/data does not grow");
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

/// Makes the judge with this argument the image's only service, and what else `change` changes.
fn leave_only_the_judge(
    image: &Path,
    directory: &Path,
    argument: &str,
    change: impl FnOnce(&mut Value),
) -> Result<()> {
    let root = Root::unpack(image, &directory.join("root"))?;
    let mut manifest = root.manifest()?;
    let mut judge = service(&manifest, "judge")?;
    judge["settings"]["args"] = json!([argument]);
    manifest["services"] = json!([judge]);
    change(&mut manifest);
    root.set_manifest(&manifest)?;
    root.pack(image)
}

/// Leaves nothing on `/data`, which is to become larger.
fn blank_data(image: &Path) -> Result<()> {
    let (_, table) = partitions(image)?;
    let disk = OpenOptions::new().write(true).open(image)?;
    disk.set_len(table[3].start)?;
    Ok(disk.set_len(448 << 20)?)
}

/// Returns the size of the file system on `/data` by its superblock, in bytes; 0 without one. Source: Linux `fs/ext4/ext4.h`, `ext4_super_block`.
fn size_of_data(image: &Path) -> Result<u64> {
    let start = start_of(image, partitions(image)?.1[3])?;
    let number = |at: usize| u32::from_le_bytes([start[at], start[at + 1], start[at + 2], start[at + 3]]);
    let has_magic = start[1024 + 56..1024 + 58] == [0x53, 0xef];
    Ok(if has_magic { u64::from(number(1024 + 4)) << (10 + number(1024 + 24)) } else { 0 })
}

/// Brings in what the journal of `/data` holds, in a copy, and checks that it is whole then.
fn check_data(image: &Path, directory: &Path) -> Result<()> {
    let data = extract(image, partitions(image)?.1[3], directory, "data")?;
    let output = judges::command("e2fsck")?.arg("-fp").arg(&data).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(matches!(output.status.code(), Some(0 | 1)), "{text}");
    Ok(())
}

/// Answers a machine until it has asked for this so often.
fn serve(lan: &Lan, wanted: Asked, mut times: u32) -> Result<()> {
    let end = Instant::now() + LIMIT;
    while times > 0 {
        ensure!(Instant::now() < end, "the machine does not ask: {wanted:?}");
        if lan.serve()? == Some(wanted) {
            times -= 1;
        }
    }
    Ok(())
}

/// A machine without a network card, and its monitor's socket at `qmp` in `directory`.
fn machine(image: &Path, directory: &Path) -> Result<Command> {
    let mut command = emulator(image)?;
    command.arg("-qmp");
    command.arg(format!("unix:{},server=on,wait=off", directory.join("qmp").display()));
    Ok(command)
}

/// Makes root A what no cargo krazy would make: programs that cannot run, and many copies of one that can.
fn replace_root(image: &Path, directory: &Path) -> Result<()> {
    let root = Root::unpack(image, &directory.join("malformed"))?;
    let bin = root.directory.join("bin");
    let mut manifest = root.manifest()?;
    let mut judge = service(&manifest, "judge")?;
    judge["settings"]["args"] = json!(["--malformed"]);
    let steady = service(&manifest, "steady")?;
    let another = |name: &str| {
        let mut service = steady.clone();
        service["name"] = json!(name);
        service["settings"]["required"] = json!(false);
        service
    };
    let mut services = vec![judge];
    for number in 0..COPIES {
        let name = format!("copy-{number:03}");
        fs::hard_link(bin.join("steady"), bin.join(&name))?;
        services.push(another(&name));
    }
    // ELF header of a 64-bit little-endian executable for AArch64. Source: System V ABI, "ELF Header".
    let mut elf = [0u8; 64];
    elf[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
    elf[16..20].copy_from_slice(&[2, 0, 183, 0]);
    for (name, argument) in [("intruder", "--beside-admind"), ("krazy-admind", "--as-admind")] {
        let mut service = another(name);
        service["settings"]["args"] = json!([argument]);
        services.push(service);
    }
    fs::hard_link(bin.join("intruder"), bin.join("krazy-admind"))?;
    for (name, content, mode) in [
        ("missing", None, 0),
        ("not-executable", Some(&b"#!/bin/steady\n"[..]), 0o644),
        ("other-architecture", Some(&elf[..]), 0o755),
        ("no-interpreter", Some(&b"#!/bin/nobody\n"[..]), 0o755),
    ] {
        if let Some(content) = content {
            fs::write(bin.join(name), content)?;
            fs::set_permissions(bin.join(name), Permissions::from_mode(mode))?;
        }
        services.push(another(name));
    }
    manifest["services"] = json!(services);
    root.set_manifest(&manifest)?;
    root.pack(image)
}

/// Overwrites the ext4 superblock.
fn damage(image: &Path, partition: Partition) -> Result<()> {
    let mut disk = OpenOptions::new().write(true).open(image)?;
    disk.seek(SeekFrom::Start(partition.start + 1024))?;
    disk.write_all(&[0xff; 1024])?;
    Ok(())
}

/// The first MiB of a partition.
fn start_of(image: &Path, partition: Partition) -> Result<Vec<u8>> {
    let mut disk = File::open(image)?;
    disk.seek(SeekFrom::Start(partition.start))?;
    let mut bytes = Vec::new();
    disk.take(1 << 20).read_to_end(&mut bytes)?;
    Ok(bytes)
}
