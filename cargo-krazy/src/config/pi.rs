//! The keys that are about a Raspberry Pi's firmware: `config-txt`, `dtoverlays`, `dtbs`.

use std::path::{Path, PathBuf};

use krazy_boot::update::bundle;

use super::error::Result;
use super::origins::{Origins, shown};
use super::tables;

/// The longest line the firmware reads; it cuts what follows.
/// Source: Raspberry Pi documentation, "config.txt", file format.
const MAX_LINE: usize = 98;

/// The longest name of a device tree or overlay: on `/boot` it gets a prefix and an ending, and update bundles take 64
/// characters.
const MAX_NAME: usize = bundle::MAX_NAME - "overlay-.dtbo".len();

/// Settings that slots need as they are, and the key to use instead, if there is one.
const RESERVED: &[(&str, Option<&str>)] = &[
    ("arm_64bit", None),
    ("auto_initramfs", None),
    ("cmdline", Some("cmdline")),
    ("device_tree", Some("dtbs")),
    ("dtoverlay", Some("dtoverlays")),
    ("device_tree_overlay", Some("dtoverlays")),
    ("enable_uart", Some("serial-console")),
    ("include", None),
    ("initramfs", None),
    ("kernel", None),
    ("os_prefix", None),
    ("overlay_prefix", None),
    ("ramfsaddr", None),
    ("ramfsfile", None),
    ("upstream_kernel", None),
];

/// The settings of an appliance for a Raspberry Pi's firmware.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PiSettings {
    /// Lines for `config.txt`.
    pub(crate) config_lines: Vec<String>,
    /// Overlays, in the order in which they are applied.
    pub(crate) overlays: Vec<Overlay>,
    /// Device trees besides the board's.
    pub(crate) dtbs: Vec<DtSource>,
}

/// A device tree overlay and its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Overlay {
    /// The overlay.
    pub(crate) source: DtSource,
    /// The text behind its name in `config.txt`: empty, or `,name=value…`.
    pub(crate) parameters: String,
}

/// The origin of a device tree or an overlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DtSource {
    /// The kernel or the firmware has it under this name, without `.dtb` or `.dtbo`.
    Named(String),
    /// A file of the host.
    File(PathBuf),
}

impl Overlay {
    /// Returns the line for `config.txt`.
    pub(crate) fn config_line(&self) -> String {
        format!("dtoverlay={}{}", self.source.name(), self.parameters)
    }
}

impl DtSource {
    /// The name in `config.txt`, and of the file on `/boot` but for prefix and ending.
    pub(crate) fn name(&self) -> String {
        match self {
            DtSource::Named(name) => name.clone(),
            DtSource::File(path) => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        }
    }
}

impl PiSettings {
    /// Returns the settings that the keys give.
    pub(super) fn new(krazy: &tables::Krazy, origins: &Origins) -> Result<Self> {
        for line in &krazy.config_txt {
            check_line(line).map_err(|problem| origins.invalid(&["config-txt"], problem))?;
        }
        let overlay = |text: &String| {
            let (name, parameters) = text.split_at(text.find(',').unwrap_or(text.len()));
            let source = source(origins, "dtoverlays", name, "dtbo")?;
            check_line(parameters).map_err(|problem| origins.invalid(&["dtoverlays"], problem))?;
            let overlay = Overlay { source, parameters: parameters.to_owned() };
            let line = overlay.config_line();
            if line.len() > MAX_LINE {
                let problem = format!(
                    "needs the line `{line}`, longer than the {MAX_LINE} characters the firmware reads"
                );
                let help =
                    "give it fewer parameters in `dtoverlays`, and the others as `dtparam=…` in `config-txt`";
                return Err(origins.invalid(&["dtoverlays"], problem).help(help));
            }
            Ok(overlay)
        };
        let dtb = |text: &String| source(origins, "dtbs", text, "dtb");
        Ok(PiSettings {
            config_lines: krazy.config_txt.clone(),
            overlays: krazy.dtoverlays.iter().map(overlay).collect::<Result<_>>()?,
            dtbs: krazy.dtbs.iter().map(dtb).collect::<Result<_>>()?,
        })
    }
}

