//! See [`krazy_guest::rights::confined`].

fn main() {
    krazy_guest::rights::confined();
}
