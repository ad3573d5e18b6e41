//! See [`krazy_guest::faults::kept`].

fn main() {
    krazy_guest::faults::kept();
}
