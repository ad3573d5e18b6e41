//! Which package is made, and how the workspace's table takes part.

use super::*;

/// A virtual workspace with the members `a` and `b` and what each has after its `[package]` table.
fn workspace(root: &str, a: &str, b: &str) -> Project {
    let project = Project(tempfile::tempdir().unwrap());
    let member = |name: &str, metadata: &str| {
        format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n{metadata}")
    };
    project
        .file("Cargo.toml", &format!("[workspace]\nresolver = \"3\"\nmembers = [\"a\", \"b\"]\n{root}"))
        .file("a/Cargo.toml", &member("a", a))
        .file("a/src/main.rs", "fn main() {}")
        .file("b/Cargo.toml", &member("b", b))
        .file("b/src/main.rs", "fn main() {}")
}

const TABLE: &str = "[package.metadata.krazy]\n";

#[test]
fn without_a_table_there_is_one_to_paste() {
    assert_eq!(
        Project::new("").error(),
        "DIR/Cargo.toml has no [package.metadata.krazy], so there is no appliance to make\n\
         help: add this to it:\n\n[package.metadata.krazy]\nhostname = \"weather\""
    );
    assert_eq!(
        workspace("", "", "").error(),
        "no package of the workspace DIR/Cargo.toml has [package.metadata.krazy]\n\
         help: add one to the Cargo.toml of the right package (`a`, `b`):\n\n\
         [package.metadata.krazy]\nhostname = \"a\""
    );
}

#[test]
fn the_only_member_with_a_table_is_taken() {
    assert_eq!(workspace("", "", TABLE).load().name, "b");
    // Also from a root package without one.
    let root =
        "[package]\nname = \"root\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[lib]\npath = \"lib.rs\"";
    assert_eq!(workspace(root, TABLE, "").file("lib.rs", "").load().name, "a");
}

#[test]
fn several_members_with_a_table_need_a_choice() {
    let project = workspace("", TABLE, TABLE);
    assert_eq!(
        project.error(),
        "several packages have [package.metadata.krazy]: `a`, `b`\nhelp: choose one, such as `-p a`"
    );
    let choose = |name: &str| Request { package: Some(name.into()), ..project.request() };
    assert_eq!(load(&choose("b")).unwrap().name, "b");
    assert_eq!(load(&choose("b@0.1.0")).unwrap().name, "b");
    assert_eq!(project.error_of(&choose("c")), "the workspace has no package `c`\nhelp: did you mean `a`?");
    assert!(project.error_of(&choose("b@0.2.0")).starts_with("the workspace has no package `b@0.2.0`"));
}

#[test]
fn a_members_manifest_means_that_member() {
    let project = workspace("", TABLE, "");
    let request = |member: &str| Request { manifest_path: Some(project.path(member)), ..project.request() };
    assert_eq!(load(&request("a/Cargo.toml")).unwrap().name, "a");
    let error = project.error_of(&request("b/Cargo.toml"));
    assert!(error.starts_with("DIR/b/Cargo.toml has no [package.metadata.krazy]"), "{error}");
}

#[test]
fn the_workspace_gives_defaults_and_the_package_wins() {
    let root = "[workspace.metadata.krazy]\nhostname = \"fleet\"\ncompression-level = 3\n\
                files = { \"/etc/fleet\" = \"fleet.conf\" }\n\
                [workspace.metadata.krazy.service.a]\nargs = [\"x\"]\nenv = { A = \"1\", B = \"1\" }\n\
                [workspace.metadata.krazy.board.x86_64]\nmodules = [\"m\"]\n";
    let a = "[package.metadata.krazy]\nhostname = \"one\"\nservice.a.env = { B = \"2\" }";
    let project = workspace(root, a, "").file("fleet.conf", "");
    let appliance = project.load();
    assert_eq!((appliance.hostname.as_str(), appliance.compression_level), ("one", 3));
    assert_eq!(appliance.modules, ["m"]);
    assert_eq!(appliance.services["a"].args, ["x"]);
    let env: Vec<_> = appliance.services["a"].env.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(env, ["A=1", "B=2"]);
    // Relative to the file that says it.
    assert_eq!(appliance.files["/etc/fleet"], project.path("fleet.conf"));
}

#[test]
fn an_error_in_the_workspaces_table_names_its_file() {
    let root = "[workspace.metadata.krazy]\nhostnam = \"fleet\"";
    assert_eq!(
        workspace(root, TABLE, "").error(),
        "DIR/Cargo.toml:5: unknown key `hostnam` in [workspace.metadata.krazy]\nhelp: did you mean `hostname`?"
    );
    let root = "[workspace.metadata.krazy]\ncmdline = \"root=/dev/sda\"";
    let error = workspace(root, TABLE, "").error();
    assert!(
        error.starts_with("DIR/Cargo.toml:5: `cmdline` in [workspace.metadata.krazy] is wrong"),
        "{error}"
    );
}

#[test]
fn cargos_own_errors_are_passed_on() {
    let error = Project::with_manifest("[package]\nname = 1\n").error();
    assert!(error.starts_with("invalid type: integer `1`, expected a string"), "{error}");
    let project = Project::new("");
    let absent = Request { manifest_path: Some(project.path("absent/Cargo.toml")), ..project.request() };
    assert!(project.error_of(&absent).starts_with("manifest path `DIR/absent/Cargo.toml` does not exist"));
}
