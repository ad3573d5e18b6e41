//! The proof by a recorded disk, on the short scale: see `cargo proof`, which has another one that the suite has no time
//! for. `KRAZY_LONG=1 cargo suite system proof` takes the long scale.

use anyhow::Result;
use krazy_tests::proof::{Scale, record};

#[test]
fn recorded_disk_boots_from_every_state() -> Result<()> {
    println!("{}", record::run(Scale::of_tests())?);
    Ok(())
}
