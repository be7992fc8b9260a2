//! Opening storage accounts for the engine, within the limits of the configuration.

use std::sync::Arc;

use async_trait::async_trait;
use blobkeep_arm::error::{ApiError, ErrorCode};
use blobkeep_source::{Connection as SourceConnection, Secret};
use blobkeep_vault::{Source, SourceError, SourceErrorKind, Target};

use super::fault::Fault;
use crate::App;
use crate::accounts::{AccountBrowser, BrowsedContainer, Connection, Credential, address_policy, check_connection};
use crate::auth::Granted;
use crate::config::Config;
use crate::db;

/// A storage account, open, behind the limits of the configuration.
pub(super) struct OpenAccount {
    /// For reading.
    pub(super) source: Arc<dyn Source>,
    /// For writing.
    pub(super) target: Arc<dyn Target>,
}

/// Opens accounts that a process brings along itself, instead of by their connections.
pub trait AccountOpener: Send + Sync {
    /// The account of that folded id, for reading and for writing; none: it is opened by its connection.
    fn open(&self, account_key: &str) -> Option<(Arc<dyn Source>, Arc<dyn Target>)>;
}

/// Opens the account of that folded id.
pub(super) async fn open(app: &App, key: &str, id: &str) -> Result<OpenAccount, Fault> {
    let granted = Granted::service();
    let mut reader = app.db.read().await?;
    if db::storage_accounts::get(&mut reader, &granted, key).await?.is_none() {
        return Err(ApiError::of(ErrorCode::UserErrorAzureResourceNotFoundByPlugin, &[("account", id)]).into());
    }
    let connection = db::storage_accounts::connection(&mut reader, &granted, &app.sealer, key).await?;
    drop(reader);
    let Some(connection) = connection else {
        return Err(ApiError::of(ErrorCode::UserErrorStorageAccountNotConnected, &[("account", id)]).into());
    };
    if let Some((source, target)) = app.opener.as_ref().and_then(|opener| opener.open(key)) {
        return Ok(OpenAccount { source: app.limits.source(source), target: app.limits.target(target) });
    }
    let opened = translate(&app.config, &connection).and_then(|connection| {
        Ok(OpenAccount {
            source: app.limits.source(connection.open_source()?),
            target: app.limits.target(connection.open_target()?),
        })
    });
    opened.map_err(|error| unreachable_account(id, &error.message).into())
}

/// The account cannot be used now.
pub(super) fn unreachable_account(id: &str, reason: &str) -> ApiError {
    ApiError::of(ErrorCode::UserErrorStorageAccountUnreachable, &[("account", id), ("reason", reason)])
}

fn translate(config: &Config, connection: &Connection) -> Result<SourceConnection, SourceError> {
    check_connection(config, connection)
        .map_err(|error| SourceError::new(SourceErrorKind::Refused, error.to_string()))?;
    let translated = match connection {
        Connection::LocalFolder { path } => SourceConnection::LocalFolder { path: path.clone() },
        Connection::AzureBlob { url, credential } => match credential {
            Credential::AccountKey { account_name, key } => {
                SourceConnection::by_key(url, Some(account_name), Secret::new(key.clone()))?
            }
            Credential::SasToken { token } => SourceConnection::by_sas(url, &Secret::new(token.clone()))?,
        },
    };
    Ok(translated.with_addresses(address_policy(&config.allowed_endpoint_ranges)))
}

/// Lists containers for the API.
#[derive(Debug, Clone)]
pub struct SourceBrowser {
    config: Config,
}

impl SourceBrowser {
    /// A browser within the limits of `config`.
    pub fn new(config: Config) -> Self {
        Self { config }
    }
}

#[async_trait]
impl AccountBrowser for SourceBrowser {
    async fn containers(&self, connection: &Connection) -> Result<Vec<BrowsedContainer>, String> {
        let list = async {
            let source = translate(&self.config, connection)?.open_source()?;
            source.containers().await
        };
        let containers = list.await.map_err(|error: SourceError| error.message)?;
        let browsed = containers.into_iter().map(|container| BrowsedContainer {
            name: container.name,
            etag: container.etag,
            modified_at: container.modified_at.0,
            public_access: container.public_access,
            has_legal_hold: container.has_legal_hold,
            has_immutability_policy: container.has_immutability_policy,
        });
        Ok(browsed.collect())
    }
}
