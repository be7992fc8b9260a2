//! A protected account in memory that keeps versions and writes a feed of changes, if it is told to. The service and the account have one clock,
//! which is set by hand; nothing happens by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use blobkeep_arm::time::{format_instant, parse_instant};
use blobkeep_server::clock::{Clock, SystemClock};
use blobkeep_server::db::operational_ranges::{self, StoredRange};
use blobkeep_server::db::query;
use blobkeep_server::jobs::AccountOpener;
use blobkeep_server::{Config, Parts};
use blobkeep_testkit::clock::ManualClock;
use blobkeep_testkit::versioned::{Key, VersionedAccount};
use blobkeep_vault::source::{ChangePage, FeedPosition};
use blobkeep_vault::{BlobEntry, ContainerEntry, ListPage, Source, SourceError, SourceErrorKind, Target};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::common::{Got, Service, config};

const STORAGE_ACCOUNT_BACKUP_CONTRIBUTOR: &str = "e5e2a7ff-d759-4cd2-bb51-3152d37e2eb1";
pub(crate) const HOUR: i64 = 3600;
pub(crate) const DAY: i64 = 24 * HOUR;

/// The account as the service opens it.
pub(crate) struct Living {
    pub(crate) blobs: VersionedAccount,
    /// It keeps versions and writes a feed; the versions are there anyway, and nobody is told.
    keeps_versions: AtomicBool,
    /// The feed does not reach back to before this place.
    feed_begins: AtomicUsize,
    /// Where calls are held, if somewhere.
    held: Mutex<Option<(Call, Gate)>>,
    hides_containers: AtomicBool,
}

/// A call that can be held at a gate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// Whether there is a feed: a look asks before anything else.
    Feed,
    /// A page of a container.
    List,
}

/// Where calls wait until a test lets them through.
#[derive(Clone)]
pub(crate) struct Gate {
    reached: Arc<Semaphore>,
    opened: Arc<Semaphore>,
}

impl Gate {
    /// Returns when a call waits here.
    pub(crate) async fn reached(&self) {
        self.reached.acquire().await.unwrap().forget();
    }

    /// Lets so many calls through.
    pub(crate) fn open_for(&self, calls: usize) {
        self.opened.add_permits(calls);
    }
}

impl Living {
    /// Holds every call of this kind from now on.
    pub(crate) fn hold(&self, call: Call) -> Gate {
        let gate = Gate { reached: Arc::new(Semaphore::new(0)), opened: Arc::new(Semaphore::new(0)) };
        *self.held.lock().unwrap() = Some((call, gate.clone()));
        gate
    }

    /// Lets all calls through, now and later.
    pub(crate) fn let_go(&self) {
        if let Some((_, gate)) = self.held.lock().unwrap().take() {
            gate.open_for(1000);
        }
    }

    async fn pass(&self, call: Call) {
        let gate = self.held.lock().unwrap().as_ref().filter(|(held, _)| *held == call).map(|(_, gate)| gate.clone());
        if let Some(gate) = gate {
            gate.reached.add_permits(1);
            gate.opened.acquire().await.unwrap().forget();
        }
    }

    pub(crate) fn keep_versions(&self, keeps: bool) {
        self.keeps_versions.store(keeps, Ordering::SeqCst);
    }

    /// Containers cannot be listed.
    pub(crate) fn hide_containers(&self, hides: bool) {
        self.hides_containers.store(hides, Ordering::SeqCst);
    }

    /// The feed forgets what it has told so far.
    pub(crate) async fn forget_feed(&self) {
        let end = self.blobs.feed().await.unwrap().unwrap();
        self.feed_begins.store(end.cursor.parse().unwrap(), Ordering::SeqCst);
    }

    fn is_versioned(&self) -> bool {
        self.keeps_versions.load(Ordering::SeqCst)
    }

    fn seen(&self, mut page: ListPage) -> ListPage {
        if !self.is_versioned() {
            page.entries.iter_mut().for_each(|entry| entry.current_version = None);
        }
        page
    }
}

#[async_trait]
impl Source for Living {
    fn describe(&self) -> String {
        Source::describe(&self.blobs)
    }

    async fn containers(&self) -> Result<Vec<ContainerEntry>, SourceError> {
        if self.hides_containers.load(Ordering::SeqCst) {
            return Err(SourceError::new(SourceErrorKind::Unavailable, "too busy to list containers"));
        }
        self.blobs.containers().await
    }

