//! Ctrl-C while a crate or a kernel builds, while a kernel downloads and while an image is written: the program ends with exit
//! code 130 and says so, nothing is left running, and what was there before stays.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use krazy_tests::fixture::Package;
use krazy_tests::krazy::Krazy;
use krazy_tests::own_kernel;
use krazy_tests::signal::Foreground;

const LIMIT: Duration = Duration::from_secs(600);

const MAIN: &str = "fn main() { loop { std::thread::park(); } }";

/// Interrupts `program` as soon as `ready` says so. Returns what it said.
fn interrupt(mut program: Foreground, ready: impl Fn() -> Result<bool>) -> Result<String> {
    let end = Instant::now() + LIMIT;
    while !ready()? {
        ensure!(program.runs()?, "it ended before it could be interrupted:\n{}", program.end()?);
        ensure!(Instant::now() < end, "it never came so far");
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = program.interrupt()?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(130), "{}\n{said}", output.status);
    ensure!(said.ends_with("error: interrupted\n"), "{said}");
    Ok(said)
}

#[test]
fn interrupted_build_leaves_no_process_and_no_file() -> Result<()> {
    let krazy = Krazy::new()?;
    let package =
        Package::new(krazy.directory.path(), "slow", MAIN, "[package.metadata.krazy]\nadmind = false")?;
    let (script, started) = (package.directory.join("build.rs"), package.directory.join("started"));
    let text = format!(
        "fn main() {{ std::fs::write({started:?}, std::process::id().to_string()).unwrap(); \
         std::thread::sleep(std::time::Duration::from_secs(3600)); }}\n"
    );
    fs::write(script, text)?;
    let mut command = krazy.command(["image", "--manifest-path"])?;
    let program = Foreground::start(command.arg(package.manifest()))?;
    interrupt(program, || Ok(fs::read(&started).is_ok_and(|text| !text.is_empty())))?;
    let build = Path::new("/proc").join(fs::read_to_string(&started)?);
    let end = Instant::now() + LIMIT;
    while build.join("exe").exists() {
        ensure!(Instant::now() < end, "the build goes on");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(!package.directory.join("target/krazy/slow-x86_64.img").exists());
    Ok(())
}

/// Linux from Debian's source package is unpacked, configured with every option of the fragments, and compiled for a moment.
/// `cargo suite kernel` compiles all of it.
#[test]
fn interrupted_kernel_build_is_configured_and_leaves_no_process() -> Result<()> {
    let krazy = Krazy::new()?;
    let directory = krazy.directory.path();
    let mut command = own_kernel::build_command(&krazy, &directory.join("kernel.tar.zst"))?;
    let program = Foreground::start(command.env("KRAZY_CACHE_DIR", directory.join("cache")))?;
    let builds = directory.join("cache/kernel/builds");
    let build = || fs::read_dir(&builds).ok()?.flatten().next().map(|entry| entry.path());
    interrupt(program, || {
        let log = build().and_then(|build| fs::read_to_string(build.join("build.log")).ok());
        Ok(log.is_some_and(|log| log.contains(" CC ") && log.contains("init/main.o")))
    })?;
    let build = build().context("there is no build")?;
    let config = fs::read_to_string(build.join("objects/.config"))?;
    for option in ["CONFIG_SECCOMP_FILTER=y", "CONFIG_CGROUP_BPF=y", "CONFIG_AUDIT=y", "CONFIG_VIRTIO_BLK=y"]
    {
        ensure!(config.lines().any(|line| line == option), "{option} is not in the configuration");
    }
    let path = build.to_str().context("not UTF-8")?;
    for process in fs::read_dir("/proc")?.flatten() {
        let arguments = fs::read(process.path().join("cmdline")).unwrap_or_default();
        ensure!(!String::from_utf8_lossy(&arguments).contains(path), "{:?} goes on", process.path());
    }
    assert!(!directory.join("kernel.tar.zst").exists());
    Ok(())
}

#[test]
fn interrupted_download_leaves_no_process_and_no_file() -> Result<()> {
    let krazy = Krazy::new()?;
    // A mirror that takes calls and never answers.
    let mirror = TcpListener::bind(("127.0.0.1", 0))?;
    mirror.set_nonblocking(true)?;
    let url = format!("http://{}/debian", mirror.local_addr()?);
    let metadata = format!(
        "[package.metadata.krazy]\nkernel = {{ debian = \"linux-image-amd64\", mirror = \"{url}\" }}"
    );
    let package = Package::new(krazy.directory.path(), "patient", MAIN, &metadata)?;
    let mut command = krazy.command(["kernel", "fetch", "--manifest-path"])?;
    command.arg(package.manifest()).env("KRAZY_CACHE_DIR", krazy.directory.path().join("cache"));
    let calls = std::cell::RefCell::new(Vec::new());
    interrupt(Foreground::start(&mut command)?, || {
        match mirror.accept() {
            Ok(call) => calls.borrow_mut().push(call),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        Ok(!calls.borrow().is_empty())
    })?;
    assert!(!package.directory.join("Krazy.lock").exists());

    // Nobody at home at all is a failure of the network, and names the mirror.
    drop(mirror);
    let output = command.output()?;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(6), "{said}");
    assert!(said.contains(&format!("failed to download {url}/dists/trixie/InRelease")), "{said}");
    assert!(said.contains("help: check the network"), "{said}");
    Ok(())
}

#[test]
fn interrupted_image_leaves_the_earlier_one() -> Result<()> {
    let krazy = Krazy::new()?;
    let metadata = "[package.metadata.krazy]\nadmind = false\ncompression-level = 22\n\n\
                    [package.metadata.krazy.files]\n\"/big\" = \"big\"";
    let package = Package::new(krazy.directory.path(), "large", MAIN, metadata)?;
    // Text that takes long to compress well.
    let text: String = (0_u64..6_000_000).map(|n| format!("{:x}\n", n.wrapping_mul(0x9e37_79b9))).collect();
    fs::write(package.directory.join("big"), text)?;
    let directory = krazy.directory.path().join("out");
    let output = directory.join("a.img");
    fs::create_dir(&directory)?;
    fs::write(&output, "the old one")?;
    let names = || -> Result<Vec<String>> {
        let names =
            fs::read_dir(&directory)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    };
    let mut command = krazy.command(["image", "--manifest-path"])?;
    let program = Foreground::start(command.arg(package.manifest()).arg("-o").arg(&output))?;
    // The image grows under another name.
    interrupt(program, || Ok(names()?.iter().any(|name| name.starts_with(".krazy-"))))?;
    assert_eq!(names()?, ["a.img"]);
    assert_eq!(fs::read_to_string(&output)?, "the old one");
    Ok(())
}
