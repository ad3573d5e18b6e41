//! `cargo suite`: everything that has to pass, on a machine that may lack everything but Rust and a C compiler.

fn main() -> std::process::ExitCode {
    krazy_tests::suite::main()
}