    async fn list(&self, container: &str, prefix: &str, cursor: Option<&str>) -> Result<ListPage, SourceError> {
        self.pass(Call::List).await;
        Ok(self.seen(self.blobs.list(container, prefix, cursor).await?))
    }

    async fn read(&self, entry: &BlobEntry, range: Range<u64>) -> Result<Bytes, SourceError> {
        self.blobs.read(entry, range).await
    }

    async fn entry(&self, container: &str, name: &str) -> Result<Option<BlobEntry>, SourceError> {
        self.blobs.entry(container, name).await
    }

    async fn feed(&self) -> Result<Option<FeedPosition>, SourceError> {
        self.pass(Call::Feed).await;
        if self.is_versioned() { self.blobs.feed().await } else { Ok(None) }
    }

    async fn changes(&self, cursor: &str) -> Result<ChangePage, SourceError> {
        let place: usize = cursor.parse().unwrap();
        if place < self.feed_begins.load(Ordering::SeqCst) {
            return Err(SourceError::new(SourceErrorKind::NotFound, "the feed does not reach back that far"));
        }
        self.blobs.changes(cursor).await
    }

    async fn list_versions(&self, container: &str, cursor: Option<&str>) -> Result<ListPage, SourceError> {
        self.blobs.list_versions(container, cursor).await
    }
}

/// Brings the account along.
struct Brought(Arc<Living>);

impl AccountOpener for Brought {
    fn open(&self, account_key: &str) -> Option<(Arc<dyn Source>, Arc<dyn Target>)> {
        let target: Arc<dyn Target> = Arc::new(self.0.blobs.clone());
        account_key.ends_with("/storageaccounts/living").then(|| (self.0.clone() as Arc<dyn Source>, target))
    }
}

/// The account's clock as the service's.
struct OneClock(Arc<ManualClock>);

impl std::fmt::Debug for OneClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OneClock")
    }
}

impl Clock for OneClock {
    fn now_micros(&self) -> i64 {
        blobkeep_vault::Clock::now(self.0.as_ref()).0
    }
}

/// Current blobs, each by what can be seen of it in any account.
pub(crate) type State = BTreeMap<Key, (Bytes, Vec<(String, String)>, Vec<(String, String)>, Option<String>)>;

pub(crate) struct Stage {
    pub(crate) service: Service,
    pub(crate) living: Arc<Living>,
    pub(crate) vault: String,
    pub(crate) instance: String,
    pub(crate) account: String,
    clock: Arc<ManualClock>,
    dir: tempfile::TempDir,
}

impl Stage {
    /// Protected by `policy` in a service whose configuration `change` has seen: five blobs in `photos`, and a minute has gone by.
    pub(crate) async fn protected(change: impl FnOnce(&mut Config), policy: Value) -> Self {
        let mut stage = Self::prepared(change, policy).await;
        stage.tick().await;
        assert_eq!(stage.state().await, "ProtectionConfigured", "{}", stage.service.get(&stage.instance).await.text);
        stage.pass(60).await;
        stage.look().await;
        stage
    }

