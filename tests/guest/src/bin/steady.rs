//! See [`krazy_guest::faults::steady`].

fn main() {
    krazy_guest::faults::steady();
}
