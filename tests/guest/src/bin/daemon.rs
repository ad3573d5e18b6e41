//! See [`krazy_guest::faults::daemon`].

fn main() {
    krazy_guest::faults::daemon();
}
