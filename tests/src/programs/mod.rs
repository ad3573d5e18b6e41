//! `cargo programs [NAME…]`: published programs that nobody here wrote, each as the only `install` entry of a package
//! without code: an image is made, it boots in QEMU, and the program is asked for something. The results go into
//! `docs/src/crates.md`. It takes hours; `tests/third_party.rs` is the short form that the suite runs.

mod list;
mod page;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use self::list::{Program, Serves};
use self::page::Row;
use crate::guest::{BOOT_LIMIT, Guest, exchange, free_port, http_get};
use crate::krazy::Krazy;
use crate::setup;

/// The time in which a program that runs has to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(90);

/// In place of an answer, for a program that nothing here can ask.
const NOT_ASKED: &str = "not asked";

/// Runs the programs that this process's arguments name, or all.
pub fn main() -> ExitCode {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let failed = list::read(&names).and_then(|programs| {
        setup::install_missing()?;
        let mut failed = 0;
        for program in programs {
            let row = try_out(&program)?;
            let served = ["yes", NOT_ASKED].contains(&&row.outcome[2][..]);
            failed += usize::from(!served);
            eprintln!("programs: {}: {}", row.package, row.outcome.join(" | "));
            page::record(&row)?;
        }
        Ok(failed)
    });
    match failed {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            eprintln!("programs: {failed} do not serve");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("programs: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Makes the image of `program`, and starts it.
fn try_out(program: &Program) -> Result<Row> {
    let krazy = Krazy::new()?;
    let directory = krazy.directory.path();
    write_package(program, directory)?;
    let about = [program.version.clone(), program.is.clone(), program.foreign.clone()];
    let row = |outcome: [String; 3]| Row { package: program.package.clone(), about: about.clone(), outcome };
    let no = || "–".to_owned();

    let begin = Instant::now();
    let image = directory.join("program.img");
    let mut command = krazy.command(["image", "--manifest-path"])?;
    command.arg(directory.join("Cargo.toml")).arg("-o").arg(&image);
    let output = command.output().with_context(|| format!("failed to run {command:?}"))?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        eprintln!("{message}");
        let error = message.lines().find(|line| line.starts_with("error")).unwrap_or("failed");
        return Ok(row([cell(error), no(), no()]));
    }
    let made = format!("{} s", begin.elapsed().as_secs());
    Ok(match start(program, &krazy, &image) {
        Ok(guest) => match guest {
            Ok(()) => {
                let serves = if program.serves.is_some() { "yes" } else { NOT_ASKED };
                row([made, "yes".to_owned(), serves.to_owned()])
            }
            Err(error) => row([made, "yes".to_owned(), cell(&error.to_string())]),
        },
        Err(error) => row([made, cell(&error.to_string()), no()]),
    })
}

/// Starts the machine until its services are up. The inner result is that of asking the program.
fn start(program: &Program, krazy: &Krazy, image: &Path) -> Result<Result<()>> {
    let host = free_port()?;
    let mut command = krazy.command(["run-qemu", "--timeout", "1500", "--image"])?;
    command.arg(image);
    if let Some(Serves::Http { port, .. } | Serves::Tcp { port, .. }) = program.serves {
        command.args(["--publish", &format!("{host}:{port}")]);
    }
    let mut guest = Guest::start(command)?;
    guest.fail_on("keeps exiting");
    let up = guest.wait_for(" is up (", BOOT_LIMIT).map(drop);
    if let Err(error) = up {
        eprintln!("{error:#}");
        let last = guest.seen().lines().rfind(|line| line.contains("keeps exiting"));
        bail!("{}", last.unwrap_or("not up in time").to_owned());
    }
    let Some(serves) = &program.serves else { return Ok(Ok(())) };
    let asked = ask(serves, host, &mut guest);
    if let Err(error) = &asked {
        eprintln!("{error:#}\n{}", guest.seen());
    }
    Ok(asked)
}

fn ask(serves: &Serves, host: u16, guest: &mut Guest) -> Result<()> {
    match serves {
        Serves::Http { path, holds, .. } => {
            let (head, body) = http_get(host, path, ANSWER_LIMIT)?;
            let answer = head + &String::from_utf8_lossy(&body);
            ensure!(answer.contains(holds), "answered without `{holds}`");
        }
        Serves::Tcp { send, holds, .. } => {
            let answer = exchange(host, send.as_bytes(), ANSWER_LIMIT)?;
            ensure!(String::from_utf8_lossy(&answer).contains(holds), "answered without `{holds}`");
        }
        Serves::Line(text) if guest.seen().contains(text) => {}
        Serves::Line(text) => drop(guest.wait_for(text, ANSWER_LIMIT)?),
    }
    Ok(())
}

/// Writes the package that holds the program.
fn write_package(program: &Program, directory: &Path) -> Result<()> {
    let Program { package, version, install, metadata, .. } = program;
    let text = format!(
        "[package]\nname = \"appliance\"\nversion = \"1.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
         [package.metadata.krazy.install.{package}]\nversion = \"{version}\"\n{install}\n\n{metadata}\n"
    );
    fs::create_dir_all(directory.join("src"))?;
    fs::write(directory.join("src/lib.rs"), "")?;
    fs::write(directory.join("Cargo.toml"), text)?;
    for (name, text) in &program.files {
        fs::write(directory.join(name), text)?;
    }
    Ok(())
}

/// Returns the first line of `text` as it may stand in a table.
fn cell(text: &str) -> String {
    text.lines().next().unwrap_or_default().replace('|', "/").trim().to_owned()
}
