//! See [`krazy_guest::ports::owner`].

fn main() {
    krazy_guest::ports::owner();
}
