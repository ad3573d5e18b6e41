//! See [`krazy_guest::checked::page`].

fn main() {
    krazy_guest::checked::page();
}
