//! Older versions of TLS.

use std::process::{Command, Output, Stdio};

use crate::device::create;
use crate::process::Process;

#[test]
fn tls_1_2_is_accepted_only_if_configured_and_older_versions_never() {
    for (options, accepted) in [(&[][..], &["-tls1_3"][..]), (&["--tls-1.2"], &["-tls1_2", "-tls1_3"])] {
        let root = tempfile::tempdir().unwrap();
        create(root.path());
        let (_process, address) = Process::serve_with(options, root.path());
        for version in ["-tls1", "-tls1_1", "-tls1_2", "-tls1_3"] {
            let mut openssl = Command::new("openssl");
            // Without the lowest level of security, openssl itself does not offer the oldest versions.
            openssl.args(["s_client", version, "-cipher", "ALL:@SECLEVEL=0", "-connect"]);
            let output = openssl.arg(address.to_string()).stdin(Stdio::null()).output().unwrap();
            let Output { status, stderr, .. } = output;
            let text = String::from_utf8_lossy(&stderr);
            // By the server, not by openssl itself.
            let refused = text.contains("SSL alert number");
            let expected = (accepted.contains(&version), !accepted.contains(&version));
            assert_eq!((status.success(), refused), expected, "{version} with {options:?}: {text}");
        }
    }
}
