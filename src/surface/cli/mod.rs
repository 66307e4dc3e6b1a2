//! The command line: one file per command. Only this part of the program prints: results to stdout, messages to stderr.

mod args;
mod attach;
mod bench;
mod chat;
mod check;
mod ci;
mod ci_summary;
mod compare;
mod compare_text;
mod comparison;
mod completions;
mod console;
mod data;
mod devices;
mod doctor;
mod estimates;
mod example;
mod example_text;
mod exit;
mod expectations;
mod export;
mod forge;
mod gc;
mod generate;
mod generation;
mod init;
mod interrupt;
mod junit;
mod load;
mod log;
mod logs;
mod ls;
mod on;
mod page;
mod pin;
mod plan;
mod predict;
mod progress;
mod reference;
mod report;
mod rm;
mod run;
mod schema;
mod show;
mod stage;
mod starter;
mod status;
mod sweep;
mod sweep_report;
mod sweep_rungs;
mod trace;
mod tracking;
mod transfer;
mod verify;
mod why;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, parser::ValueSource};

use crate::{
    engine::store::host,
    hub,
    network::device,
    support::{arithmetic::Arithmetic, panics, program},
};
use args::{Arguments, Command};
use exit::Exit;
use load::RemoteChoice;

/// Parses the command line, runs the command and returns the exit status.
pub fn main() -> ExitCode {
    hub::report_with(console::eprint_line);
    std::panic::set_hook(Box::new(|panic| {
        // Training retries with smaller micro-batches, or reports it itself.
        if !panics::text(panic.payload()).is_some_and(device::keep_lack_of_memory) {
            console::eprint_line(&format!("internal error: {panic}"));
        }
    }));
    let matches = Arguments::command().get_matches();
    let arguments =
        Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut Arguments::command()).exit());
    trace::start(arguments.verbose);
    if let Err(error) = Arithmetic::from_environment() {
        console::eprint_line(&format!("error: {error}"));
        return ExitCode::from(Exit::Wrong);
    }
    if matches.value_source("remote") == Some(ValueSource::CommandLine) && !arguments.command.takes_remote() {
        let name = matches.subcommand_name().unwrap_or_default();
        console::eprint_line(&format!("error: `pipe {name}` has nothing to do with a remote, and takes no --remote"));
        return ExitCode::from(Exit::Wrong);
    }
    if let Ok(program) = std::env::current_exe() {
        program::name(program);
    }
    let store = &arguments.store;
    let url = arguments.remote.as_deref().filter(|url| !url.is_empty() && arguments.command.takes_remote());
    let remote = url.map(|url| RemoteChoice { url, read_only: forge::is_only_read(arguments.remote_readonly) });
    device::keep_caches(&store.join("gpu"), &host());
    let result = match &arguments.command {
        Command::Run(command) => run::run(command, store, remote),
        Command::Sweep(command) => sweep::sweep(command, store, remote),
        Command::Compare(command) => compare::compare(command, store, remote),
        Command::Report(command) => page::report(command, store, remote),
        Command::Plan(command) => plan::plan(command, store, remote),
        Command::Why(command) => why::why(command, store, remote),
        Command::Check(command) => check::check(command, store, remote),
        Command::Ci(command) => ci::ci(command, store, remote),
        Command::Data(command) => data::data(command, store, remote),
        Command::Log(command) => log::log(command, store, remote),
        Command::Ls(command) => ls::ls(command, store, remote),
        Command::Show(command) => show::show(command, store, remote),
        Command::Verify(command) => verify::verify(command, store, remote),
        Command::Gc(command) => gc::gc(command, store, remote),
        Command::Pin(command) => pin::pin(command, store, remote),
        Command::Unpin(command) => pin::unpin(command, store),
        Command::Rm(command) => rm::rm(command, store),
        Command::Predict(command) => predict::predict(command, store, remote),
        Command::Generate(command) => generate::generate(command, store, remote),
        Command::Chat(command) => chat::chat(command, store, remote),
        Command::Export(command) => export::export(command, store, remote),
        Command::Push(command) => transfer::push(command, store, remote),
        Command::Pull(command) => transfer::pull(command, store, remote),
        Command::Init(command) => init::init(command),
        Command::Schema(command) => schema::schema(command),
        Command::Reference(command) => reference::reference(command),
        Command::Devices(command) => devices::devices(command),
        Command::Bench(command) => bench::bench(command),
        Command::Completions(command) => completions::completions(command),
        Command::Attach(command) => attach::attach(command, store),
        Command::Status(command) => status::status(command, store),
        Command::Cancel(command) => attach::cancel(command, store),
        Command::Logs(command) => logs::logs(command, store),
        Command::Doctor(command) => doctor::doctor(command, store),
        Command::Stage(command) => stage::stage(command),
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) if is_broken_pipe(&error) => ExitCode::from(Exit::Done),
        Err(error) => {
            console::eprint_line(&console::error_text(&error));
            ExitCode::from(Exit::of_error())
        }
    }
}

/// A closed pipe isn't a failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}
