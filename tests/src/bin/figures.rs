//! `cargo figures`: see [`krazy_tests::figures`].

fn main() -> anyhow::Result<()> {
    krazy_tests::figures::main()
}
