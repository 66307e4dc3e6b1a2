//! The `pipe` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    pipe::surface::cli::main()
}
