//! What must hold for the own package: binaries, features, names.

use super::*;

#[test]
fn a_library_is_no_appliance() {
    let project = Project(tempfile::tempdir().unwrap());
    let manifest =
        "[package]\nname = \"weather\"\nversion = \"1.0.0\"\nedition = \"2024\"\n[package.metadata.krazy]\n";
    let project = project.file("Cargo.toml", manifest).file("src/lib.rs", "");
    assert_eq!(
        project.error(),
        "DIR/Cargo.toml: the package `weather` has no binary, so there is nothing to run\n\
         help: add src/main.rs or a [[bin]] target, name crates under `install`, or put the metadata into the package \
         that has a program"
    );
}

#[test]
fn package_without_programs_of_its_own_holds_those_of_others() {
    let project = Project(tempfile::tempdir().unwrap());
    let manifest = "[package]\nname = \"weather\"\nversion = \"1.0.0\"\nedition = \"2024\"\n\
                    [package.metadata.krazy]\ninstall.dufs = \"0.47\"\n";
    let names = |project: &Project| {
        project.load().installs.into_iter().map(|install| install.name).collect::<Vec<_>>()
    };
    let library = project.file("Cargo.toml", manifest).file("src/lib.rs", "");
    assert_eq!(names(&library), ["dufs", "krazy-admind"]);
    let none = Project::new("[package.metadata.krazy]\nbins = []\ninstall.dufs = \"0.47\"");
    assert_eq!(names(&none), ["dufs", "krazy-admind"]);
    assert_eq!(
        error("bins = []"),
        "DIR/Cargo.toml:6: `bins` in [package.metadata.krazy] is empty, and there is nothing under `install`, so there is \
         nothing to run"
    );
}

#[test]
fn bins_must_be_binaries_of_the_package() {
    assert_eq!(
        error("bins = [\"wether\"]"),
        "DIR/Cargo.toml:6: `bins` in [package.metadata.krazy] has `wether`, which is no binary of `weather`\n\
         help: did you mean `weather`?"
    );
}

#[test]
fn unknown_features_are_told() {
    assert_eq!(
        Project::new("[features]\nled = []\n[package.metadata.krazy]\nfeatures = [\"lde\"]").error(),
        "DIR/Cargo.toml:8: the package `weather` has no feature `lde`\nhelp: did you mean `led`?"
    );
}

#[test]
fn required_features_count_as_cargo_counts_them() {
    let manifest = "[features]\ndefault = [\"a\"]\na = [\"b\"]\nb = []\nc = []\n\
                    [[bin]]\nname = \"weather\"\npath = \"src/main.rs\"\nrequired-features = [\"b\"]\n\
                    [[bin]]\nname = \"tool\"\npath = \"src/main.rs\"\nrequired-features = [\"c\"]\n\
                    [package.metadata.krazy]\n";
    // `b` is on through `default` and `a`; `tool` is left out, as cargo does.
    assert_eq!(Project::new(manifest).load().installs[0].bins, [""; 0]);
    let off = Project::new(&format!("{manifest}no-default-features = true")).error();
    assert_eq!(
        off,
        "DIR/Cargo.toml: the binary `weather` requires features that are off: `b`\n\
         help: add `features = [\"b\"]` to [package.metadata.krazy]"
    );
    let named = Project::new(&format!("{manifest}bins = [\"tool\"]")).error();
    assert!(
        named.starts_with("DIR/Cargo.toml:19: the binary `tool` requires features that are off: `c`"),
        "{named}"
    );
    let project = Project::new(&format!("{manifest}bins = [\"tool\"]"));
    let features = OwnFeatures { features: vec!["c".into()], ..OwnFeatures::default() };
    let appliance = load(&Request { features, ..project.request() }).unwrap();
    assert_eq!(appliance.installs[0].features, ["c"]);
}

#[test]
fn a_binary_called_init_is_the_init_or_an_error() {
    let manifest = "[[bin]]\nname = \"init\"\npath = \"src/main.rs\"\n[package.metadata.krazy]\n";
    assert_eq!(
        Project::new(manifest).error(),
        "DIR/Cargo.toml: a binary is called `init`, but /bin/init is `krazy-init`\n\
         help: write `init = \"init\"` to make it the init, rename it, or leave it out with `bins`"
    );
    assert_eq!(Project::new(&format!("{manifest}init = \"init\"")).load().init, "init");
}

#[test]
fn a_package_name_that_is_no_appliances_name_needs_one() {
    let manifest = |metadata: &str| {
        let name = "a".repeat(64);
        Project::with_manifest(&format!(
            "[package]\nname = \"{name}\"\nversion = \"1.0.0\"\nedition = \"2024\"\n[package.metadata.krazy]\n{metadata}"
        ))
    };
    let error = manifest("").error();
    assert!(
        error.starts_with("DIR/Cargo.toml: [package.metadata.krazy] needs `name`, because `aaaa"),
        "{error}"
    );
    assert_eq!(manifest("name = \"a_b\"").load().hostname, "a-b");
    let underscore = Project::with_manifest(
        "[package]\nname = \"My_App\"\nversion = \"1.0.0\"\nedition = \"2024\"\n[package.metadata.krazy]\n",
    );
    assert_eq!(underscore.load().hostname, "my-app");
}
