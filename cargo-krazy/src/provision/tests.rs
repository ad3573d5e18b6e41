use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::failure::chain;

/// Everything that may differ between two sets.
fn fingerprint(secrets: &Secrets) -> (String, String, Vec<u8>) {
    let data = secrets.data_files().unwrap().into_iter().flat_map(|file| file.bytes).collect();
    (secrets.id().to_string(), secrets.token().reveal(), data)
}

fn message<T>(result: Result<T>) -> (String, String) {
    let Err(failure) = result else { panic!("unexpectedly succeeded") };
    (chain(&failure), failure.next_step().unwrap_or_default().to_owned())
}

#[test]
fn the_first_run_makes_what_later_runs_read() {
    let state = tempfile::tempdir().unwrap();
    let first = provision("weather", state.path()).unwrap();
    let again = provision("weather", state.path()).unwrap();
    assert_eq!(fingerprint(&first), fingerprint(&again));
    assert_eq!(fingerprint(&first), fingerprint(&load("weather", state.path()).unwrap()));
    let other = provision("other", state.path()).unwrap();
    assert_ne!(first.id(), other.id());
    assert_ne!(first.token(), other.token());
}

#[test]
fn each_disk_has_credentials_of_its_own() {
    let state = tempfile::tempdir().unwrap();
    let disks = [(); 2].map(|()| {
        let disk = provision("weather", state.path()).unwrap().for_one_disk("weather").unwrap();
        assert!(disk.tokens.find(&disk.token).is_some_and(|entry| entry.role == Role::Admin));
        disk.tls.check().unwrap();
        assert_eq!(fingerprint(&disk), fingerprint(&disk), "the same bytes at every call");
        disk
    });
    let shared = load("weather", state.path()).unwrap();
    for (one, other) in [(&disks[0], &disks[1]), (&disks[0], &shared), (&disks[1], &shared)] {
        assert!(one.tls.private_key != other.tls.private_key && one.token != other.token);
        assert!(one.tokens.find(&other.token).is_none());
        assert_ne!(one.disk_signature(), other.disk_signature());
    }
}

#[test]
fn only_the_owner_may_read() {
    let state = tempfile::tempdir().unwrap();
    let directory = provision("weather", &state.path().join("new")).unwrap().directory;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&state.path().join("new")), 0o700);
    assert_eq!(mode(&state.path().join("new/weather")), 0o700);
    assert_eq!(mode(&directory), 0o700);
    let names: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(names.len(), 7);
    for path in names {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    assert_eq!(
        fs::read_dir(directory.parent().unwrap()).unwrap().count(),
        1,
        "temporary directory left behind"
    );

    let token = directory.join(store::TOKEN);
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    let (text, help) = message(load("weather", &state.path().join("new")));
    assert!(text.contains("holds secrets, but its mode 0644 lets others in"), "{text}");
    assert_eq!(help, format!("run `chmod go= '{}'`", token.display()));
}

