use std::io::Read;

use rustix::process::WaitOptions;

use krazy_boot::manifest::sandbox::Sandbox;

use super::super::confinement::{Confined, Support};
use super::*;

const OTHER_USER: Rights = Rights { uid: 12_345, capabilities: Capabilities(0), open_files: None };

fn run(program: &str, arguments: &[&str], rights: Rights) -> (String, String) {
    run_confined(program, arguments, rights, None)
}

fn run_confined(
    program: &str,
    arguments: &[&str],
    rights: Rights,
    confinement: Option<&Confinement>,
) -> (String, String) {
    let (mut out, stdout) = io::pipe().unwrap();
    let (mut err, stderr) = io::pipe().unwrap();
    let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
    let environment = [("PATH".to_owned(), "/bin:/usr/bin".to_owned())];
    let launch = Launch {
        program: Path::new(program),
        arguments: &arguments,
        environment: &environment,
        has_watchdog: false,
        directory: Path::new("/"),
        rights,
        groups: &[7, 8],
        confinement,
        cgroup: None,
        stdout: stdout.into(),
        stderr: stderr.into(),
    };
    let pid = spawn(launch).unwrap().wait().unwrap();
    let (mut text, mut errors) = (String::new(), String::new());
    out.read_to_string(&mut text).unwrap();
    err.read_to_string(&mut errors).unwrap();
    rustix::process::waitpid(Some(pid), WaitOptions::empty()).unwrap();
    (text, errors)
}

#[test]
fn service_has_its_own_session_and_a_clean_environment() {
    let script = "echo $PPID; ps -o pid=,pgid=,sid= -p $$; env; exec cat /proc/self/status >&2";
    let (out, status) = run("/bin/sh", &["-c", script], Rights::default());
    let ids: Vec<&str> = out.lines().nth(1).unwrap().split_ascii_whitespace().collect();
    assert!(ids[0] == ids[1] && ids[1] == ids[2], "{out}");
    assert!(out.contains("PATH=/bin:/usr/bin") && !out.contains("CARGO"), "{out}");
    assert!(status.contains("SigBlk:\t0000000000000000"), "{status}");
}

#[test]
fn variable_tells_a_process_its_number() {
    for (number, expected) in
        [(1, "WATCHDOG_PID=1"), (40, "WATCHDOG_PID=40"), (u32::MAX, "WATCHDOG_PID=4294967295")]
    {
        let mut text = *WATCHDOG_PID;
        write_number(&mut text, number);
        let text = std::ffi::CStr::from_bytes_until_nul(&text).unwrap();
        assert_eq!(text.to_str().unwrap(), expected);
    }
    let (mut out, stdout) = io::pipe().unwrap();
    let launch = Launch {
        program: Path::new("/bin/sh"),
        arguments: &["-c".to_owned(), "echo $$ $WATCHDOG_PID".to_owned()],
        environment: &[],
        has_watchdog: true,
        directory: Path::new("/"),
        rights: Rights::default(),
        confinement: None,
        groups: &[],
        cgroup: None,
        stdout: stdout.into(),
        stderr: io::pipe().unwrap().1.into(),
    };
    let pid = spawn(launch).unwrap().wait().unwrap();
    let mut text = String::new();
    out.read_to_string(&mut text).unwrap();
    rustix::process::waitpid(Some(pid), WaitOptions::empty()).unwrap();
    let number = pid.as_raw_nonzero();
    assert_eq!(text, format!("{number} {number}\n"));
}

#[test]
fn missing_program_is_an_error() {
    let launch = Launch {
        program: Path::new("/nowhere/program"),
        arguments: &[],
        environment: &[],
        has_watchdog: false,
        directory: Path::new("/"),
        rights: Rights::default(),
        groups: &[],
        confinement: None,
        cgroup: None,
        stdout: io::pipe().unwrap().1.into(),
        stderr: io::pipe().unwrap().1.into(),
    };
    assert_eq!(spawn(launch).unwrap().wait().unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn another_account_has_no_rights() {
    // Only root can change to another user.
    if rustix::process::geteuid().is_root() {
        let (status, _) = run("/bin/cat", &["/proc/self/status"], OTHER_USER);
        for line in [
            "Uid:\t12345\t12345\t12345\t12345",
            "Gid:\t12345\t12345\t12345\t12345",
            "NoNewPrivs:\t1",
            "Groups:\t7 8 \n",
        ] {
            assert!(status.contains(line), "{line} not in {status}");
        }
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert!(status.contains(&format!("{set}:\t0000000000000000")), "{set} in {status}");
        }
    } else {
        assert!(confine(Rights::default(), &[]).is_ok());
    }
}

#[test]
fn single_capability_and_file_limit_are_kept() {
    if rustix::process::geteuid().is_root() {
        let rights = Rights { capabilities: Capabilities(1 << 12), open_files: Some(77), ..OTHER_USER };
        let script = "ulimit -Hn; cat /proc/self/status";
        let (status, errors) = run("/bin/sh", &["-c", script], rights);
        assert!(status.starts_with("77\n"), "{status}{errors}");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert!(status.contains(&format!("{set}:\t0000000000001000")), "{set} in {status}");
        }
    } else {
        assert_eq!(Capabilities(1 << 12).take().unwrap_err().raw_os_error(), Some(libc::EPERM));
    }
}

