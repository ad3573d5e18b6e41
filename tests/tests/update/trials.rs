//! Builds that were sent as they should and do not hold: the device goes back and tells why. And a host that leaves
//! while its build is tried.

use std::fs;

use anyhow::{Context, Result, ensure};
use krazy_tests::bundle_editor::{BundleEditor, install_script};
use krazy_tests::device::{Device, noise};
use krazy_tests::guest::BOOT_LIMIT;

use crate::{NEW, NOT_STARTED, is_reverted, reverts};

/// Says that it is there, and does nothing for ever.
const HANGS: &str = "echo it hangs; while :; do /bin/busybox sleep 1000; done\n";

#[test]
fn builds_that_do_not_start_are_rolled_back_with_their_reason() -> Result<()> {
    let mut device = Device::start("")?;
    device.change("good 2", &noise(2, NEW / 4))?;
    let good = BundleEditor::open(&device.bundle("good.krazy")?)?;
    let directory = device.krazy.directory.path().to_owned();
    let key = device.secrets().join("update.key");
    // They are one build to the device, so all but the first have to be insisted on.
    let push = ["qemu", "--force"];

    // Nothing watches over an initramfs but who can press the button.
    let mut wrong = good.clone();
    wrong.replace_first_stage(&directory, HANGS)?;
    let pushing = device.begin_push_bundle(&wrong.save(&directory, "hangs.krazy", &key)?, &push)?;
    device.console()?.wait_for("it hangs", BOOT_LIMIT)?;
    device.reset()?;
    is_reverted(&device, &pushing.wait()?, "good 1", NOT_STARTED)?;

    let mut wrong = good.clone();
    wrong.change_root(&directory, |tree| Ok(fs::remove_file(tree.join("bin/init"))?))?;
    let bundle = wrong.save(&directory, "missing.krazy", &key)?;
    device.push_bundle(&bundle, &["qemu"])?.refused("this build failed its trial")?;
    let missing = "cannot execute /bin/init: No such file or directory";
    reverts(&device, || device.push_bundle(&bundle, &push), "good 1", missing)?;

    // Mounts, says what it is, and cannot be read where it matters.
    let mut wrong = good.clone();
    wrong.change_root(&directory, |_| Ok(()))?;
    wrong.damage_root()?;
    let bundle = wrong.save(&directory, "damaged.krazy", &key)?;
    let damaged = "cannot execute /bin/init: ";
    reverts(&device, || device.push_bundle(&bundle, &push), "good 1", damaged)?;

    // From the root on, the watchdog of the hardware watches.
    let mut wrong = good;
    wrong.change_root(&directory, |tree| install_script(tree, "bin/init", HANGS))?;
    let bundle = wrong.save(&directory, "init.krazy", &key)?;
    reverts(&device, || device.push_bundle(&bundle, &push), "good 1", "before init ran")?;

    push_is_confirmed_after_the_host_returns(&mut device)
}

/// The host is gone after the restart, and confirms what it pushed when it is back.
fn push_is_confirmed_after_the_host_returns(device: &mut Device) -> Result<()> {
    device.change("good 3", &[])?;
    let push = device.begin_push(&["qemu"])?;
    device.console()?.wait_for("slot B is on trial", BOOT_LIMIT)?;
    push.kill()?;
    let status = device.wait_for_slot("b")?;
    ensure!(status["slots"]["standing"] == "on-trial", "{status:#}");
    device.confirm()?;
    let status = device.check("b", "good 3")?;
    ensure!(status["slots"]["standing"] == "confirmed", "{status:#}");
    let attempts = device.curl("GET", "update", None)?.json["history"].clone();
    let outcomes: Vec<_> =
        attempts.as_array().context("no history")?.iter().map(|it| &it["outcome"]).collect();
    let (last, earlier) = outcomes.split_last().context("an empty history")?;
    ensure!(*last == "confirmed", "{attempts:#}");
    ensure!(earlier.len() >= 4 && earlier.iter().all(|outcome| **outcome == "failed"), "{attempts:#}");
    Ok(())
}
