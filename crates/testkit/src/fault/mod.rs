//! A store that misbehaves on request, and counts what is asked of it.
//!
//! A [`Rule`] says which calls are hit and what happens to them: they fail before or after the deed, tear a file, forget a write, put it off,
//! or take their time. Where several rules hit a call the first one counts. A hook is awaited before each call, so that a test can hold the
//! engine at any step.

mod rule;

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use blobkeep_vault::store::check_name;
use blobkeep_vault::{Put, Store, StoreError, StoreErrorKind, StoredFile};
use bytes::Bytes;
use tokio::sync::Semaphore;

use rule::on_request;
pub use rule::{Fault, Op, Rule};

/// What is awaited before each call.
pub type Hook = Arc<dyn Fn(Op, &str) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// Files that were acknowledged and have not landed, oldest first.
type Held = Vec<(String, Bytes)>;

/// A layer around a store that misbehaves on request.
pub struct FaultStore {
    inner: Arc<dyn Store>,
    rules: Mutex<Vec<Rule>>,
    hook: Mutex<Option<Hook>>,
    held: Mutex<Held>,
    calls: Mutex<Vec<(Op, String)>>,
    writes_left: AtomicI64,
    written_bytes: AtomicU64,
    reads: AtomicU64,
}

/// What a rule leaves to do.
enum Course {
    Through,
    FailAfter(StoreErrorKind),
    Torn(u16),
    Lost,
    Held,
}