    async fn prepared(change: impl FnOnce(&mut Config), policy: Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at_seconds(SystemClock.now_micros() / 1_000_000));
        let blobs = VersionedAccount::new(clock.clone()).with_pages_of(3);
        let living = Arc::new(Living {
            blobs,
            keeps_versions: AtomicBool::new(true),
            feed_begins: AtomicUsize::new(0),
            held: Mutex::default(),
            hides_containers: AtomicBool::new(false),
        });
        for name in ["one", "two", "three", "four", "five"] {
            living.blobs.put("photos", name, format!("the first {name}"));
        }
        clock.advance_seconds(1);
        let mut config = config(&dir.path().join("data"));
        change(&mut config);
        let parts = Parts {
            clock: Some(Arc::new(OneClock(clock.clone()))),
            opener: Some(Arc::new(Brought(living.clone()))),
            by_hand: true,
            ..Parts::default()
        };
        let service = Service::start_at(config, parts).await;
        let group = service.group("living").await;
        let account = format!("{group}/providers/Microsoft.Storage/storageAccounts/living");
        let connection = "DefaultEndpointsProtocol=http;AccountName=living;AccountKey=bGl2aW5n;BlobEndpoint=http://127.0.0.1:1/living;";
        let body = json!({ "location": "westus",
            "properties": { "connection": { "kind": "AzureBlob", "connectionString": connection } } });
        service.put(&account, body).await.expect(200);
        let vault = format!("{group}/providers/Microsoft.DataProtection/backupVaults/vault");
        let body = json!({ "location": "westus", "identity": { "type": "SystemAssigned" }, "properties": {} });
        let made = service.put(&vault, body).await.expect(201);
        let principal = made.body["identity"]["principalId"].as_str().unwrap().to_owned();
        service.assign(&principal, STORAGE_ACCOUNT_BACKUP_CONTRIBUTOR, &account).await;
        service.put(&format!("{vault}/backupPolicies/policy"), policy).await.expect(200);
        let instance = format!("{vault}/backupInstances/living");
        let body = json!({ "properties": {
            "objectType": "BackupInstance",
            "dataSourceInfo": { "objectType": "Datasource", "resourceID": account, "resourceLocation": "westus" },
            "policyInfo": { "policyId": format!("{vault}/backupPolicies/policy") },
        }});
        service.put(&instance, body).await.expect(201);
        Self { service, living, vault, instance, account, clock, dir }
    }

    pub(crate) fn blobs(&self) -> &VersionedAccount {
        &self.living.blobs
    }

    /// Does every job that is due.
    pub(crate) async fn tick(&self) {
        blobkeep_server::jobs::tick(self.service.running.app()).await.unwrap();
    }

    /// Looks at the account if that is due.
    pub(crate) async fn look(&self) {
        blobkeep_server::jobs::look_around(self.service.running.app()).await.unwrap();
    }

    /// Lets time pass; tokens of before are no good then.
    pub(crate) async fn pass(&mut self, seconds: i64) {
        self.clock.advance_seconds(seconds);
        let env = &self.service.env;
        self.service.token = self.service.token_of(&env.client_id, &env.client_secret).await;
    }

    /// Lets an interval pass, and looks.
    pub(crate) async fn pass_and_look(&mut self, seconds: i64) {
        self.pass(seconds).await;
        self.tick().await;
        self.look().await;
    }

    pub(crate) fn now(&self) -> i64 {
        OneClock(self.clock.clone()).now_micros()
    }

    pub(crate) async fn state(&self) -> Value {
        self.service.get(&self.instance).await.body["properties"]["currentProtectionState"].clone()
    }

    pub(crate) async fn ranges(&self) -> Vec<(i64, i64)> {
        let body = json!({ "sourceDataStoreType": "OperationalStore" });
        let path = format!("{}/findRestorableTimeRanges", self.instance);
        let got = self.service.call("POST", &path, Some(body)).await.expect(200);
        let instant = |text: &Value| parse_instant(text.as_str().unwrap()).unwrap();
        let ranges = got.body["properties"]["restorableTimeRanges"].as_array().unwrap();
        ranges.iter().map(|range| (instant(&range["startTime"]), instant(&range["endTime"]))).collect()
    }

    /// What the account holds.
    pub(crate) fn content(&self) -> State {
        let blobs = self.blobs().blobs().into_iter();
        blobs.map(|(key, (entry, bytes))| (key, (bytes, entry.metadata, entry.tags, entry.tier))).collect()
    }

    /// The body of a restore to an instant: everything, or ranges.
    pub(crate) fn request(&self, at: i64, ranges: &[(&str, &str)]) -> Value {
        let criteria: Vec<Value> = ranges
            .iter()
            .map(|(min, max)| {
                json!({ "objectType": "RangeBasedItemLevelRestoreCriteria",
                    "minMatchingValue": min, "maxMatchingValue": max })
            })
            .collect();
        let kind = if ranges.is_empty() { "RestoreTargetInfo" } else { "ItemLevelRestoreTargetInfo" };
        json!({
            "objectType": "AzureBackupRecoveryTimeBasedRestoreRequest",
            "recoveryPointTime": format_instant(at),
            "sourceDataStoreType": "OperationalStore",
            "restoreTargetInfo": {
                "objectType": kind,
                "recoveryOption": "FailIfExists",
                "restoreLocation": "westus",
                "datasourceInfo": { "objectType": "Datasource", "resourceID": self.account },
                "restoreCriteria": criteria,
            },
        })
    }

    /// Asks for a restore; its job's path.
    pub(crate) async fn begin(&self, request: Value) -> String {
        let accepted =
            self.service.call("POST", &format!("{}/restore", self.instance), Some(request)).await.expect(202);
        let location = accepted.header("location").to_owned();
        let path = location.strip_prefix(self.service.env.endpoint.as_str()).unwrap();
        let got = self.service.raw(&self.service.token, "GET", path, None).await.expect(200);
        got.body["jobId"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn job(&self, path: &str) -> Value {
        self.service.get(path).await.expect(200).body["properties"].clone()
    }

    /// Restores, and gives the job as it ended.
    pub(crate) async fn restore(&self, at: i64, ranges: &[(&str, &str)]) -> Value {
        let job = self.begin(self.request(at, ranges)).await;
        self.tick().await;
        self.job(&job).await
    }

    /// Base points whose journals are in the vault and have something.
    pub(crate) fn bases(&self) -> usize {
        let folders = self.journal().into_iter().map(|file| file.parent().unwrap().to_owned());
        folders.collect::<BTreeSet<_>>().len()
    }

    /// What the service has written down of the ranges is lost.
    pub(crate) async fn lose_ranges(&self) {
        let mut writer = self.service.running.app().db.write().await.unwrap();
        query("DELETE FROM operational_ranges").execute(&mut writer).await.unwrap();
        writer.commit().await.unwrap();
    }

    async fn instance_uuid(&self) -> String {
        let mut reader = self.service.running.app().db.read().await.unwrap();
        let row = query("SELECT instance_uuid FROM backup_instances").fetch_optional(&mut reader).await.unwrap();
        row.unwrap().try_get("instance_uuid").unwrap()
    }

    /// The newest range as it is written down.
    pub(crate) async fn range_row(&self) -> StoredRange {
        let uuid = self.instance_uuid().await;
        let mut reader = self.service.running.app().db.read().await.unwrap();
        operational_ranges::list(&mut reader, &uuid).await.unwrap().remove(0)
    }

    /// Nothing but this range is written down.
    pub(crate) async fn put_range_row(&self, range: &StoredRange) {
        self.lose_ranges().await;
        let uuid = self.instance_uuid().await;
        let mut writer = self.service.running.app().db.write().await.unwrap();
        operational_ranges::put(&mut writer, &uuid, range).await.unwrap();
        writer.commit().await.unwrap();
    }

    pub(crate) async fn refuse(&self, at: i64) -> Got {
        self.service.call("POST", &format!("{}/restore", self.instance), Some(self.request(at, &[]))).await
    }

    /// The files of the journals in the vault, by name.
    pub(crate) fn journal(&self) -> Vec<PathBuf> {
        self.files("journal")
    }

    /// How many points there are in the vault, base points included.
    pub(crate) fn points(&self) -> usize {
        self.files("points").len()
    }

    fn files(&self, kind: &str) -> Vec<PathBuf> {
        let mut folders = vec![self.dir.path().join("data/vaults")];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
                match entry.file_type().unwrap().is_dir() {
                    true => folders.push(entry.path()),
                    false => files.push(entry.path()),
                }
            }
        }
        files.retain(|file| file.components().any(|part| part.as_os_str() == kind));
        files.sort();
        files
    }
}

