//! See [`krazy_guest::faults::notifier`].

fn main() {
    krazy_guest::faults::notifier();
}
