//! The build of a board's kernel from upstream source, for `cargo krazy kernel build`.

/// A file of kernel options: its name, and its text.
type Fragment = (&'static str, &'static str);

/// The properties of a board's kernel build.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct KernelBuild {
    /// `ARCH` of the kernel's Makefile.
    pub(crate) arch: &'static str,
    /// Goals of make: the image, and device trees where the board has some.
    pub(crate) goals: &'static [&'static str],
    /// The image in the build directory.
    pub(crate) image: &'static str,
    /// Directories of device trees in the build directory, each with the vendor's name last.
    pub(crate) dtbs: &'static [&'static str],
    /// The start of the names of the gcc cross compiler's programs, on a host of another architecture.
    pub(crate) gcc_prefix: &'static str,
    /// The Debian package of that compiler.
    pub(crate) gcc_package: &'static str,
    /// The host architecture (as in [`std::env::consts::ARCH`]) whose own gcc builds it.
    pub(crate) native: &'static str,
    /// Our fragments, in order: [`COMMON`], the board's own, [`HARDENING`].
    pub(crate) fragments: &'static [Fragment],
}

/// The options of every board.
pub(super) const COMMON: Fragment = ("common.config", include_str!("../kernel/build/config/common.config"));

/// The options that harden the kernel of every board.
pub(super) const HARDENING: Fragment =
    ("hardening.config", include_str!("../kernel/build/config/hardening.config"));
