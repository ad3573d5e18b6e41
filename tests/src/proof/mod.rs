//! `cargo proof SUBJECT [--short | --long | --minutes N]`: proofs on disks, whose outcome is written to `tests/PROOF.md`.
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

use std::time::Duration;

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
    let (subject, scale, minutes) = match arguments[..] {
        [subject] => (subject, Scale::Normal, None),
        [subject, "--short"] => (subject, Scale::Short, None),
        [subject, "--long"] => (subject, Scale::Long, None),
        [subject @ "endurance", "--minutes", minutes] => {
            (subject, Scale::Long, Some(minutes.parse::<u64>()?))
        }
        _ => bail!(
            "use `cargo proof record|endurance [--short | --long]` or `cargo proof endurance --minutes N`"
        ),
    };
    let repeat = format!("repeat: `cargo proof {}`", arguments.join(" "));
    match subject {
        "record" => {
            let outcome = record::run(scale)?;
            println!("{outcome}");
            document::write("Recorded disks", &format!("{outcome}\n- {repeat}"))
        }
        "endurance" => {
            let limit = minutes.map(|minutes| Duration::from_secs(60 * minutes));
            let row = endurance::run(scale, limit)?.row();
            println!("{}\n{row}", endurance::Report::COLUMNS);
            document::add_row("Endurance", endurance::Report::COLUMNS, &row)
        }
        _ => bail!("no subject `{subject}`; there are record and endurance"),
    }
}
