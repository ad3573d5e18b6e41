//! The complete configuration of a kernel, and the check that every requested option is in it.
//!
//! `allnoconfig` switches off what nobody asked for, `olddefconfig` settles the rest. Both drop options whose
//! conditions are not met without a word, so the result is compared with what was asked for.

use std::collections::HashMap;
use std::fmt::Write;

use super::fragment::{RequestedOptions, parse};
use super::kconfig::KnownOptions;
use super::make::Make;
use crate::failure::{Exit, Failure};
use crate::kernel::files::io_failure;
use crate::shell::Shell;

/// Options a message names at most.
const NAMED: usize = 20;

/// Makes the `.config` of the build directory.
pub(crate) fn configure(
    make: &Make<'_>,
    mut requested: RequestedOptions,
    known: &KnownOptions,
    shell: Shell,
) -> anyhow::Result<()> {
    let unknown = known.unknown(&requested)?;
    if !unknown.is_empty() {
        let named = unknown.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = if unknown.len() > NAMED { ", …" } else { "" };
        shell.warn(format!("this kernel does not know {} of our options: {named}{more}", unknown.len()));
    }
    for name in unknown {
        requested.forget(&name);
    }
    let file = make.objects.join("requested.config");
    std::fs::write(&file, requested.to_config()).map_err(io_failure("write", &file))?;
    let all = format!("KCONFIG_ALLCONFIG={}", file.display());
    make.run("the configuration", &["allnoconfig"], &[all], shell)?;
    make.run("the configuration", &["olddefconfig"], &[], shell)?;
    let file = make.objects.join(".config");
    let config = std::fs::read_to_string(&file).map_err(io_failure("read", &file))?;
    verify(&requested, &config, known, &make.toolchain.program)?;
    Ok(())
}

/// Fails with the name of every requested option that `config` dropped or changed.
fn verify(
    requested: &RequestedOptions,
    config: &str,
    known: &KnownOptions,
    compiler: &str,
) -> Result<(), Failure> {
    let set: HashMap<_, _> = config.lines().filter_map(|line| parse(line).ok().flatten()).collect();
    let found = |name: &str| set.get(name).copied().unwrap_or("n");
    let lost: Vec<_> = requested.iter().filter(|(name, option)| found(name) != option.value).collect();
    if lost.is_empty() {
        return Ok(());
    }
    let mut message = format!(
        "{} of {} requested options did not survive `olddefconfig`:",
        lost.len(),
        requested.iter().count()
    );
    for (name, option) in lost.iter().take(NAMED) {
        let found = match found(name) {
            "n" => "not set".to_owned(),
            value => value.to_owned(),
        };
        // Writing to a String cannot fail.
        let _infallible =
            write!(message, "\n  CONFIG_{name}={} ({}) is {found}", option.value, option.location);
        if let (Some(depends), true) = (known.depends(name), found == "not set") {
            let _infallible = write!(message, "; it depends on {depends}");
        }
    }
    if lost.len() > NAMED {
        let _infallible = write!(message, "\n  and {} more", lost.len() - NAMED);
    }
    // Kconfig has asked the compiler; `CC_HAS_…` is what it can do.
    let beyond =
        lost.iter().any(|(name, _)| known.depends(name).is_some_and(|depends| depends.contains("CC_HAS_")));
    let help = match beyond {
        true => format!(
            "this {compiler} is too old for what depends on CC_HAS_…: take a newer one, or another `--compiler`, or \
             switch these options off in a fragment for `--config`"
        ),
        false => "ask for what they depend on as well, or take them out; what selects an option keeps it from being off"
            .to_owned(),
    };
    Err(Failure::new(Exit::Usage, message).help(help))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verified(asked: &str, config: &str) -> Result<(), Failure> {
        let mut requested = RequestedOptions::default();
        requested.add("own", asked).unwrap();
        verify(&requested, config, &KnownOptions::default(), "gcc")
    }

    #[test]
    fn compiler_that_is_too_old_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let kconfig = "config SLS\n\tbool \"s\"\n\tdepends on CC_HAS_SLS && X86_64\n";
        std::fs::write(directory.path().join("Kconfig"), kconfig).unwrap();
        let known = KnownOptions::of_tree(directory.path()).unwrap();
        let mut requested = RequestedOptions::default();
        requested.add("own", "CONFIG_SLS=y\n").unwrap();
        let error = anyhow::Error::from(verify(&requested, "", &known, "clang").unwrap_err());
        assert!(error.to_string().ends_with("it depends on CC_HAS_SLS && X86_64"), "{error}");
        let help = Failure::help_of(&error).unwrap();
        assert!(help.starts_with("this clang is too old for what depends on CC_HAS_…: "), "{help}");
    }

    #[test]
    fn every_wish_that_did_not_come_true_is_named() {
        let config = "# Linux\nCONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\nCONFIG_S=\"x\"\nCONFIG_E=y\n";
        verified("CONFIG_A=y\nCONFIG_S=\"x\"\nCONFIG_GONE=n\n# CONFIG_C is not set\n", config).unwrap();
        let error =
            verified("CONFIG_A=y\nCONFIG_B=y\nCONFIG_C=y\nCONFIG_D=12\nCONFIG_E=n\n", config).unwrap_err();
        assert_eq!(
            error.to_string(),
            "4 of 5 requested options did not survive `olddefconfig`:\n  \
             CONFIG_B=y (own:2) is m\n  CONFIG_C=y (own:3) is not set\n  CONFIG_D=12 (own:4) is not set\n  \
             CONFIG_E=n (own:5) is y"
        );
        assert_eq!(Failure::exit_of(&error.into()), Exit::Usage);
    }

    #[test]
    fn long_list_is_cut() {
        let asked = (0..30).fold(String::new(), |text, n| text + &format!("CONFIG_A{n}=y\n"));
        let error = verified(&asked, "").unwrap_err().to_string();
        assert!(error.ends_with("\n  and 10 more"), "{error}");
    }
}
