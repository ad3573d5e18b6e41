//! See [`krazy_guest::faults::stubborn`].

fn main() {
    krazy_guest::faults::stubborn();
}
