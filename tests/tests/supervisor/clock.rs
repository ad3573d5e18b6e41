//! Time servers that lie, alone and together, to a machine whose hardware clock has lost its time.

use super::*;
use krazy_tests::lan::{SERVER, TIME_SERVERS};

const YEAR: i64 = 365 * 86_400;

/// The messages of init about answers that it rejects, each with its cure.
const TOO_LATE: &str = "not believed: it is more than 15 years after the release of krazy-init and the last time that \
                        several servers confirmed; help: name other time servers in `network.ntp`";
const BEFORE_CONFIRMED: &str = "not believed: one server alone is behind a time that several servers confirmed; help: \
                                name two or more time servers in `network.ntp`";

#[test]
fn lying_time_servers_are_corrected_by_honest_ones_also_after_a_restart() -> Result<()> {
    let krazy = Krazy::new()?;
    let directory = krazy.directory.path();
    let image = image(&krazy)?;
    leave_only_the_judge(&image, directory, "--link", |_| {})?;
    let (mut lan, netdev) = Lan::new()?;
    lan.dhcp = Dhcp::Honest;
    let start = || -> Result<Guest> {
        let mut command = machine(&image, directory)?;
        command.args(["-netdev", &netdev, "-device", "virtio-net-pci,netdev=net,romfile="]);
        command.args(["-rtc", "base=1990-01-01T00:00:00"]);
        Guest::start(command)
    };

    // 2099 by one server, and then nine years, which without a hardware clock may be true. The first step of a start is
    // routine, and not told.
    let mut guest = start()?;
    lan.lies = [72 * YEAR; 3];
    serve(&lan, Asked::Time, 1)?;
    guest.wait_for(TOO_LATE, LIMIT)?;
    lan.lies = [9 * YEAR; 3];
    serve(&lan, Asked::Time, 1)?;
    lan.lies = [0; 3];
    serve(&lan, Asked::Time, 1)?;
    step(&mut guest, "back", 9 * YEAR)?;
    // The lie is what it ends with.
    lan.lies = [9 * YEAR; 3];
    serve(&lan, Asked::Time, 1)?;
    step(&mut guest, "forward", 9 * YEAR)?;
    restart(&mut guest, directory)?;
    drop(guest);

    let mut guest = start()?;
    lan.lies = [0; 3];
    serve(&lan, Asked::Time, 1)?;
    // Two of three servers confirm a lie, which is what it ends with. The step shows that the one honest server was
    // believed before.
    lan.ntp = TIME_SERVERS.to_vec();
    lan.lies = [5 * YEAR, 0, 5 * YEAR];
    serve(&lan, Asked::Time, 3)?;
    step(&mut guest, "forward", 5 * YEAR)?;
    restart(&mut guest, directory)?;
    drop(guest);

    let mut guest = start()?;
    lan.lies = [0; 3];
    // One honest server that is listed twice is one.
    lan.ntp = vec![SERVER, SERVER];
    serve(&lan, Asked::Time, 1)?;
    guest.wait_for(BEFORE_CONFIRMED, LIMIT)?;
    lan.ntp = TIME_SERVERS[..2].to_vec();
    serve(&lan, Asked::Time, 2)?;
    // The step shows that two were believed.
    lan.lies = [10 * 86_400; 3];
    serve(&lan, Asked::Time, 2)?;
    step(&mut guest, "forward", 10 * 86_400)?;
    // From now on one server cannot take it back.
    lan.ntp = vec![SERVER];
    lan.lies = [-YEAR / 4; 3];
    serve(&lan, Asked::Time, 1)?;
    guest.wait_for(BEFORE_CONFIRMED, LIMIT)?;
    Ok(())
}

/// Waits for a step of the clock by `seconds`, within an hour.
fn step(guest: &mut Guest, direction: &str, seconds: i64) -> Result<()> {
    let line = guest.wait_for(&format!("the clock was stepped {direction} by "), LIMIT)?;
    let amount = line.rsplit_once(" by ").and_then(|(_, step)| step.trim().strip_suffix(" ms"));
    let amount: i64 = amount.with_context(|| line.clone())?.parse()?;
    ensure!((amount / 1000 - seconds).abs() < 3600, "{line}, not {seconds} s");
    Ok(())
}

/// Ends the machine in an orderly way, as for a restart.
fn restart(guest: &mut Guest, directory: &Path) -> Result<()> {
    Qmp::connect(&directory.join("qmp"))?.press(&["ctrl", "alt", "delete"])?;
    guest.wait_for("restarting: a signal to init requests it", LIMIT)?;
    guest.wait_for("reboot: Restarting system", LIMIT)?;
    Ok(())
}
