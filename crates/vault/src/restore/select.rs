//! Which entries of a manifest a restore takes, and where they go.

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::item::{EntryKey, Item};
use crate::manifest::{ManifestReader, OwnedKey, Record, Root};
use crate::read::ChunkReader;

/// One container of a restore.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct ContainerSelection {
    /// Its name in the point.
    pub name: String,
    /// Only blobs whose names start with one of these; none is all.
    pub prefixes: Vec<String>,
    /// Its name in the target, if another.
    pub rename_to: Option<String>,
}

/// What a restore takes.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Selection {
    /// These containers; none is all of them.
    pub containers: Vec<ContainerSelection>,
}

impl Selection {
    /// The name of a container in the target.
    pub fn target_name<'a>(&'a self, container: &'a str) -> &'a str {
        self.containers
            .iter()
            .find(|selected| selected.name == container)
            .and_then(|selected| selected.rename_to.as_deref())
            .unwrap_or(container)
    }

    /// The parts of the manifest to read, in key order, not overlapping.
    fn spans(&self) -> Vec<Span> {
        let mut spans = BTreeSet::new();
        for container in &self.containers {
            if container.prefixes.is_empty() {
                spans.insert((container.name.clone(), String::new()));
            }
            spans.extend(container.prefixes.iter().map(|prefix| (container.name.clone(), prefix.clone())));
        }
        let mut kept: Vec<Span> = Vec::new();
        for (container, prefix) in spans {
            let is_inside = |span: &Span| span.container == container && prefix.starts_with(&span.prefix);
            if !kept.last().is_some_and(is_inside) {
                kept.push(Span { container, prefix });
            }
        }
        kept
    }

    /// Refuses a selection that contradicts itself.
    pub fn check(&self) -> Result<()> {
        let mut names = BTreeSet::new();
        let mut targets = BTreeSet::new();
        for container in &self.containers {
            if !names.insert(&container.name) {
                return Err(Error::Invalid(format!("container {} is chosen twice", container.name)));
            }
            let target = self.target_name(&container.name);
            if !targets.insert(target) {
                return Err(Error::Invalid(format!(
                    "two containers would be restored to {target}: rename one of them"
                )));
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    container: String,
    prefix: String,
}

impl Span {
    fn start(&self) -> EntryKey<'_> {
        EntryKey { container: &self.container, name: &self.prefix, is_current: false, version: "" }
    }

    fn holds(&self, key: EntryKey<'_>) -> bool {
        key.container == self.container && key.name.starts_with(&self.prefix)
    }
}

/// Walks the blobs of a selection in key order.
pub struct SelectedItems<'a> {
    reader: &'a ChunkReader,
    root: &'a Root,
    spans: std::vec::IntoIter<Span>,
    open: Option<(ManifestReader<'a>, Option<Span>)>,
    after: Option<OwnedKey>,
}

impl<'a> SelectedItems<'a> {
    /// The blobs of `selection`, after the key `after` if there is one.
    pub fn new(reader: &'a ChunkReader, root: &'a Root, selection: &Selection, after: Option<OwnedKey>) -> Self {
        let start = after.as_ref().map(OwnedKey::as_key);
        let open = selection.containers.is_empty().then(|| (ManifestReader::new(reader, root, start), None));
        Self { reader, root, spans: selection.spans().into_iter(), open, after }
    }

    /// The next blob.
    pub async fn next(&mut self) -> Result<Option<Item>> {
        loop {
            let Some((manifest, span)) = &mut self.open else {
                let Some(span) = self.spans.next() else { return Ok(None) };
                let start = match &self.after {
                    Some(after) if after.as_key() > span.start() => after.as_key(),
                    _ => span.start(),
                };
                self.open = Some((ManifestReader::new(self.reader, self.root, Some(start)), Some(span)));
                continue;
            };
            let Some(record) = manifest.next().await? else {
                self.open = None;
                if self.spans.len() == 0 {
                    return Ok(None);
                }
                continue;
            };
            if span.as_ref().is_some_and(|span| record.key() > span.start() && !span.holds(record.key())) {
                self.open = None;
                continue;
            }
            let is_done = self.after.as_ref().is_some_and(|after| record.key() <= after.as_key());
            match record {
                Record::Blob(item) if !is_done => return Ok(Some(item)),
                _ => {}
            }
        }
    }
}
