//! The check that an executable can run on an appliance: right processor, and nothing to load at run time.
//!
//! Source: System V ABI, ELF header and program headers. A position-independent static executable has a dynamic
//! segment, so what counts is `PT_INTERP`, the request for a loader that the appliance does not have.

use object::Endianness;
use object::elf::{EM_AARCH64, EM_X86_64, FileHeader64, PT_INTERP};
use object::read::elf::{FileHeader, ProgramHeader};

use crate::failure::{Exit, Explain};

/// A binary that cannot run on an appliance.
#[derive(Debug, thiserror::Error)]
#[error("the binary `{name}` of `{package}` {flaw}")]
pub(crate) struct Unusable {
    name: String,
    package: String,
    flaw: Flaw,
}

/// The reason that a binary cannot run on an appliance.
#[derive(Debug, thiserror::Error)]
enum Flaw {
    #[error("is not a 64-bit ELF executable: {0}")]
    NotElf(object::Error),
    #[error("is built for {made}, not for {triple}")]
    OtherMachine { made: String, triple: String },
    #[error("has broken program headers: {0}")]
    Headers(object::Error),
    #[error("is dynamically linked: it asks for the loader {loader}")]
    Dynamic { loader: String, triple: String },
}

impl Explain for Unusable {
    fn exit(&self) -> Exit {
        Exit::Build
    }

    fn help(&self) -> Option<String> {
        match &self.flaw {
            Flaw::NotElf(_) | Flaw::Headers(_) => None,
            Flaw::OtherMachine { .. } => Some(
                "look for a `linker` or `rustflags` in cargo's configuration that does not fit the target"
                    .to_owned(),
            ),
            Flaw::Dynamic { triple, .. } => Some(format!(
                "an appliance holds static binaries only: look for `-crt-static`, `-Cprefer-dynamic` or a `linker` \
                 in RUSTFLAGS and cargo's configuration for {triple}"
            )),
        }
    }
}

/// Checks the binary `name` of the crate `package` with the content `data` for the target `triple`.
///
/// # Errors
/// [`Exit::Build`] naming the binary, what is wrong, and the next step.
pub(crate) fn check(data: &[u8], name: &str, package: &str, triple: &str) -> Result<(), Unusable> {
    examine(data, triple).map_err(|flaw| Unusable {
        name: name.to_owned(),
        package: package.to_owned(),
        flaw,
    })
}

fn examine(data: &[u8], triple: &str) -> Result<(), Flaw> {
    let header = FileHeader64::<Endianness>::parse(data).map_err(Flaw::NotElf)?;
    let endian = header.endian().map_err(Flaw::NotElf)?;
    let machine = header.e_machine(endian);
    let expected = match triple.split('-').next() {
        Some("aarch64") => EM_AARCH64,
        _ => EM_X86_64,
    };
    if machine != expected || header.e_ident().data != object::elf::ELFDATA2LSB {
        let made = match machine {
            EM_X86_64 => "x86_64".to_owned(),
            EM_AARCH64 => "aarch64".to_owned(),
            other => format!("ELF machine {other}"),
        };
        return Err(Flaw::OtherMachine { made, triple: triple.to_owned() });
    }
    let headers = header.program_headers(endian, data).map_err(Flaw::Headers)?;
    if let Some(interpreter) = headers.iter().find(|header| header.p_type(endian) == PT_INTERP) {
        let loader = interpreter.data(endian, data).unwrap_or_default();
        let loader = String::from_utf8_lossy(loader.strip_suffix(&[0]).unwrap_or(loader)).into_owned();
        return Err(Flaw::Dynamic { loader, triple: triple.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use object::elf::{Machine, ProgramType};

    use super::*;

    const X86: &str = "x86_64-unknown-linux-musl";

    /// A header with one program header of type `kind`, whose content is the loader's path.
    fn elf(machine: Machine, kind: ProgramType) -> Vec<u8> {
        let loader = b"/lib/ld-musl.so.1\0";
        let mut data = vec![0; 120];
        data[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
        let mut put = |at: usize, bytes: &[u8]| data[at..at + bytes.len()].copy_from_slice(bytes);
        put(16, &3u16.to_le_bytes());
        put(18, &machine.0.to_le_bytes());
        put(20, &1u32.to_le_bytes());
        put(32, &64u64.to_le_bytes());
        put(52, &64u16.to_le_bytes());
        put(54, &56u16.to_le_bytes());
        put(56, &1u16.to_le_bytes());
        put(64, &kind.0.to_le_bytes());
        put(72, &120u64.to_le_bytes());
        put(96, &(loader.len() as u64).to_le_bytes());
        data.extend_from_slice(loader);
        data
    }

    fn message(data: &[u8], triple: &str) -> String {
        check(data, "hello", "hello-crate", triple).unwrap_err().to_string()
    }

    #[test]
    fn static_executables_pass_with_and_without_a_dynamic_segment() {
        check(&elf(EM_X86_64, object::elf::PT_DYNAMIC), "hello", "hello-crate", X86).unwrap();
        check(&elf(EM_AARCH64, object::elf::PT_LOAD), "a", "a", "aarch64-unknown-linux-musl").unwrap();
    }

    #[test]
    fn binary_that_cannot_run_is_named() {
        assert_eq!(
            message(&elf(EM_X86_64, PT_INTERP), X86),
            "the binary `hello` of `hello-crate` is dynamically linked: it asks for the loader /lib/ld-musl.so.1"
        );
        assert_eq!(
            message(&elf(EM_AARCH64, PT_INTERP), X86),
            format!("the binary `hello` of `hello-crate` is built for aarch64, not for {X86}")
        );
        assert!(message(b"#!/bin/sh\n", X86).contains("is not a 64-bit ELF executable"));
    }

    proptest::proptest! {
        #[test]
        fn foreign_bytes_never_panic(cut in 0usize..140, at in 0usize..138, byte: u8) {
            let mut data = elf(EM_X86_64, PT_INTERP);
            data.resize(138, 0);
            data[at] = byte;
            data.truncate(cut);
            let _any = check(&data, "x", "x", X86);
        }
    }
}
