//! See [`krazy_guest::ports::impostor`].

fn main() {
    krazy_guest::ports::impostor();
}
