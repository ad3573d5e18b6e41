//! See [`krazy_guest::faults::fragile`].

fn main() {
    krazy_guest::faults::fragile();
}
