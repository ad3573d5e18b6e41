//! Any program may be `/bin/init`: here it is the user's own, and the only one in the image.

use anyhow::Result;
use krazy_tests::fixture::Package;
use krazy_tests::krazy::Krazy;
use krazy_tests::process::succeed;

/// Says who it is and what the first stage left it with. A PID 1 must not end, so it waits.
const MAIN: &str = r#"
fn main() {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let root = mounts.lines().any(|line| line.contains(" / squashfs "));
    println!("alone: pid {} root is squashfs: {root}", std::process::id());
    loop { std::thread::park(); }
}
"#;

#[test]
fn user_program_runs_as_init() -> Result<()> {
    let krazy = Krazy::new()?;
    let directory = krazy.directory.path();
    let package =
        Package::new(directory, "alone", MAIN, "[package.metadata.krazy]\ninit = \"alone\"\nadmind = false")?;
    let image = directory.join("alone.img");
    let mut command = krazy.command(["image", "--manifest-path"])?;
    succeed(command.arg(package.manifest()).arg("-o").arg(&image))?;
    let expect = "alone: pid 1 root is squashfs: true";
    let mut command = krazy.command(["run-qemu", "--timeout", "1500", "--expect", expect, "--image"])?;
    succeed(command.arg(&image))?;
    Ok(())
}
