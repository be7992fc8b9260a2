//! `blobkeep env`: what a client of the service needs, for a shell, a program or the az CLI. The client's secret is part of it, on purpose
//! and on standard output only.

use std::path::PathBuf;

use blobkeep_server::ClientEnv;
use clap::{Args, ValueEnum};
use serde_json::{Map, Value};

use crate::client::default_data_dir;
use crate::{Outcome, output};

/// Prints what a client of the service needs (its secret included)
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eval \"$(blobkeep env)\"
  blobkeep env --data-dir /var/lib/blobkeep --format json
  eval \"$(blobkeep env --format az)\"      signs the az CLI in")]
pub(crate) struct EnvArgs {
    /// The service's data folder [default: $XDG_DATA_HOME/blobkeep or ~/.local/share/blobkeep]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// For what
    #[arg(long, value_enum, default_value_t)]
    format: EnvFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum EnvFormat {
    /// `export` lines, also for tools that read REQUESTS_CA_BUNDLE, SSL_CERT_FILE or NODE_EXTRA_CA_CERTS
    #[default]
    Shell,
    /// One JSON object
    Json,
    /// Commands that register the service as a cloud of the az CLI and sign in
    Az,
}

/// Prints it.
///
/// # Errors
/// No service was ever started with that data folder.
pub(crate) fn run(args: &EnvArgs) -> anyhow::Result<Outcome> {
    let data_dir = match &args.data_dir {
        Some(data_dir) => data_dir.clone(),
        None => default_data_dir()?,
    };
    let env = blobkeep_server::client_env(&data_dir)?;
    match args.format {
        EnvFormat::Shell => output::line(shell(&env))?,
        EnvFormat::Json => {
            let members: Map<String, Value> =
                variables(&env).into_iter().map(|(name, value)| (name.to_owned(), Value::String(value))).collect();
            output::json(&members)?;
        }
        EnvFormat::Az => output::line(az(&env))?,
    }
    Ok(Outcome::Done)
}

fn variables(env: &ClientEnv) -> [(&'static str, String); 7] {
    [
        ("AZURE_TENANT_ID", env.tenant_id.clone()),
        ("AZURE_CLIENT_ID", env.client_id.clone()),
        ("AZURE_CLIENT_SECRET", env.client_secret.clone()),
        ("AZURE_SUBSCRIPTION_ID", env.subscription_id.clone()),
        ("AZURE_AUTHORITY_HOST", env.authority_host.clone()),
        ("BLOBKEEP_ENDPOINT", env.endpoint.clone()),
        ("BLOBKEEP_CA_FILE", env.ca_file.display().to_string()),
    ]
}

fn shell(env: &ClientEnv) -> String {
    let bundle = env.bundle_file.display().to_string();
    let trusted = ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"].map(|name| (name, bundle.clone()));
    let all = variables(env).into_iter().chain(trusted);
    all.map(|(name, value)| format!("export {name}={}", quoted(&value))).collect::<Vec<_>>().join("\n")
}

fn az(env: &ClientEnv) -> String {
    let bundle = quoted(&env.bundle_file.display().to_string());
    let (endpoint, tenant) = (quoted(&env.endpoint), quoted(&env.tenant_id));
    let (client, secret) = (quoted(&env.client_id), quoted(&env.client_secret));
    [
        format!("export REQUESTS_CA_BUNDLE={bundle}"),
        "az config set core.instance_discovery=false --only-show-errors".to_owned(),
        format!("az cloud register --name Blobkeep --endpoint-resource-manager {endpoint} --only-show-errors || az cloud update --name Blobkeep --endpoint-resource-manager {endpoint}"),
        "az cloud set --name Blobkeep".to_owned(),
        format!("az login --service-principal --username {client} --password {secret} --tenant {tenant}"),
    ]
    .join("\n")
}

/// The text as one word of a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env() -> ClientEnv {
        ClientEnv {
            tenant_id: "tenant".into(),
            client_id: "client".into(),
            client_secret: "it's secret".into(),
            subscription_id: "subscription".into(),
            authority_host: "https://localhost:8443".into(),
            endpoint: "https://localhost:8443".into(),
            ca_file: "/data/ca.pem".into(),
            bundle_file: "/data/bundle.pem".into(),
        }
    }

    #[test]
    fn a_shell_gets_quoted_words_and_the_bundle() {
        let text = shell(&env());
        assert!(text.contains(r"export AZURE_CLIENT_SECRET='it'\''s secret'"), "{text}");
        for name in ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"] {
            assert!(text.contains(&format!("export {name}='/data/bundle.pem'")), "{text}");
        }
        assert_eq!(text.lines().count(), 10);
    }

    #[test]
    fn az_is_registered_and_signed_in() {
        let text = az(&env());
        let position = |part: &str| text.find(part).unwrap();
        assert!(position("core.instance_discovery=false") < position("az cloud register"));
        assert!(position("az cloud register") < position("az login --service-principal"));
    }
}
