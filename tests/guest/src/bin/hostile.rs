//! See [`krazy_guest::hostile`].

fn main() {
    krazy_guest::hostile::run();
}
