//! Power that is cut at every stage of an update.

use anyhow::{Result, ensure};
use krazy_tests::device::{Device, NAME, noise};
use krazy_tests::outcome::PUSH_LIMIT;
use krazy_tests::proxy::Proxy;

use crate::{NEW, NOT_STARTED, is_reverted, reverts};

#[test]
fn power_cuts_and_unstable_builds_leave_the_old_build() -> Result<()> {
    let mut device = Device::start("")?;

    // In the middle of the write.
    device.change("good 2", &noise(2, NEW / 4))?;
    let line = Proxy::start(device.address()?)?;
    device.name("line", line.port)?;
    line.hold_after(NEW as u64 / 8);
    let push = device.begin_push(&["line"])?;
    line.wait_until_held(PUSH_LIMIT)?;
    device.cut_power()?;
    push.kill()?;
    device.boot()?;
    device.check("a", "good 1")?;
    device.krazy(&["switch", "qemu", "b"])?.refused("push an update into that slot first")?;

    // When the slot is complete and not armed.
    device.push(&["qemu", "--stage"])?.expect(0, "staged")?;
    device.cut_power()?;
    device.boot()?;
    let status = device.check("a", "good 1")?;
    ensure!(status["slots"]["standing"] == "confirmed", "{status:#}");

    // When it is armed, and again while it is tried.
    ensure!(device.krazy(&["switch", "qemu", "b", "--no-reboot"])?.code == Some(0), "switch was refused");
    device.cut_power()?;
    device.boot()?;
    let status = device.check("b", "good 2")?;
    ensure!(status["slots"]["standing"] == "on-trial", "{status:#}");
    device.cut_power()?;
    device.boot()?;
    let reason = device.wait_for_failed_trial("a", "")?;
    ensure!(!reason.is_empty(), "the cause of the failed trial is not told");
    device.check("a", "good 1")?;

    // The kernel panics: its first program cannot be run.
    device.change("good 3", &[])?;
    device.set_cmdline("rdinit=/dev/console")?;
    is_reverted(&device, &device.push(&["qemu"])?, "good 1", NOT_STARTED)?;

    device.set_cmdline("")?;
    device.change("crash", &[])?;
    reverts(&device, || device.push(&["qemu", "--force"]), "good 1", NAME)?;
    device.push(&["qemu"])?.refused("this build failed its trial")?;

    // Nobody is there to confirm.
    device.change("good 4", &[])?;
    device.set_cmdline("krazy.trial=30")?;
    device.push(&["qemu", "--stage"])?.expect(0, "staged")?;
    ensure!(device.krazy(&["switch", "qemu", "b"])?.code == Some(0), "switch was refused");
    let reason = device.wait_for_failed_trial("a", "time")?;
    // On a machine so slow that the service is not stable by then, it says that instead.
    ensure!(reason.contains("in time") || reason.contains("time was up"), "{reason}");
    device.check("a", "good 1")?;
    Ok(())
}
