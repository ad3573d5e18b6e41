//! See [`krazy_guest::faults::quits`].

fn main() {
    krazy_guest::faults::quits();
}
