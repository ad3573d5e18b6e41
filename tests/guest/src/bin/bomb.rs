//! See [`krazy_guest::faults::bomb`].

fn main() {
    krazy_guest::faults::bomb();
}
