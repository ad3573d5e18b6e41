//! See [`krazy_guest::judge`].

fn main() {
    krazy_guest::judge::run();
}