#[test]
fn runs_at_once_agree_on_one_set() {
    let state = tempfile::tempdir().unwrap();
    let barrier = std::sync::Barrier::new(8);
    let sets: Vec<_> = std::thread::scope(|scope| {
        let run = || {
            barrier.wait();
            fingerprint(&provision("weather", state.path()).unwrap())
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(sets.iter().all(|set| *set == sets[0]));
}

#[test]
fn the_device_accepts_what_the_client_has() {
    let state = tempfile::tempdir().unwrap();
    let secrets = provision("weather", state.path()).unwrap();
    let files = secrets.data_files().unwrap();
    let layout: Vec<_> = files.iter().map(|file| (file.path, file.mode)).collect();
    assert_eq!(
        layout,
        [
            ("krazy/tls/cert.pem", 0o644),
            ("krazy/tls/key.pem", 0o600),
            ("krazy/tokens.json", 0o600),
            ("krazy/update.pub", 0o644)
        ]
    );
    let tokens = TokenFile::from_json(&files[2].bytes).unwrap();
    let entry = tokens.find(secrets.token()).unwrap();
    assert_eq!((entry.name.as_str(), entry.role), ("admin", Role::Admin));
    assert!(entry.scopes.is_empty(), "the whole tree must be asked for");
    let clear = secrets.token().reveal();
    assert!(files.iter().all(|file| !String::from_utf8_lossy(&file.bytes).contains(&clear[4..])));

    let keys = credentials::UpdateKey::parse_file(std::str::from_utf8(&files[3].bytes).unwrap()).unwrap();
    let public = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, keys[0].0);
    let signature = secrets.update_key().sign(b"bundle").unwrap();
    public.verify(b"bundle", &signature).unwrap();
    assert!(public.verify(b"bundlf", &signature).is_err());
}

#[test]
fn half_a_set_is_an_error_and_not_replaced() {
    let state = tempfile::tempdir().unwrap();
    let directory = provision("weather", state.path()).unwrap().directory;
    fs::remove_file(directory.join("key.pem")).unwrap();
    fs::remove_file(directory.join("token")).unwrap();
    let (text, help) = message(provision("weather", state.path()));
    assert_eq!(
        text,
        format!("the secrets in {} are incomplete: `key.pem`, `token` missing", directory.display())
    );
    assert!(help.starts_with("restore the directory from a backup"), "{help}");
    assert!(!directory.join("token").exists());
}

#[test]
fn files_of_two_sets_are_noticed() {
    let state = tempfile::tempdir().unwrap();
    let one = provision("one", state.path()).unwrap().directory;
    let two = provision("two", state.path()).unwrap().directory;
    for (file, cause) in [
        (store::TOKEN, "`tokens.json` does not know the admin token in `token`"),
        (store::PRIVATE_KEY, "the TLS certificate belongs to another key"),
    ] {
        let own = fs::read(two.join(file)).unwrap();
        fs::copy(one.join(file), two.join(file)).unwrap();
        let (text, help) = message(provision("two", state.path()));
        assert_eq!(text, format!("the secrets in {} are damaged: {cause}", two.display()));
        assert!(help.contains("backup"), "{help}");
        fs::write(two.join(file), own).unwrap();
    }
    provision("two", state.path()).unwrap();
}

#[test]
fn damaged_and_oversized_files_are_errors() {
    let state = tempfile::tempdir().unwrap();
    let directory = provision("one", state.path()).unwrap().directory;
    for (file, cause) in [
        (store::ID, "an appliance id is 32 hexadecimal digits"),
        (store::UPDATE_KEY, "the update key cannot be read"),
        (store::TOKENS, "the token file is damaged"),
    ] {
        let own = fs::read(directory.join(file)).unwrap();
        fs::write(directory.join(file), "x\n").unwrap();
        let (text, _) = message(provision("one", state.path()));
        assert!(text.contains(cause), "{text}");
        fs::write(directory.join(file), own).unwrap();
    }
    fs::write(directory.join(store::ID), "0".repeat(70_000)).unwrap();
    let (text, _) = message(provision("one", state.path()));
    assert!(text.contains("has more than 65536 bytes"), "{text}");
}

#[test]
fn names_that_are_no_folder_are_refused() {
    let state = tempfile::tempdir().unwrap();
    for name in ["", ".", "..", "a/b", "größe", &"x".repeat(64)] {
        let (text, help) = message(provision(name, state.path()));
        assert_eq!(text, format!("`{name}` cannot be an appliance's name"));
        assert!(help.starts_with("set `name` in [package.metadata.krazy]"), "{help}");
    }
    assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
}

#[test]
fn an_unknown_appliance_says_where_its_secrets_would_be() {
    let state = tempfile::tempdir().unwrap();
    let (text, help) = message(load("weather", state.path()));
    let directory = state.path().join("weather/secrets");
    assert_eq!(
        text,
        format!("there are no credentials for the appliance `weather` in {}", directory.display())
    );
    assert!(help.starts_with("make its image on this machine first"), "{help}");
}

#[test]
fn openssl_reads_the_certificate() {
    let state = tempfile::tempdir().unwrap();
    let directory = provision("weather", state.path()).unwrap().directory;
    let run = |args: &[&str]| {
        let output =
            std::process::Command::new("openssl").args(args).current_dir(&directory).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = run(&["x509", "-in", "cert.pem", "-noout", "-text"]);
    for part in [
        "CN = weather",
        "DNS:weather, DNS:weather.local, DNS:localhost, IP Address:127.0.0.1",
        "Not After : Dec 31",
        "9999 GMT",
        "TLS Web Server Authentication",
        "prime256v1",
    ] {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
    run(&["verify", "-CAfile", "cert.pem", "-verify_hostname", "localhost", "cert.pem"]);
}
