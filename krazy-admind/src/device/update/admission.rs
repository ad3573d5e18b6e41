//! The admission of an update: the checks before the first byte is written.

use krazy_boot::api::status::BootInfo;
use krazy_boot::manifest::instructions;
use krazy_boot::update::bundle::{BundleManifest, Head, PROTOCOL, Part};
use krazy_boot::update::history::History;
use krazy_boot::update::refusal::Refusal;
use semver::Version;

use crate::problem::{Kind, Problem};

/// Facts about the device.
pub(super) struct Facts<'a> {
    pub(super) boot: &'a BootInfo,
    pub(super) floor: Option<Version>,
    pub(super) history: History,
    /// The text of /proc/cpuinfo.
    pub(super) cpuinfo: &'a str,
    /// The parts of the running slot; empty if unknown.
    pub(super) running: &'a [Part],
}

/// Rejects an update that does not fit the device. `force` overrides the checks that only protect from mistakes: another
/// appliance, the running build, and a build that failed before.
pub(super) fn admit(head: &Head, facts: &Facts<'_>, force: bool) -> Result<(), Problem> {
    let BundleManifest { appliance, board, build_id, version, protocol, .. } = &head.manifest;
    let boot = facts.boot;
    if *protocol > PROTOCOL {
        let text = format!("the update needs protocol {protocol}, this device supports {PROTOCOL}");
        return refuse(Refusal::Protocol, text);
    }
    if *board != boot.board {
        return refuse(Refusal::Board, format!("the update is for {board}, this device is {}", boot.board));
    }
    let lacking = instructions::missing(&head.manifest.instructions, facts.cpuinfo);
    if !lacking.is_empty() {
        let text = format!("the programs were compiled for a processor with {}", lacking.join(", "));
        return refuse(Refusal::Processor, text);
    }
    if *appliance != boot.name && !force {
        let text = format!("the update is for the appliance {appliance}, this device is {}", boot.name);
        return refuse(Refusal::Appliance, text);
    }
    if let Some(floor) = &facts.floor {
        check_floor(version, floor)?;
    }
    if *build_id == boot.build_id && !force {
        return refuse(Refusal::Unchanged, format!("version {version} of this build runs already"));
    }
    if let Some(attempt) = facts.history.failure_of(build_id)
        && !force
    {
        let why = attempt.reason.as_deref().unwrap_or("the reason is not known");
        return refuse(Refusal::RejectedBefore, format!("this build failed its trial: {why}"));
    }
    check_bases(head, facts.running)
}

/// Checks that `version` is not below `floor`.
pub(super) fn check_floor(version: &str, floor: &Version) -> Result<(), Problem> {
    match version.parse::<Version>() {
        Ok(parsed) if parsed >= *floor => Ok(()),
        Ok(_) => refuse(
            Refusal::BelowFloor,
            format!("version {version} is below {floor}, the lowest version that this device accepts"),
        ),
        Err(_) => refuse(
            Refusal::BelowFloor,
            format!(
                "version {version:?} is not semantic, so it cannot be compared with the lowest accepted version"
            ),
        ),
    }
}

/// Checks that the deltas of the update apply to the running slot.
fn check_bases(head: &Head, running: &[Part]) -> Result<(), Problem> {
    for (part, transport) in head.manifest.parts.iter().zip(&head.transport.parts) {
        let Some(base) = transport.base else { continue };
        let found = running.iter().find(|found| found.kind == part.kind);
        if found.is_some_and(|found| found.sha256 != base) || (found.is_none() && !running.is_empty()) {
            let text = format!("the {} is a delta to {base}, which this device does not run", part.kind);
            return refuse(Refusal::Base, text);
        }
    }
    Ok(())
}

/// Fails with `refusal`.
pub(super) fn refuse<T>(refusal: Refusal, detail: impl Into<String>) -> Result<T, Problem> {
    Err(Problem::new(Kind::Update(refusal), detail))
}

#[cfg(test)]
mod tests {
    use krazy_boot::digest::Hex;
    use krazy_boot::disk::size::Bytes;
    use krazy_boot::disk::slot::Slot;
    use krazy_boot::update::bundle::{FORMAT, PartKind, PartTransport, Signed, Transport};
    use krazy_boot::update::history::{Attempt, Outcome};

    use super::*;

    fn head() -> Head {
        let part = |kind| Part { kind, size: Bytes(9), sha256: Hex([1; 32]) };
        let manifest = BundleManifest {
            format: FORMAT,
            appliance: "weather".into(),
            board: "x86_64".into(),
            build_id: "new".into(),
            version: "1.2.3".into(),
            protocol: PROTOCOL,
            cmdline: Vec::new(),
            instructions: Vec::new(),
            parts: vec![part(PartKind::Root)],
        };
        let transport =
            Transport { parts: vec![PartTransport { stored: Bytes(5), base: Some(Hex([7; 32])) }] };
        Head { manifest, signed: Signed { json: Vec::new(), signature: [0; 64] }, transport }
    }

