//! `cargo programs`: published programs as appliances.

fn main() -> std::process::ExitCode {
    krazy_tests::programs::main()
}
