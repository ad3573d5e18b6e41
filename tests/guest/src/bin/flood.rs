//! See [`krazy_guest::faults::flood`].

fn main() {
    krazy_guest::faults::flood();
}
