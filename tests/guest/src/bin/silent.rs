//! See [`krazy_guest::checked::silent`].

fn main() {
    krazy_guest::checked::silent();
}
