//! The `krazy-admind` executable; everything it does is in the library.

fn main() -> std::process::ExitCode {
    krazy_admind::main(std::env::args_os())
}
