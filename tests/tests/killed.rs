//! `image` and `bundle` killed at random points: what is at the output is a complete earlier or later version, and the
//! next run succeeds.
//!
//! `KRAZY_LONG=1 cargo suite system killed` tries 200 points instead of 4, and writes the outcome to `tests/PROOF.md`.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::BuildHasher;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use krazy_tests::device::noise;
use krazy_tests::fixture::Package;
use krazy_tests::krazy::Krazy;
use krazy_tests::process::succeed;
use krazy_tests::proof::{Scale, document};
use krazy_tests::setup::judges;
use krazy_tests::signal::Foreground;

/// Commands that write an artefact, with its name.
const COMMANDS: [(&str, &str); 2] = [("image", "a.img"), ("bundle", "a.krazy")];

const MAIN: &str = "fn main() { loop { std::thread::park(); } }";

/// A package whose next build has one of two contents.
struct Project {
    krazy: Krazy,
    package: Package,
    directory: PathBuf,
}

impl Project {
    fn change(&self, version: u64) -> Result<()> {
        Ok(fs::write(self.package.directory.join("content"), noise(version, 3 << 20))?)
    }

    fn command(&self, (name, output): (&str, &str)) -> Result<std::process::Command> {
        let mut command = self.krazy.command([name, "--manifest-path"])?;
        command.arg(self.package.manifest()).arg("-o").arg(self.directory.join(output));
        // Both versions are of one time, so that equal contents give equal bytes.
        command.env("SOURCE_DATE_EPOCH", "1700000000");
        Ok(command)
    }

    fn run(&self, command: (&str, &str)) -> Result<String> {
        let output = self.command(command)?.output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        hash(&self.directory.join(command.1))
    }
}

#[test]
fn killed_image_and_bundle_leave_a_complete_artefact() -> Result<()> {
    let scale = Scale::of_tests();
    let tries = scale.of([4, 200, 200]);
    let krazy = Krazy::new()?;
    let metadata = "[package.metadata.krazy]\nadmind = false\nsize = \"320M\"\nboot-size = \"64M\"\n\
                    root-size = \"64M\"\n\n[package.metadata.krazy.files]\n\"/content\" = \"content\"";
    let package = Package::new(krazy.directory.path(), "killed", MAIN, metadata)?;
    let directory = krazy.directory.path().join("out");
    fs::create_dir(&directory)?;
    let project = Project { krazy, package, directory };

    let mut outcome = format!("{} kills, 0 half-written artefacts\n", tries * COMMANDS.len() as u64);
    for command in COMMANDS {
        let mut complete = Vec::new();
        let mut time = Duration::ZERO;
        for version in [1, 2] {
            project.change(version)?;
            let begin = Instant::now();
            complete.push(project.run(command)?);
            time = begin.elapsed();
        }
        ensure!(complete[0] != complete[1], "{}: both versions are equal", command.0);
        let output = project.directory.join(command.1);
        let mut replaced = 0;
        for n in 0..tries {
            project.change(1 + n % 2)?;
            let program = Foreground::start(&mut project.command(command)?)?;
            // A little beyond the end, so that some runs finish.
            let after = time.mul_f64(1.1 * random());
            std::thread::sleep(after);
            program.kill()?;
            let found = hash(&output)?;
            ensure!(complete.contains(&found), "{}: half written after {after:?}", command.0);
            replaced += usize::from(found == complete[(n % 2) as usize]);
        }
        project.change(1)?;
        ensure!(project.run(command)? == complete[0], "{}: the next run makes another artefact", command.0);
        let left: Vec<_> =
            fs::read_dir(&project.directory)?.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
        let mut expected = COMMANDS.map(|(_, name)| name.to_owned()).to_vec();
        expected.retain(|name| *name == command.1 || project.directory.join(name).exists());
        ensure!(left.len() == expected.len(), "the next run leaves {left:?}");
        let line = format!(
            "- `{}`: killed {tries} times at random moments of {:.1} s, {replaced} times with the new content at the output, \
             else with the old one; the next run succeeds, and leaves nothing but the artefact\n",
            command.0,
            1.1 * time.as_secs_f64()
        );
        print!("{line}");
        outcome += &line;
    }
    if scale == Scale::Long {
        outcome += "- repeat: `KRAZY_LONG=1 cargo suite system killed`";
        document::write("Host killed", &outcome)?;
    }
    Ok(())
}

/// Returns the SHA-256 of a file, by a program that is faster than a test without optimization.
fn hash(path: &Path) -> Result<String> {
    let output = succeed(judges::command("sha256sum")?.arg("--").arg(path))?.stdout;
    let line = String::from_utf8(output)?;
    Ok(line.split_whitespace().next().context("sha256sum printed no hash")?.to_owned())
}

/// Returns a random number from 0 to 1.
fn random() -> f64 {
    RandomState::new().hash_one(0) as f64 / u64::MAX as f64
}