impl FaultStore {
    /// A layer around `inner` that lets everything through.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self {
            inner,
            rules: Mutex::default(),
            hook: Mutex::default(),
            held: Mutex::default(),
            calls: Mutex::default(),
            writes_left: AtomicI64::new(i64::MAX),
            written_bytes: AtomicU64::new(0),
            reads: AtomicU64::new(0),
        }
    }

    /// Adds a rule; it holds from now on.
    pub fn add(&self, rule: Rule) {
        lock(&self.rules).push(rule);
    }

    /// Takes all rules and the hook away; what is held stays held.
    pub fn heal(&self) {
        lock(&self.rules).clear();
        *lock(&self.hook) = None;
        self.fail_after_writes(i64::MAX);
    }

    /// Awaits `hook` before each call from now on.
    pub fn set_hook(&self, hook: Hook) {
        *lock(&self.hook) = Some(hook);
    }

    /// Holds the next call of this kind and name at a gate. Takes the place of any other hook.
    pub fn gate(&self, op: Op, prefix: &str) -> Gate {
        let gate = Gate { reached: Arc::new(Semaphore::new(0)), opened: Arc::new(Semaphore::new(0)) };
        let (held, prefix) = (gate.clone(), prefix.to_owned());
        self.set_hook(Arc::new(move |called, name| {
            let (held, concerns) = (held.clone(), called == op && name.starts_with(&prefix));
            Box::pin(async move {
                if concerns {
                    held.reached.add_permits(1);
                    // It is never closed; once opened it stays open.
                    drop(held.opened.acquire().await);
                }
            })
        }));
        gate
    }

    /// Writes fail from now on after this many.
    pub fn fail_after_writes(&self, writes: i64) {
        self.writes_left.store(writes, Ordering::SeqCst);
    }

    /// Bytes written so far.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::SeqCst)
    }

    /// Reads so far.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::SeqCst)
    }

    /// Calls since the last time this was asked, in their order.
    pub fn take_calls(&self) -> Vec<(Op, String)> {
        std::mem::take(&mut *lock(&self.calls))
    }

    /// Names of the files that were acknowledged and have not landed, oldest first.
    pub fn held(&self) -> Vec<String> {
        lock(&self.held).iter().map(|(name, _)| name.clone()).collect()
    }

    /// Lets held files land, oldest first: those that `chosen` says, the others stay held. Returns how many landed.
    pub async fn land(&self, chosen: impl Fn(&str) -> bool) -> Result<usize, StoreError> {
        let held = std::mem::take(&mut *lock(&self.held));
        let (landing, staying): (Held, Held) = held.into_iter().partition(|(name, _)| chosen(name));
        *lock(&self.held) = staying;
        let landed = landing.len();
        for (name, content) in landing {
            self.inner.put_if_absent(&name, content).await?;
        }
        Ok(landed)
    }

    /// A crash: of the held files the last `lost` are gone for good, those before them land.
    pub async fn crash(&self, lost: usize) -> Result<(), StoreError> {
        {
            let mut held = lock(&self.held);
            let kept = held.len().saturating_sub(lost);
            held.truncate(kept);
        }
        self.land(|_| true).await.map(drop)
    }

    fn held_file(&self, name: &str) -> Option<Bytes> {
        lock(&self.held).iter().find(|(held, _)| held == name).map(|(_, content)| content.clone())
    }

    /// Counts a call, awaits the hook, and says what is to happen.
    async fn course(&self, op: Op, name: &str) -> Result<Course, StoreError> {
        lock(&self.calls).push((op, name.to_owned()));
        let hook = lock(&self.hook).clone();
        if let Some(hook) = hook {
            hook(op, name).await;
        }
        let hit = lock(&self.rules).iter_mut().find_map(|rule| rule.hits(op, name).then_some(rule.fault));
        match hit {
            None => Ok(Course::Through),
            Some(Fault::Before(kind)) => Err(on_request(kind, op, name)),
            Some(Fault::After(kind)) => Ok(Course::FailAfter(kind)),
            Some(Fault::Torn(part)) if op == Op::Put => Ok(Course::Torn(part)),
            Some(Fault::Torn(_)) => Err(on_request(StoreErrorKind::Unavailable, op, name)),
            Some(Fault::Lost) => Ok(Course::Lost),
            Some(Fault::Held) => Ok(Course::Held),
            Some(Fault::Slow(time)) => {
                tokio::time::sleep(time).await;
                Ok(Course::Through)
            }
        }
    }

    async fn read_course(&self, op: Op, name: &str) -> Result<(), StoreError> {
        match self.course(op, name).await? {
            Course::FailAfter(kind) => Err(on_request(kind, op, name)),
            _ => Ok(()),
        }
    }

    async fn hold(&self, name: &str, content: Bytes) -> Result<Put, StoreError> {
        check_name(name)?;
        if self.inner.size(name).await.is_ok() {
            return Ok(Put::Exists);
        }
        let mut held = lock(&self.held);
        if held.iter().any(|(there, _)| there == name) {
            return Ok(Put::Exists);
        }
        held.push((name.to_owned(), content));
        Ok(Put::Stored)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place where calls wait until a test opens it.
#[derive(Clone)]
pub struct Gate {
    reached: Arc<Semaphore>,
    opened: Arc<Semaphore>,
}

impl Gate {
    /// Returns when a call waits here (again for the next one).
    pub async fn reached(&self) {
        if let Ok(permit) = self.reached.acquire().await {
            permit.forget();
        }
    }

    /// Lets all calls through, now and later.
    pub fn open(&self) {
        self.opened.add_permits(1);
    }
}

#[async_trait]
impl Store for FaultStore {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    async fn put_if_absent(&self, name: &str, content: Bytes) -> Result<Put, StoreError> {
        if self.writes_left.fetch_sub(1, Ordering::SeqCst) <= 0 {
            return Err(on_request(StoreErrorKind::Unavailable, Op::Put, name));
        }
        let course = self.course(Op::Put, name).await?;
        if self.held_file(name).is_some() {
            return Ok(Put::Exists);
        }
        let written_bytes = content.len() as u64;
        let put = match course {
            Course::Through => self.inner.put_if_absent(name, content).await?,
            Course::FailAfter(kind) => {
                self.inner.put_if_absent(name, content).await?;
                return Err(on_request(kind, Op::Put, name));
            }
            Course::Torn(part) => {
                let length = content.len() * usize::from(part) / 1000;
                self.inner.put_if_absent(name, content.slice(..length)).await?;
                return Err(on_request(StoreErrorKind::Unavailable, Op::Put, name));
            }
            Course::Lost => Put::Stored,
            Course::Held => self.hold(name, content).await?,
        };
        self.written_bytes.fetch_add(written_bytes, Ordering::SeqCst);
        Ok(put)
    }

    async fn get(&self, name: &str) -> Result<Bytes, StoreError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.read_course(Op::Get, name).await?;
        match self.held_file(name) {
            Some(content) => Ok(content),
            None => self.inner.get(name).await,
        }
    }

    async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.read_course(Op::GetRange, name).await?;
        let Some(content) = self.held_file(name) else { return self.inner.get_range(name, range).await };
        match content.get(range.start as usize..range.end as usize) {
            Some(_) => Ok(content.slice(range.start as usize..range.end as usize)),
            None => Err(StoreError::new(StoreErrorKind::Other, format!("{name} ends before byte {}", range.end))),
        }
    }

    async fn size(&self, name: &str) -> Result<u64, StoreError> {
        self.read_course(Op::Size, name).await?;
        match self.held_file(name) {
            Some(content) => Ok(content.len() as u64),
            None => self.inner.size(name).await,
        }
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<StoredFile>, StoreError> {
        self.read_course(Op::List, prefix).await?;
        let mut files = self.inner.list(prefix, after).await?;
        let is_wanted = |name: &str| name.starts_with(prefix) && after.is_none_or(|after| name > after);
        let held = lock(&self.held);
        let held = held.iter().filter(|(name, _)| is_wanted(name));
        files.extend(held.map(|(name, content)| StoredFile { name: name.clone(), size_bytes: content.len() as u64 }));
        files.sort_by(|a, b| a.name.cmp(&b.name));
        files.truncate(1000);
        Ok(files)
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        let course = self.course(Op::Delete, name).await?;
        if matches!(course, Course::Lost) {
            return Ok(());
        }
        lock(&self.held).retain(|(held, _)| held != name);
        self.inner.delete(name).await?;
        match course {
            Course::FailAfter(kind) => Err(on_request(kind, Op::Delete, name)),
            _ => Ok(()),
        }
    }
}
