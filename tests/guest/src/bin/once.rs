//! See [`krazy_guest::faults::once`].

fn main() {
    krazy_guest::faults::once();
}
