//! See [`krazy_guest::faults::follower`].

fn main() {
    krazy_guest::faults::follower();
}
