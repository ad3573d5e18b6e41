//! Help for what a device refuses about its slots and updates.

use krazy_boot::update::refusal::Refusal;

use crate::device::DeviceError;
use crate::failure::{Exit, Explain};

/// An update, or an order about slots, that had no success.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct RefusedUpdate(pub(crate) DeviceError);

impl Explain for RefusedUpdate {
    fn exit(&self) -> Exit {
        self.0.exit()
    }

    fn help(&self) -> Option<String> {
        let DeviceError::Refused { device, .. } = &self.0 else { return self.0.help() };
        let Some(refusal) = self.0.refusal() else { return self.0.help() };
        let help = match refusal {
            Refusal::Signature => {
                "the bundle was changed on its way, or the device trusts another key: make the bundle again, on the \
                 machine that made the device's image or with a copy of the appliance's directory from that machine's \
                 state directory"
            }
            Refusal::Board => "give `--target` the device's board, which `cargo krazy status` shows",
            Refusal::Processor => {
                "compile for every processor of the board: leave `target-cpu` and `target-feature` out of the flags"
            }
            Refusal::Appliance | Refusal::RejectedBefore => {
                "`--force` pushes it all the same; `cargo krazy status` shows what happened before"
            }
            Refusal::Protocol => {
                "the device is too old for this program: push with an older cargo-krazy first"
            }
            Refusal::TooLarge => "install less; the device's partitions cannot grow over the network",
            Refusal::BelowFloor => {
                "push a newer version, or lower the floor: `cargo krazy floor set`, which cannot undercut the `floor` in \
                 [package.metadata.krazy.admind] of the build that runs"
            }
            Refusal::SessionActive | Refusal::Armed => "wait until that is over, or end it with `--force`",
            Refusal::Unconfirmed => {
                return Some(format!(
                    "`cargo krazy confirm {device}` keeps the build it runs, `cargo krazy rollback {device}` goes back"
                ));
            }
            Refusal::NoSession | Refusal::Content | Refusal::Base | Refusal::Offset => {
                "nothing was armed, and the device runs the same build as before; push again"
            }
            Refusal::ReadBack => {
                "its disk or memory card fails: replace it; the device runs the same build as before"
            }
            Refusal::SlotIncomplete => "push an update into that slot first",
            Refusal::Bundle => "make the bundle again",
            Refusal::Unchanged | Refusal::NoSlots | Refusal::NotVerified => return None,
        };
        Some(help.to_owned())
    }
}
