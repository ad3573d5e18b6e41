//! `cargo proof`: see [`krazy_tests::proof`].

fn main() -> anyhow::Result<()> {
    krazy_tests::proof::main()
}