/// Returns the source for a name, or for a path: a text with a directory or with the ending `.ENDING`.
fn source(origins: &Origins, key: &str, text: &str, ending: &str) -> Result<DtSource> {
    let is_path = text.contains('/') || text.ends_with(&format!(".{ending}"));
    let source = if is_path {
        let path = origins.directory(&[key]).join(text);
        if !path.is_file() {
            let problem = format!("has {text:?}, which leads to no file: {}", shown(&path));
            return Err(origins.invalid(&[key], problem));
        }
        DtSource::File(path)
    } else {
        DtSource::Named(text.to_owned())
    };
    let name = source.name();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_+.".contains(c);
    let fits = (1..=MAX_NAME).contains(&name.len());
    if !fits || !name.chars().all(plain) || Path::new(&name).file_name().is_none() {
        return Err(origins.invalid(&[key], format!("has {text:?}, which is no name of a .{ending} file")));
    }
    Ok(source)
}

/// A line that cannot stand in `config.txt`. The message is the predicate of a sentence about the key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum LineError {
    #[error("has a line of {} characters, the firmware reads {MAX_LINE}: {line:?}", line.len())]
    TooLong { line: String },
    #[error("has {wrong:?} in {line:?}; only printable ASCII works")]
    NotPrintable { line: String, wrong: char },
    #[error("sets `{0}`, which the slots need as it is")]
    Fixed(&'static str),
    #[error("sets `{setting}`; use the key `{key}` for that")]
    HasKey { setting: &'static str, key: &'static str },
}

/// Checks that a line can stand in `config.txt`.
fn check_line(line: &str) -> std::result::Result<(), LineError> {
    if line.len() > MAX_LINE {
        return Err(LineError::TooLong { line: line.to_owned() });
    }
    if let Some(wrong) = line.chars().find(|c| !(' '..='~').contains(c)) {
        return Err(LineError::NotPrintable { line: line.to_owned(), wrong });
    }
    let name = line.split(['=', ' ', ':']).find(|part| !part.is_empty()).unwrap_or_default();
    match RESERVED.iter().find(|(reserved, _)| name.eq_ignore_ascii_case(reserved)) {
        Some((setting, None)) => Err(LineError::Fixed(setting)),
        Some((setting, Some(key))) => Err(LineError::HasKey { setting, key }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_that_slots_need_are_refused() {
        assert_eq!(check_line("gpu_mem=16"), Ok(()));
        assert_eq!(check_line("[pi4]"), Ok(()));
        assert_eq!(check_line("dtparam=i2c_arm=on"), Ok(()));
        for (line, problem) in [
            ("os_prefix=b-", "sets `os_prefix`, which the slots need as it is"),
            (" KERNEL=mine.img", "sets `kernel`, which the slots need as it is"),
            ("initramfs other followkernel", "sets `initramfs`, which the slots need as it is"),
            ("include more.txt", "sets `include`, which the slots need as it is"),
            ("dtoverlay=disable-bt", "sets `dtoverlay`; use the key `dtoverlays` for that"),
            ("cmdline=x.txt", "sets `cmdline`; use the key `cmdline` for that"),
            ("a=\n", "has '\\n' in \"a=\\n\"; only printable ASCII works"),
        ] {
            assert_eq!(check_line(line).unwrap_err().to_string(), problem);
        }
        let long = check_line(&"x".repeat(99)).unwrap_err().to_string();
        assert!(long.starts_with("has a line of 99 characters"));
    }

    proptest! {
        #[test]
        fn any_line_is_judged(line in ".{0,120}") {
            let _any = check_line(&line);
        }
    }
}
