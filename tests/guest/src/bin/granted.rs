//! See [`krazy_guest::rights::granted`].

fn main() {
    krazy_guest::rights::granted();
}