/// A policy of the operational tier alone, or of both tiers.
pub(crate) fn policy(retention: &str, is_vaulted: bool) -> Value {
    let rule = |store: &str| {
        json!({ "objectType": "AzureRetentionRule", "name": "Default", "isDefault": true, "lifecycles": [{
            "deleteAfter": { "objectType": "AbsoluteDeleteOption", "duration": retention },
            "sourceDataStore": { "dataStoreType": store, "objectType": "DataStoreInfoBase" } }] })
    };
    let mut rules = vec![rule("OperationalStore")];
    if is_vaulted {
        rules.push(rule("VaultStore"));
        rules.push(json!({
            "objectType": "AzureBackupRule", "name": "BackupDaily",
            "backupParameters": { "objectType": "AzureBackupParams", "backupType": "Discrete" },
            "dataStore": { "dataStoreType": "VaultStore", "objectType": "DataStoreInfoBase" },
            "trigger": {
                "objectType": "ScheduleBasedTriggerContext",
                "schedule": { "repeatingTimeIntervals": ["R/2099-01-01T07:30:00+00:00/P1D"], "timeZone": "UTC" },
                "taggingCriteria": [
                    { "isDefault": true, "taggingPriority": 99, "tagInfo": { "id": "Default_", "tagName": "Default" } },
                ],
            },
        }));
    }
    json!({ "properties": { "objectType": "BackupPolicy",
        "datasourceTypes": ["Microsoft.Storage/storageAccounts/blobServices"], "policyRules": rules } })
}
