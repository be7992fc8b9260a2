//! Which entries of a manifest a restore takes, in which order, and where they go.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::error::{Error, Result};
use crate::item::Item;
use crate::manifest::{ManifestReader, OwnedKey, Record, Root};
use crate::names::{Pattern, ScopedPattern, Span, disjoint};
use crate::read::ChunkReader;

/// One container of a restore.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct ContainerSelection {
    /// Its name in the point.
    pub name: String,
    /// Only blobs whose names start with one of these, or fit one of the patterns; none of both is all.
    pub prefixes: Vec<String>,
    /// The same by patterns: globs, single names.
    #[serde(default)]
    pub patterns: Vec<Pattern>,
    /// Its name in the target, if another.
    pub rename_to: Option<String>,
}

impl ContainerSelection {
    fn takes(&self, name: &str) -> bool {
        (self.prefixes.is_empty() && self.patterns.is_empty())
            || self.prefixes.iter().any(|prefix| name.starts_with(prefix))
            || self.patterns.iter().any(|pattern| pattern.matches(name))
    }

    /// The parts of the container that can hold what is taken.
    fn spans(&self) -> Vec<Span> {
        if self.prefixes.is_empty() && self.patterns.is_empty() {
            return vec![Span::container(&self.name)];
        }
        let prefixes = self.prefixes.iter().cloned().map(Pattern::Prefix);
        prefixes.chain(self.patterns.iter().cloned()).map(|pattern| pattern.span(&self.name)).collect()
    }
}

/// What a restore takes.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Selection {
    /// These containers; none is all of them.
    pub containers: Vec<ContainerSelection>,
    /// Most important first: what fits the first pattern is restored before what fits the second, and the rest comes last. Names are those
    /// of the point.
    #[serde(default)]
    pub first: Vec<ScopedPattern>,
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

    /// The place of a blob in the order of the restore: how many patterns of [`Self::first`] it does not fit before the one that it fits.
    fn class_of(&self, container: &str, name: &str) -> usize {
        self.first.iter().position(|pattern| pattern.matches(container, name)).unwrap_or(self.first.len())
    }

    /// The parts of the manifest that can hold blobs of a class, in key order, not overlapping; `None` is all of it.
    fn spans(&self, class: usize) -> Option<Vec<Span>> {
        let chosen: Vec<Span> = self.containers.iter().flat_map(ContainerSelection::spans).collect();
        let spans = match self.first.get(class) {
            None if self.containers.is_empty() => return None,
            None => chosen,
            Some(ScopedPattern { container: None, .. }) if self.containers.is_empty() => return None,
            Some(ScopedPattern { container: Some(container), pattern }) if self.containers.is_empty() => {
                vec![pattern.span(container)]
            }
            Some(first) => {
                let meets = |span: &Span| {
                    let wanted = first.pattern.span(&span.container);
                    first.touches(&span.container).then(|| span.intersection(&wanted)).flatten()
                };
                chosen.iter().filter_map(meets).collect()
            }
        };
        Some(disjoint(spans))
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

/// Walks the blobs of a selection, class by class ([`Selection::first`]) and within a class in key order. Each class is one walk over the
/// parts of the manifest that can hold its blobs.
pub struct SelectedItems<'a> {
    reader: &'a ChunkReader,
    root: &'a Root,
    selection: Selection,
    /// Where each chosen container stands in the selection.
    places: HashMap<String, usize>,
    class: usize,
    /// Of this class, only what comes after this key.
    after: Option<OwnedKey>,
    open: Option<Walk<'a>>,
}

/// The walk of one class.
struct Walk<'a> {
    manifest: ManifestReader<'a>,
    /// The parts that are still to be walked, the present one first; `None` is all of the manifest.
    spans: Option<VecDeque<Span>>,
}

impl<'a> SelectedItems<'a> {
    /// The blobs of `selection`; those after the blob with the key `after` in the order of the restore, if there is one.
    pub fn new(reader: &'a ChunkReader, root: &'a Root, selection: &Selection, after: Option<OwnedKey>) -> Self {
        let class = after.as_ref().map_or(0, |after| selection.class_of(after.as_key().container, after.as_key().name));
        let place = |(place, chosen): (usize, &ContainerSelection)| (chosen.name.clone(), place);
        let places = selection.containers.iter().enumerate().map(place).collect();
        Self { reader, root, selection: selection.clone(), places, class, after, open: None }
    }

    fn takes(&self, container: &str, name: &str) -> bool {
        let chosen = self.places.get(container).and_then(|place| self.selection.containers.get(*place));
        self.places.is_empty() || chosen.is_some_and(|chosen| chosen.takes(name))
    }

    /// The next blob.
    pub async fn next(&mut self) -> Result<Option<Item>> {
        loop {
            let Some(walk) = &mut self.open else {
                if self.class > self.selection.first.len() {
                    return Ok(None);
                }
                self.open = Some(self.walk());
                continue;
            };
            let Some(item) = walk.next().await? else {
                (self.class, self.after, self.open) = (self.class + 1, None, None);
                continue;
            };
            let key = item.entry.key();
            let is_done = self.after.as_ref().is_some_and(|after| key <= after.as_key());
            let is_wanted =
                self.takes(key.container, key.name) && self.selection.class_of(key.container, key.name) == self.class;
            if is_wanted && !is_done {
                return Ok(Some(item));
            }
        }
    }

    fn walk(&self) -> Walk<'a> {
        let start = self.after.as_ref().map(OwnedKey::as_key);
        let mut manifest = ManifestReader::new(self.reader, self.root, start);
        let spans: Option<VecDeque<Span>> = self.selection.spans(self.class).map(Into::into);
        if let Some(span) = spans.as_ref().and_then(VecDeque::front) {
            manifest.seek(span.start());
        }
        Walk { manifest, spans }
    }
}

impl Walk<'_> {
    async fn next(&mut self) -> Result<Option<Item>> {
        if self.spans.as_ref().is_some_and(VecDeque::is_empty) {
            return Ok(None);
        }
        while let Some(record) = self.manifest.next().await? {
            if let Some(spans) = &mut self.spans {
                while spans.front().is_some_and(|span| span.ends_before(record.key())) {
                    spans.pop_front();
                }
                match spans.front() {
                    None => return Ok(None),
                    Some(span) if span.holds(record.key()) => {}
                    Some(span) => {
                        self.manifest.seek(span.start());
                        continue;
                    }
                }
            }
            if let Record::Blob(item) = record {
                return Ok(Some(item));
            }
        }
        Ok(None)
    }
}
