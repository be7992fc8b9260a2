//! The `blobkeep` command: reads the command line, runs one command, and turns its outcome into an exit code: 0 done, 1 failed,
//! 2 wrong usage.
//!
//! Nothing here knows how a backup or a request works: `offline` speaks to the engine, `serve` to the service's library, and every
//! other command to a running service over HTTPS (`client`). Results go to standard output, everything else to standard error.

mod client;
mod clock;
mod emulator;
mod env;
mod instance;
mod job;
mod offline;
mod output;
mod place;
mod policy;
mod progress;
mod quickstart;
mod recovery_point;
mod restore;
mod scope;
mod secret;
mod serve;
mod storage_account;
mod tier;
mod vault;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Azure Backup for blobs that you run yourself.
#[derive(Debug, Parser)]
#[command(name = "blobkeep", version, max_term_width = 120, arg_required_else_help = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  blobkeep quickstart                     the whole story in a minute, on this machine
  blobkeep serve                          the service; then, in another shell:
  eval \"$(blobkeep env)\"                 what SDKs, scripts and the commands here need to find it
  blobkeep COMMAND VERB --help            an example of every command";

#[derive(Debug, Subcommand)]
enum Command {
    Quickstart(quickstart::QuickstartArgs),
    Serve(serve::ServeArgs),
    Env(env::EnvArgs),
    StorageAccount(storage_account::StorageAccountArgs),
    Vault(vault::VaultArgs),
    Policy(policy::PolicyArgs),
    Instance(instance::InstanceArgs),
    Job(job::JobArgs),
    RecoveryPoint(recovery_point::RecoveryPointArgs),
    Restore(restore::RestoreArgs),
    Offline(offline::OfflineArgs),
    #[command(hide = true)]
    Emulator(emulator::EmulatorArgs),
}

/// How a command ended, other than by an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// What was asked for is done.
    Done,
    /// The command ran to its end and found what must not be (damage, a failed job); it has said so.
    Failed,
}

/// The command line contradicts itself in a way that only shows while the command runs. Ends with exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UsageError(String);

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are "errors" with code 0. Who closed the other end of the pipe wants no text.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    // Several libraries below speak TLS; all of them take the process's provider. It can only be there already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::error(&format!("cannot start threads: {error}"));
            return ExitCode::from(1);
        }
    };
    let outcome = runtime.block_on(run(cli.command));
    // A worker thread in a long system call must not keep a finished command alive.
    runtime.shutdown_background();
    match outcome {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::from(1),
        Err(error) => {
            output::error(&output::chain(&error));
            ExitCode::from(if error.is::<UsageError>() { 2 } else { 1 })
        }
    }
}

async fn run(command: Command) -> anyhow::Result<Outcome> {
    output::start_log(match command {
        Command::Serve(_) | Command::Emulator(_) => "info",
        // A refused validation is part of the story there, not a warning.
        Command::Quickstart(_) => "error",
        _ => "warn",
    });
    match command {
        Command::Quickstart(args) => quickstart::run(args).await,
        Command::Serve(args) => serve::run(args).await,
        Command::Env(args) => env::run(&args),
        Command::StorageAccount(args) => storage_account::run(args).await,
        Command::Vault(args) => vault::run(args).await,
        Command::Policy(args) => policy::run(args).await,
        Command::Instance(args) => instance::run(args).await,
        Command::Job(args) => job::run(args).await,
        Command::RecoveryPoint(args) => recovery_point::run(args).await,
        Command::Restore(args) => restore::run(args).await,
        Command::Offline(args) => offline::run(args).await,
        Command::Emulator(args) => emulator::run(args).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
                check(sub, &path);
            }
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example") && help.contains("blobkeep "), "{path} has no example");
        }
        check(&Cli::command(), "");
    }
}
