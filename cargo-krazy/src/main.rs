//! The `cargo krazy` executable; everything it does is in the library.

fn main() -> std::process::ExitCode {
    cargo_krazy::run(std::env::args_os())
}
