//! See [`krazy_guest::traps::trapper`].

fn main() {
    krazy_guest::traps::trapper();
}
