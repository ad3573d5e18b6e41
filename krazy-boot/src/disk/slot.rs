//! The two slots of an A/B appliance.
//!
//! A slot owns a root partition, a set of files on `/boot` and a load table. Only one slot runs at a time;
//! updates go to the other.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use core::fmt;
use core::ops::Not;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// One of the two slots. `!slot` is the other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// The slot that a new image boots.
    A,
    /// The other slot, empty on a new image.
    B,
}

/// A text that is not a slot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a slot; the slots are `a` and `b`")]
pub struct ParseSlotError(String);

impl Slot {
    /// Both slots, in disk order.
    pub const ALL: [Slot; 2] = [Slot::A, Slot::B];

    /// Returns `a` or `b`, as used in file names, on the kernel command line and in the API.
    pub const fn letter(self) -> &'static str {
        match self {
            Slot::A => "a",
            Slot::B => "b",
        }
    }

    /// Returns the position in disk order, 0 or 1, which is also the number that the boot selector stores.
    pub(crate) const fn index(self) -> usize {
        match self {
            Slot::A => 0,
            Slot::B => 1,
        }
    }

    /// Returns the number of the primary partition that holds this slot's root.
    pub const fn root_partition(self) -> u8 {
        match self {
            Slot::A => 2,
            Slot::B => 3,
        }
    }

    /// Returns the prefix of this slot's files on `/boot`: `a-`, `b-`.
    pub const fn boot_prefix(self) -> &'static str {
        match self {
            Slot::A => "a-",
            Slot::B => "b-",
        }
    }

    /// Returns the name on `/boot` of this slot's copy of `file`, such as `a-vmlinuz`.
    pub fn boot_file(self, file: &str) -> String {
        format!("{}{file}", self.boot_prefix())
    }
}

/// Names of the files that every slot has on `/boot`, as arguments of [`Slot::boot_file`].
pub mod boot_file {
    /// The Linux kernel image.
    pub const KERNEL: &str = "vmlinuz";
    /// The initramfs with the first stage.
    pub const INITRAMFS: &str = "initramfs";
    /// The kernel command line: one line of text.
    pub const CMDLINE: &str = "cmdline.txt";
    /// The command line of the slot as a launcher, on boards whose firmware starts the slots ([`crate::boot::config_txt`]).
    pub const LAUNCH: &str = "launch.txt";
    /// The record of the slot's content: the manifest of the bundle it came from ([`crate::update::bundle`]). An update
    /// removes it before it changes anything else of the slot, and writes it last.
    pub const RECORD: &str = "slot.json";
    /// The signature over [`RECORD`]. With both, a slot is known to come from a signed bundle.
    pub const SIGNATURE: &str = "slot.sig";
    /// Files in front of and behind all others of a slot. Disks write whole pages, so a power cut while one slot's files are
    /// written could damage those of the other one in the same page; between them are these.
    pub const GUARDS: [&str; 2] = ["first.pad", "last.pad"];
    /// The content of a guard: the largest page that is expected, 16 KiB.
    pub static GUARD: [u8; 16 << 10] = [0; 16 << 10];
}

impl Not for Slot {
    type Output = Slot;
    fn not(self) -> Slot {
        match self {
            Slot::A => Slot::B,
            Slot::B => Slot::A,
        }
    }
}

/// Prints `A` or `B`.
impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Slot::A => "A",
            Slot::B => "B",
        })
    }
}

impl FromStr for Slot {
    type Err = ParseSlotError;
    fn from_str(text: &str) -> Result<Self, ParseSlotError> {
        match text {
            "a" | "A" => Ok(Slot::A),
            "b" | "B" => Ok(Slot::B),
            other => Err(ParseSlotError(other.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negating_a_slot_twice_gives_the_same_slot() {
        for slot in Slot::ALL {
            assert_ne!(!slot, slot);
            assert_eq!(!!slot, slot);
            assert_eq!(slot.letter().parse(), Ok(slot));
            assert_eq!(slot.to_string().parse(), Ok(slot));
        }
        assert!("c".parse::<Slot>().is_err());
    }

    #[test]
    fn boot_files_have_the_prefix_of_their_slot() {
        assert_eq!(Slot::B.boot_file(boot_file::KERNEL), "b-vmlinuz");
    }
}
