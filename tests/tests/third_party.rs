//! An appliance of programs that nobody here wrote.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use krazy_tests::fixture::Package;
use krazy_tests::guest::{BOOT_LIMIT, Guest, exchange, free_port, http_get};
use krazy_tests::krazy::Krazy;
use krazy_tests::process::succeed;

/// A git repository with one crate, whose name is not the repository's.
fn repository(directory: &Path) -> Result<String> {
    let main = "fn main() { println!(\"tick\"); loop { std::thread::park(); } }";
    let package = Package::new(directory, "tick-tock", main, "")?;
    let git = |arguments: &[&str]| -> Result<()> {
        let identity =
            ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main"];
        succeed(Command::new("git").current_dir(&package.directory).args(identity).args(arguments)).map(drop)
    };
    git(&["init", "-q"])?;
    git(&["add", "."])?;
    git(&["commit", "-q", "-m", "a crate"])?;
    let bare = directory.join("clock.git");
    succeed(Command::new("git").args(["clone", "-q", "--bare"]).args([&package.directory, &bare]))?;
    Ok(format!("file://{}", bare.display()))
}

#[test]
fn file_server_tunnel_and_git_crate_run_together() -> Result<()> {
    let krazy = Krazy::new()?;
    let directory = krazy.directory.path();
    let url = repository(directory)?;
    // dufs serves files over HTTP and links ring, which is C and assembly; bore is a TCP tunnel. To optimize them all would
    // take minutes, and shows nothing that `cargo programs` does not.
    let metadata = format!(
        r#"
[package.metadata.krazy]
profile = "dev"

[package.metadata.krazy.install]
dufs = {{ version = "=0.47.0", profile = "dev" }}
bore-cli = {{ version = "=0.6.0", profile = "dev" }}
clock = {{ git = "{url}%tick-tock" }}

[package.metadata.krazy.service.dufs]
args = ["--port", "80", "/srv"]

[package.metadata.krazy.service.bore]
args = ["server"]

[package.metadata.krazy.files]
"/srv/greeting.txt" = "greeting.txt"
"#
    );
    // SQLite is the C code that most users' first crate has.
    let main = r#"fn main() {
        let database = rusqlite::Connection::open("visits.db").unwrap();
        database.execute_batch("create table if not exists visits(at); insert into visits values (1)").unwrap();
        let rows: i64 = database.query_row("select count(*) from visits", [], |row| row.get(0)).unwrap();
        loop {
            println!("visits: {rows}");
            std::thread::sleep(std::time::Duration::from_secs(1));
        }
    }"#;
    let dependency = r#"
[dependencies]
rusqlite = { version = "=0.37.0", features = ["bundled"] }
"#;
    let package = Package::new(directory, "site", main, &format!("{dependency}{metadata}"))?;
    fs::write(package.directory.join("greeting.txt"), "hello from a third party\n")?;

    let image = directory.join("site.img");
    let mut command = krazy.command(["image", "--manifest-path"])?;
    command.env("CARGO_PROFILE_DEV_DEBUG", "none");
    succeed(command.arg(package.manifest()).arg("-o").arg(&image))?;
    let (http, control) = (free_port()?, free_port()?);
    let mut command = krazy.command(["run-qemu", "--timeout", "1500", "--image"])?;
    command.arg(&image).args(["--publish", &format!("{http}:80"), "--publish", &format!("{control}:7835")]);
    let mut guest = Guest::start(command)?;
    guest.wait_for("tick-tock: tick", BOOT_LIMIT)?;
    guest.wait_for("site: visits: 1", BOOT_LIMIT)?;
    let (head, body) = http_get(http, "/greeting.txt", BOOT_LIMIT)?;
    assert!(head.contains(" 200 "), "{head}");
    assert_eq!(String::from_utf8(body)?, "hello from a third party\n");
    // bore's messages are JSON that ends in NUL; "Hello" with port 0 asks for a tunnel on any port.
    let answer = exchange(control, b"{\"Hello\":0}\0", BOOT_LIMIT)?;
    assert!(answer.starts_with(b"{\"Hello\":"), "{}", String::from_utf8_lossy(&answer));
    Ok(())
}
