//! The complete configuration of a kernel, and the check that every requested option is in it.
//!
//! `allnoconfig` switches off every option that is not requested, `olddefconfig` settles the rest. Both silently drop
//! options whose conditions are not met, so the result is compared with the request.

use std::collections::HashMap;

use super::error::{ConfigurationError, DroppedOption, NAMED};
use super::fragment::{RequestedOptions, parse};
use super::kconfig::KnownOptions;
use super::make::Make;
use crate::failure::Result;
use crate::files::io_failure;
use crate::shell::Shell;

/// Makes the `.config` of the build directory.
pub(crate) fn configure(
    make: &Make<'_>,
    mut requested: RequestedOptions,
    known: &KnownOptions,
    shell: Shell,
) -> Result<()> {
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

/// Fails if `config` dropped or changed requested options.
fn verify(
    requested: &RequestedOptions,
    config: &str,
    known: &KnownOptions,
    compiler: &str,
) -> Result<(), ConfigurationError> {
    let set: HashMap<_, _> = config.lines().filter_map(|line| parse(line).ok().flatten()).collect();
    let found = |name: &str| set.get(name).copied().unwrap_or("n");
    let dropped: Vec<_> = requested
        .iter()
        .filter(|(name, option)| found(name) != option.value)
        .map(|(name, option)| DroppedOption {
            name: name.to_owned(),
            value: option.value.clone(),
            location: option.location.clone(),
            found: found(name).to_owned(),
            depends: known.depends(name),
        })
        .collect();
    if dropped.is_empty() {
        return Ok(());
    }
    let requested = requested.iter().count();
    Err(ConfigurationError::Dropped { dropped, requested, compiler: compiler.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{Exit, Explain};

    fn verified(asked: &str, config: &str) -> Result<(), ConfigurationError> {
        let mut requested = RequestedOptions::default();
        requested.add("own", asked).unwrap();
        verify(&requested, config, &KnownOptions::default(), "gcc")
    }

    #[test]
    fn old_compiler_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let kconfig = "config SLS\n\tbool \"s\"\n\tdepends on CC_HAS_SLS && X86_64\n";
        std::fs::write(directory.path().join("Kconfig"), kconfig).unwrap();
        let known = KnownOptions::of_tree(directory.path()).unwrap();
        let mut requested = RequestedOptions::default();
        requested.add("own", "CONFIG_SLS=y\n").unwrap();
        let error = verify(&requested, "", &known, "clang").unwrap_err();
        assert!(error.to_string().ends_with("it depends on CC_HAS_SLS && X86_64"), "{error}");
        let help = error.help().unwrap();
        assert!(help.starts_with("this clang is too old for what depends on CC_HAS_…: "), "{help}");
    }

    #[test]
    fn every_dropped_option_is_named() {
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
        assert_eq!(error.exit(), Exit::Usage);
    }

    #[test]
    fn long_list_is_cut() {
        let asked = (0..30).fold(String::new(), |text, n| text + &format!("CONFIG_A{n}=y\n"));
        let error = verified(&asked, "").unwrap_err().to_string();
        assert!(error.ends_with("\n  and 10 more"), "{error}");
    }
}