    fn boot() -> BootInfo {
        serde_json::from_value(serde_json::json!({
            "name": "weather", "version": "1.2.2", "board": "x86_64", "build_id": "old", "hostname": "weather",
            "kernel": "6.12.1", "init": "0.1.0", "slot": "a", "disk": "/dev/vda", "trial": null, "uptime": 61,
            "stable": true, "degraded": [], "milestones": { "network": true, "clock": true, "data": true },
            "boot_writable": false,
        }))
        .unwrap()
    }

    /// Returns the refusal, and true if `force` overrides it.
    fn refused(change: impl Fn(&mut Head, &mut BootInfo, &mut Facts<'_>)) -> Option<(Refusal, bool)> {
        let (mut head, mut info) = (head(), boot());
        let copy = info.clone();
        let running = [Part { kind: PartKind::Root, size: Bytes(4), sha256: Hex([7; 32]) }];
        let mut facts = Facts {
            boot: &copy,
            floor: None,
            history: History::default(),
            cpuinfo: "flags : sse2 avx",
            running: &running,
        };
        change(&mut head, &mut info, &mut facts);
        let facts = Facts { boot: &info, ..facts };
        let reason = |force| match admit(&head, &facts, force).map_err(|problem| problem.kind()) {
            Ok(()) => None,
            Err(Kind::Update(refusal)) => Some(refusal),
            Err(other) => panic!("{other:?}"),
        };
        reason(false).map(|refusal| (refusal, reason(true) != Some(refusal)))
    }

    #[test]
    fn updates_for_another_device_are_refused() {
        assert_eq!(refused(|_, _, _| ()), None);
        assert_eq!(refused(|head, _, _| head.manifest.protocol += 1), Some((Refusal::Protocol, false)));
        assert_eq!(refused(|_, boot, _| boot.board = "pi".into()), Some((Refusal::Board, false)));
        assert_eq!(refused(|_, boot, _| boot.name = "clock".into()), Some((Refusal::Appliance, true)));
        assert_eq!(refused(|_, boot, _| boot.build_id = "new".into()), Some((Refusal::Unchanged, true)));
        assert_eq!(refused(|head, _, _| head.transport.parts[0].base = None), None);
        let other = Some((Refusal::Base, false));
        assert_eq!(refused(|head, _, _| head.transport.parts[0].base = Some(Hex([8; 32]))), other);
        assert_eq!(refused(|head, _, _| head.manifest.parts[0].kind = PartKind::Kernel), other);
        assert_eq!(refused(|_, _, facts| facts.running = &[]), None);
    }

    #[test]
    fn programs_for_another_processor_are_refused() {
        let needs = |name: &'static str| {
            refused(move |head, _, _| head.manifest.instructions = vec![name.to_owned(), "sse2".to_owned()])
        };
        assert_eq!(needs("avx"), None);
        assert_eq!(needs("avx2"), Some((Refusal::Processor, false)));
    }

    #[test]
    fn floor_cannot_be_overridden() {
        let floor =
            |text: &'static str| move |facts: &mut Facts<'_>| facts.floor = Some(text.parse().unwrap());
        let below = Some((Refusal::BelowFloor, false));
        assert_eq!(refused(|_, _, facts| floor("1.2.4")(facts)), below);
        assert_eq!(refused(|_, _, facts| floor("1.2.3")(facts)), None);
        assert_eq!(refused(|_, _, facts| floor("1.2.3-rc.1")(facts)), None);
        let not_semantic = |head: &mut Head, _: &mut BootInfo, facts: &mut Facts<'_>| {
            head.manifest.version = "newest".into();
            floor("0.0.1")(facts);
        };
        assert_eq!(refused(not_semantic), below);
    }

    #[test]
    fn build_that_failed_its_trial_is_refused() {
        let attempt = |outcome| Attempt {
            build_id: "new".into(),
            slot: Slot::B,
            generation: 4,
            armed_at: 0,
            outcome,
            reason: None,
        };
        let failed = |_: &mut Head, _: &mut BootInfo, facts: &mut Facts<'_>| {
            facts.history.attempts.push(attempt(Outcome::Failed));
        };
        assert_eq!(refused(failed), Some((Refusal::RejectedBefore, true)));
        let kept = |_: &mut Head, _: &mut BootInfo, facts: &mut Facts<'_>| {
            facts.history.attempts.push(attempt(Outcome::Failed));
            facts.history.attempts.push(attempt(Outcome::Confirmed));
        };
        assert_eq!(refused(kept), None);
    }
}
