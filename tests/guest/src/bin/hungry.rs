//! See [`krazy_guest::faults::hungry`].

fn main() {
    krazy_guest::faults::hungry();
}
