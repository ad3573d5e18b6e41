//! The device of the target `http`: files in a directory.

use std::fs;
use std::path::Path;

use krazy_boot::api::credentials::{HashedToken, Role, Scope, Token, TokenFile};
use krazy_boot::manifest::{DISK_FORMAT, FORMAT, Kernel, Manifest, Program};

/// Creates the files of a device in `root`. The token `fuzz`, which is in the seeds, is an admin.
pub(crate) fn create(root: &Path) {
    let write = |path: &str, content: &[u8]| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(path, content).expect("a file");
    };
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("a name");
    write("data/krazy/tls/cert.pem", params.self_signed(&key).expect("a certificate").pem().as_bytes());
    write("data/krazy/tls/key.pem", key.serialize_pem().as_bytes());
    let token = Token::from_random([7; 32]);
    let hashed = HashedToken::new("fuzz", Role::Admin, vec![Scope::WholeTree], &token, [1; 16]);
    let tokens = TokenFile::new(vec![hashed]).and_then(|tokens| tokens.to_json()).expect("tokens");
    write("data/krazy/tokens.json", &tokens);
    write("proc/meminfo", b"MemTotal: 2048 kB\nMemAvailable: 1024 kB\n");
    write("proc/cmdline", b"krazy.slot=b console=ttyS0\n");
    write("tmp/web.log", b"first\nsecond\nthird\n");
    write("dev/null", b"");
    write("run/krazy/none", b"");
    let program = Program {
        package: "krazy-init".to_owned(),
        version: "0.1.0".to_owned(),
        source: "path".to_owned(),
        sha256: "00".repeat(32),
    };
    let manifest = Manifest {
        format: FORMAT,
        disk_format: DISK_FORMAT,
        name: "weather".to_owned(),
        version: "1.2.3".to_owned(),
        board: "x86_64".to_owned(),
        build_id: "11".repeat(32),
        hostname: "weather".to_owned(),
        kernel: Kernel { release: "6.12".to_owned(), origin: "debian".to_owned(), sha256: "22".repeat(32) },
        init: program,
        services: Vec::new(),
        boot_writable: false,
        modules: Vec::new(),
        network: Default::default(),
        hosts: Default::default(),
        instructions: Vec::new(),
        sysctl: Default::default(),
    };
    write("etc/krazy/manifest.json", &manifest.to_json());
}
