//! See [`krazy_guest::ports::intruder`].

fn main() {
    krazy_guest::ports::intruder();
}