#[test]
fn sandbox_confines_writing_to_its_directories() {
    // Not in /tmp, which every service may change.
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let (inside, outside) = (dir.path().join("in"), dir.path().join("out"));
    for directory in [&inside, &outside] {
        std::fs::create_dir(directory).unwrap();
        std::os::unix::fs::chown(directory, Some(reachable_user().uid), Some(reachable_user().uid)).unwrap();
    }
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let sandbox = Sandbox { writes: true, ..Sandbox::NONE };
    let directories = [inside.as_path()];
    let service = confined(sandbox, &directories);
    // Not the mounts, for which the test needs more rights than it may have.
    let support = Support { mounts: false, ..Support::of_this_kernel() };
    let confinement = Confinement::new(&service, support).unwrap();
    let expected =
        if support.landlock >= 1 { "in: 0 0\nout: 2\nnull: 0\n" } else { "in: 0 0\nout: 0\nnull: 0\n" };
    let script = "cd \"$1\"; (mkdir -p a b; echo x > a/f) 2>/dev/null; r=$?; mv a/f b/f; echo in: $r $?;\n\
        (echo x > ../out/f) 2>/dev/null; echo out: $?; (echo x > /dev/null); echo null: $?";
    let arguments = ["-c", script, "sh", &inside.to_string_lossy()];
    let (out, errors) = run_confined("/bin/sh", &arguments, reachable_user(), Some(&confinement));
    assert_eq!(out, expected, "{errors}");
}

#[test]
fn filter_denies_administration_and_leaves_the_rest() {
    let support = Support { mounts: false, landlock: 0, ..Support::of_this_kernel() };
    if !support.filters {
        return;
    }
    let service = confined(Sandbox::FULL, &[]);
    let confinement = Confinement::new(&service, support).unwrap();
    let script = "unshare -r true; echo unshare: $?; true | cat; echo pipe: $?; cat /proc/self/status >&2";
    let (out, status) = run_confined("/bin/sh", &["-c", script], reachable_user(), Some(&confinement));
    assert_eq!(out, "unshare: 1\npipe: 0\n", "{status}");
    assert!(status.contains("Seccomp:\t2") && status.contains("Operation not permitted"), "{status}");
}

#[test]
fn mounts_of_a_service_are_its_own() {
    // Only root can make a namespace of mounts, and not in every container.
    // SAFETY: it affects this thread only, and fails without the right.
    let can = std::thread::spawn(|| unsafe { libc::unshare(libc::CLONE_NEWNS) == 0 }).join().unwrap();
    if !can {
        return;
    }
    let support = Support { landlock: 0, filters: false, mounts: true };
    let sandbox = Sandbox { private_tmp: true, hidden_processes: true, ..Sandbox::NONE };
    let confinement = Confinement::new(&confined(sandbox, &[]), support).unwrap();
    let script =
        "ls -A /tmp /dev/shm; cat /proc/1/comm 2>/dev/null; echo seen: $?; echo x > /tmp/x; cat /tmp/x; pwd";
    let (out, errors) = run_confined("/bin/sh", &["-c", script], OTHER_USER, Some(&confinement));
    assert_eq!(out, "/dev/shm:\n\n/tmp:\nseen: 1\nx\n/\n", "{errors}");
}

fn confined<'a>(sandbox: Sandbox, directories: &'a [&'a Path]) -> Confined<'a> {
    Confined {
        sandbox,
        capabilities: Capabilities(0),
        directories,
        devices: Path::new("/dev"),
        writes_sysfs: false,
    }
}

/// Returns an account that the test can change to: another one for root, else its own.
fn reachable_user() -> Rights {
    match rustix::process::geteuid() {
        uid if uid.is_root() => OTHER_USER,
        uid => Rights { uid: uid.as_raw(), ..OTHER_USER },
    }
}
