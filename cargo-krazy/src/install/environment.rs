//! The variables of the environment that can change the output of cargo.

use crate::toolchain::Environment;

/// Variables of a terminal, a login or a caller, which differ between two runs that must count as the same.
const VOLATILE: &[&str] = &[
    "_",
    "SHLVL",
    "PWD",
    "OLDPWD",
    "TERM",
    "COLORTERM",
    "COLUMNS",
    "LINES",
    "WINDOWID",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "LS_COLORS",
    "PS1",
    "PROMPT",
    "TTY",
    "TMUX",
    "TMUX_PANE",
    "STY",
    "EDITOR",
    "PAGER",
    "RUST_BACKTRACE",
    "RUST_LOG",
    "RUST_RECURSION_COUNT",
    "CARGO_MAKEFLAGS",
    "MAKEFLAGS",
    "MFLAGS",
    "SUDO_COMMAND",
    "DBUS_SESSION_BUS_ADDRESS",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
];
const VOLATILE_STARTS: &[&str] = &[
    "SSH_",
    "XDG_",
    "GPG_",
    "TERM_",
    "VTE_",
    "VSCODE_",
    "CARGO_TERM_",
    "CARGO_NET_",
    "CARGO_HTTP_",
    "NEXTEST",
];

/// Starts of the variables that cargo, rustc and the usual build scripts read.
const BUILD_STARTS: &[&str] = &[
    "CARGO",
    "RUST",
    "CC",
    "CXX",
    "AR",
    "RANLIB",
    "LD",
    "CFLAGS",
    "CXXFLAGS",
    "CPPFLAGS",
    "TARGET_",
    "HOST_",
    "PKG_CONFIG",
    "CMAKE",
    "SOURCE_DATE_EPOCH",
    "OPENSSL",
    "SQLITE",
    "ZSTD",
    "BINDGEN",
    "PROTOC",
];

/// Starts of the variables that C compilers and their wrappers read.
const C_STARTS: &[&str] = &["CC", "CXX", "AR", "RANLIB", "CFLAGS", "CXXFLAGS", "CPPFLAGS", "TARGET_"];

/// The variables of the environment that belong to the key of an installed crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variables {
    /// For the user's own sources: everything that is not known to be volatile, because `env!` reads any variable. A false
    /// alarm costs one run of cargo.
    AllButVolatile,
    /// For published crates, which everyone builds the same: those that tools read, so that a new terminal does not send
    /// cargo to the network.
    OfTools,
    /// For our own programs, which are built with settings of their own.
    OfCCompilers,
}

/// Returns the `wanted` variables, one `NAME=VALUE` each.
pub(crate) fn relevant(env: &Environment, wanted: Variables) -> Vec<String> {
    let counts = |name: &str| {
        let volatile =
            VOLATILE.contains(&name) || VOLATILE_STARTS.iter().any(|start| name.starts_with(start));
        let starts_with = |starts: &[&str]| starts.iter().any(|start| name.starts_with(start));
        match wanted {
            Variables::AllButVolatile => !volatile,
            Variables::OfTools => !volatile && starts_with(BUILD_STARTS),
            Variables::OfCCompilers => starts_with(C_STARTS) && !name.starts_with("CARGO"),
        }
    };
    env.vars()
        .map(|(name, value)| (name.to_string_lossy(), value.to_string_lossy()))
        .filter(|(name, _)| counts(name))
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_terminal_is_not_a_reason_to_build() {
        let env =
            Environment::of([("TERM", "xterm"), ("GIT_HASH", "1"), ("CC", "gcc"), ("CARGO_TERM_COLOR", "x")]);
        assert_eq!(relevant(&env, Variables::AllButVolatile), ["CC=gcc", "GIT_HASH=1"]);
        assert_eq!(relevant(&env, Variables::OfTools), ["CC=gcc"]);
    }
}
