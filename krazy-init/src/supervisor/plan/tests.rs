use super::*;

fn manifest(services: &[(&str, ServiceSettings)]) -> Manifest {
    let dir = tempfile::tempdir().unwrap();
    for (name, _) in services {
        fs::write(dir.path().join(name), "").unwrap();
        fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::write(dir.path().join("notes.txt"), "").unwrap();
    fs::copy(dir.path().join(services[0].0), dir.path().join(INIT)).unwrap();
    let mut manifest = manifest_of(dir.path()).unwrap();
    for (name, settings) in services {
        manifest.services.iter_mut().find(|s| s.name == *name).unwrap().settings = settings.clone();
    }
    manifest
}

#[test]
fn without_configuration_every_program_is_a_service_with_its_own_account() {
    let manifest = manifest(&[("web", ServiceSettings::default()), ("db", ServiceSettings::default())]);
    let mut plan = plan(&manifest);
    plan.announce_slot(Slot::B);
    assert!(plan.problems.is_empty());
    let [db, web] = &plan.specs[..] else { panic!("{:?}", plan.specs) };
    assert!(web.environment.contains(&("KRAZY_SLOT".into(), "B".into())));
    assert_eq!((web.name.as_str(), web.program.as_path()), ("web", Path::new("/bin/web")));
    assert_eq!(web.directory, Path::new("/data/web"));
    assert!(web.rights.uid != db.rights.uid && web.rights.uid >= 10_000);
    assert!(web.environment.contains(&("HOME".into(), "/data/web".into())));
    assert!(web.environment.contains(&("STATE_DIRECTORY".into(), "/data/web".into())));
    assert!(web.environment.contains(&("RUNTIME_DIRECTORY".into(), "/run/web".into())));
}

#[test]
fn groups_are_accounts_device_groups_and_the_control_group() {
    let settings = ServiceSettings {
        groups: vec!["db".into(), "krazy".into()],
        devices: vec!["/dev/ttyUSB*".into(), "/dev/i2c-1".into()],
        sysfs: vec!["class/leds/*/brightness".into(), "class/block/sda/ro".into()],
        ..ServiceSettings::default()
    };
    let other = ServiceSettings { devices: vec!["/dev/i2c-1".into()], ..ServiceSettings::default() };
    let plan = plan(&manifest(&[("web", settings), ("db", other)]));
    let [db, web] = &plan.specs[..] else { panic!("{:?}", plan.specs) };
    assert_eq!(web.groups[..2], [db.rights.uid, accounts::CONTROL_GID]);
    assert_eq!(web.groups.len(), 5);
    assert_eq!(web.groups[3..4], db.groups);
    assert!(web.writes_sysfs && !db.writes_sysfs);
    assert_eq!(plan.problems, ["service web: files of sysfs like `class/block/sda/ro` are not for services"]);
}

#[test]
fn ports_follow_from_all_services() {
    let settings = ServiceSettings { ports: Some(vec![80]), ..ServiceSettings::default() };
    let others = ["api", ADMIND].map(|name| (name, ServiceSettings::default()));
    let plan = plan(&manifest(&[("web", settings), others[0].clone(), others[1].clone()]));
    let [api, admind, web] = &plan.specs[..] else { panic!("{:?}", plan.specs) };
    assert_eq!([api, admind, web].map(|spec| spec.ports.allow(80)), [false, false, true]);
    assert_eq!([api, admind, web].map(|spec| spec.ports.allow(8443)), [false, true, false]);
    assert_eq!([api, admind, web].map(|spec| spec.ports.allow(67)), [false; 3]);
}

#[test]
fn checks_are_resolved() {
    let mut manifest = manifest(&[("web", ServiceSettings::default())]);
    manifest.services[0].checks = Checks {
        watchdog: Some(30),
        http: "http:80/".parse().ok(),
        unlimited_memory: true,
        ..Checks::default()
    };
    let plan = plan(&manifest);
    let variables = &plan.specs[0].environment;
    for (key, value) in [("WATCHDOG_USEC", "30000000"), ("NOTIFY_SOCKET", readiness::SOCKET)] {
        assert!(variables.contains(&(key.into(), value.into())), "{variables:?}");
    }
    assert!(plan.rules[0].announces_ready && !plan.rules[0].is_checked);
    assert_eq!(plan.rules[0].watchdog, Some(seconds(30)));
    assert_eq!(plan.rules[0].stable_after, seconds(30), "not before one interval");
    assert_eq!(plan.specs[0].limits.memory, None);
    manifest.services[0].checks = Checks { stable_after: Some(60), ..Checks::default() };
    let plan = super::plan(&manifest);
    assert_eq!(plan.rules[0].stable_after, seconds(60));
    let memory = plan.specs[0].limits.memory.unwrap();
    assert!(memory > 1 << 20 && memory < cgroup::total_memory(), "{memory}");
}

#[test]
fn settings_are_resolved_and_problems_reported() {
    let settings = ServiceSettings {
        after: vec!["db".into(), "network".into(), "tea".into()],
        user: Some("root".into()),
        stop_signal: "SIGBREW".into(),
        capabilities: vec!["brew-tea".into()],
        env: [("HOME".to_owned(), "/elsewhere".to_owned())].into(),
        workdir: Some("/tmp".into()),
        ..ServiceSettings::default()
    };
    let shared = ServiceSettings { user: Some("shared".into()), ..ServiceSettings::default() };
    let plan = plan(&manifest(&[("web", settings), ("db", shared.clone()), ("api", shared)]));
    let [api, db, web] = &plan.specs[..] else { panic!("{:?}", plan.specs) };
    assert_eq!(plan.rules[2].after, [After::Service(1), After::Milestone(Milestone::Network)]);
    assert_eq!((web.rights.uid, web.stop_signal), (0, 15));
    assert_eq!((web.home.as_path(), web.directory.as_path()), (Path::new("/data/web"), Path::new("/tmp")));
    assert_eq!(web.environment.iter().filter(|(key, _)| key == "HOME").count(), 1);
    assert_eq!((api.rights.uid, &api.home), (db.rights.uid, &db.home));
    assert_eq!(
        plan.problems,
        [
            "service web: unknown stop-signal `SIGBREW`, TERM is used",
            "service web: there is no `tea` to start after",
            "service web: there is no capability `brew-tea`; it gets none",
        ]
    );
}
