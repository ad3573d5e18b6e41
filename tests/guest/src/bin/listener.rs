//! See [`krazy_guest::faults::listener`].

fn main() {
    krazy_guest::faults::listener();
}
