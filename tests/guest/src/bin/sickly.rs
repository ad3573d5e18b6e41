//! See [`krazy_guest::checked::sickly`].

fn main() {
    krazy_guest::checked::sickly();
}
