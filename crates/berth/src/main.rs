mod daemon;
fn main() -> std::process::ExitCode {
    daemon::main(std::env::args_os().skip(2).collect())
}
