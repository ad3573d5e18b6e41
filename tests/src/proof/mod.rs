//! `cargo proof SUBJECT [--short | --long]`: proofs on disks, whose outcome is written to `tests/PROOF.md`.
//!
//! | subject | proves |
//! |---|---|
//! | [`record`] | a power cut at any moment of a machine's life leaves a disk that boots and has lost nothing |
//! | [`endurance`] | neither do many updates, power cuts and power cycles |
//!
//! The suite runs the first one on the short scale.
//!
//! | module | is |
//! |---|---|
//! | [`recording`], [`write_log`], [`runs`] | a machine's disk, recorded by QEMU and rebuilt |
//! | [`states`], [`random`] | the sample of states in which a power cut can leave a disk |
//! | [`judge`] | the judgement on one of them |
//! | [`document`] | `tests/PROOF.md` |

pub mod document;
pub mod endurance;
pub mod judge;
pub mod random;
pub mod record;
pub mod recording;
pub mod runs;
pub mod states;
pub mod write_log;

use anyhow::{Result, bail};

/// The size of a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// As in the suite: minutes.
    Short,
    /// A quarter of an hour for a recording, hours for the endurance.
    Normal,
    /// Ten times as much.
    Long,
}

impl Scale {
    /// Returns the value for this scale, of those for short, normal and long.
    pub fn of<T: Copy>(self, [short, normal, long]: [T; 3]) -> T {
        match self {
            Scale::Short => short,
            Scale::Normal => normal,
            Scale::Long => long,
        }
    }

    /// The scale of a test: long if `KRAZY_LONG` is set.
    pub fn of_tests() -> Self {
        if std::env::var_os("KRAZY_LONG").is_some() { Scale::Long } else { Scale::Short }
    }
}

/// Runs the subject named on the command line.
pub fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (subject, scale) = match arguments[..] {
        [subject] => (subject, Scale::Normal),
        [subject, "--short"] => (subject, Scale::Short),
        [subject, "--long"] => (subject, Scale::Long),
        _ => bail!("use `cargo proof record|endurance [--short | --long]`"),
    };
    let (title, outcome) = match subject {
        "record" => ("Recorded disks", record::run(scale)?.to_string()),
        "endurance" => ("Endurance", endurance::run(scale)?.to_string()),
        _ => bail!("no subject `{subject}`; there are record and endurance"),
    };
    println!("{outcome}");
    let repeat = format!("cargo proof {}", arguments.join(" "));
    document::write(title, &format!("{outcome}\n- repeat: `{repeat}`"))
}
