//! Which containers a journal has something in, and which of them have gone. A feed of changes tells of blobs alone: a container that is deleted
//! takes its blobs and their versions along without a word, and one that is made anew under its name begins empty. Until the account is listed
//! again every state would have what can never come back.

use std::collections::BTreeMap;

use blobkeep_vault::ContainerEntry;
use blobkeep_vault::item::EntryKey;
use blobkeep_vault::journal::JournalEnd;
use blobkeep_vault::manifest::{ManifestReader, Record};
use blobkeep_vault::point::Point;
use blobkeep_vault::source::BlobChange;

use super::look::Look;
use crate::db;
use crate::db::operational_containers::{self, Marks};
use crate::jobs::fault::Fault;

/// The containers in which the newest base point or its journal has something. Memory: their names and marks, some hundred bytes each.
pub(super) struct Containers {
    marks: Marks,
    /// Those of which this look was told that a blob was there.
    told: BTreeMap<String, Told>,
}

struct Told {
    /// The first time, microseconds by the clock of the endpoint.
    since: i64,
    /// Nothing of the container was known before.
    is_new: bool,
}

impl Containers {
    /// What is known of a journal; none if it has changes of which nobody knows the containers.
    pub(super) async fn load(look: &Look<'_>, end: &JournalEnd) -> Result<Option<Self>, Fault> {
        let uuid = &look.subject.instance.instance_uuid;
        let mut reader = look.app.db.read().await?;
        let kept = operational_containers::get(&mut reader, uuid, &end.base).await?;
        drop(reader);
        match kept {
            Some(marks) => Ok(Some(Self::of(marks))),
            None if end.segments == 0 => Self::of_base(look, &end.base).await.map(Some),
            None => Ok(None),
        }
    }

    fn of(marks: Marks) -> Self {
        Self { marks, told: BTreeMap::new() }
    }

    /// Those of a base point whose journal has not begun.
    pub(super) async fn of_base(look: &Look<'_>, base: &str) -> Result<Self, Fault> {
        let read = async {
            let base = Point::get(look.vault, &look.subject.instance.instance_uuid, base).await?;
            let mut manifest = ManifestReader::new(&look.vault.reader, &base.root, None);
            let mut marks = Marks::new();
            while let Some(record) = manifest.next().await? {
                let Record::Container(entry) = record else { continue };
                // The next container sorts behind all that this one holds.
                let behind = format!("{}\0", entry.name);
                manifest.seek(EntryKey { container: &behind, name: "", is_current: false, version: "" });
                marks.insert(entry.name, Some(entry.etag));
            }
            Ok(Self::of(marks))
        };
        read.await.map_err(|e| look.engine(&e))
    }

    /// Changes that the journal is about to get. True if they are of containers of which nothing was known: that is to be saved before.
    pub(super) fn note(&mut self, changes: &[BlobChange]) -> bool {
        let before = self.marks.len();
        for change in changes.iter().filter(|change| change.entry.is_some()) {
            let is_new = !self.marks.contains_key(&change.container);
            if is_new {
                self.marks.insert(change.container.clone(), None);
            }
            match self.told.get_mut(&change.container) {
                Some(told) => told.since = told.since.min(change.at.0),
                None => drop(self.told.insert(change.container.clone(), Told { since: change.at.0, is_new })),
            }
        }
        self.marks.len() > before
    }

    /// This look was told something that has not been held against a listing.
    pub(super) fn has_news(&self) -> bool {
        !self.told.is_empty()
    }

    /// Holds what is known against the containers of the account, which were listed after everything that was told. True if one has gone, or may
    /// have gone and come back: its mark is another one, or it has changed since it was told of. A new one is nothing of that kind.
    fn compare(&mut self, there: &[ContainerEntry]) -> Compared {
        let there: BTreeMap<&str, &ContainerEntry> = there.iter().map(|entry| (entry.name.as_str(), entry)).collect();
        let mut compared = Compared::default();
        for (name, mark) in &mut self.marks {
            let Some(entry) = there.get(name.as_str()) else {
                compared.has_gone = true;
                continue;
            };
            if let Some(told) = self.told.get(name) {
                let now = match told.since < entry.modified_at.0 {
                    true => None,
                    false if told.is_new => Some(entry.etag.clone()),
                    false => mark.clone(),
                };
                compared.is_changed |= *mark != now;
                *mark = now;
            }
            compared.has_gone |= mark.as_ref() != Some(&entry.etag);
        }
        self.told.clear();
        compared
    }

    /// The same with a listing of now; what has come out is kept.
    pub(super) async fn look(&mut self, look: &Look<'_>, base: &str) -> Result<bool, Fault> {
        let there = look.source.containers().await.map_err(|e| look.engine(&e.into()))?;
        let compared = self.compare(&there);
        if compared.is_changed {
            self.save(look, base).await?;
        }
        Ok(compared.has_gone)
    }

    /// Keeps what is known.
    pub(super) async fn save(&self, look: &Look<'_>, base: &str) -> db::DbResult<()> {
        let mut writer = look.app.db.write().await?;
        operational_containers::put(&mut writer, &look.subject.instance.instance_uuid, base, &self.marks).await?;
        writer.commit().await
    }
}

/// What a listing says of what is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Compared {
    /// States have something that the account has lost.
    has_gone: bool,
    /// More is known than was saved.
    is_changed: bool,
}

#[cfg(test)]
mod tests {
    use blobkeep_vault::{BlobEntry, Timestamp};

    use super::*;

    fn change(container: &str, at: i64) -> BlobChange {
        let entry = BlobEntry { container: container.to_owned(), name: "blob".to_owned(), ..BlobEntry::default() };
        let (container, name) = (container.to_owned(), "blob".to_owned());
        BlobChange { container, name, at: Timestamp(at), sequence: String::new(), entry: Some(entry) }
    }

    fn container(name: &str, modified_at: i64, etag: &str) -> ContainerEntry {
        let (name, etag) = (name.to_owned(), etag.to_owned());
        ContainerEntry { name, etag, modified_at: Timestamp(modified_at), ..ContainerEntry::default() }
    }

    fn known(names: &[(&str, Option<&str>)]) -> Containers {
        Containers::of(names.iter().map(|(name, mark)| ((*name).to_owned(), mark.map(str::to_owned))).collect())
    }

    fn has_gone(known: &mut Containers, there: &[ContainerEntry]) -> bool {
        known.compare(there).has_gone
    }

    #[test]
    fn a_container_that_goes_or_is_made_anew_is_noticed_and_a_new_one_is_not() {
        let (a, b) = (container("a", 10, "1"), container("b", 10, "2"));
        let mut all = known(&[("a", Some("1")), ("b", Some("2"))]);
        assert_eq!(all.compare(&[a.clone(), b.clone(), container("c", 50, "3")]), Compared::default());
        assert!(has_gone(&mut all, std::slice::from_ref(&a)));
        assert!(has_gone(&mut all, &[a.clone(), container("b", 50, "4")]), "made anew");
        assert!(has_gone(&mut all, &[a.clone(), container("b", 50, "4")]), "until there is another base");
        assert!(!has_gone(&mut all, &[a, b]));
    }

    #[test]
    fn what_the_feed_tells_of_a_container_that_is_there_is_no_reason_and_what_it_told_of_one_that_has_gone_is() {
        let mut all = known(&[("a", Some("1"))]);
        assert!(!all.note(&[change("a", 20)]));
        assert!(all.note(&[change("b", 20), change("c", 20)]));
        assert!(all.has_news());
        let there = [container("a", 10, "1"), container("b", 20, "2"), container("c", 5, "3")];
        assert_eq!(all.compare(&there), Compared { has_gone: false, is_changed: true });
        assert_eq!(all.compare(&there), Compared::default());
        assert!(!all.has_news());

        // It came and went between two looks.
        assert!(all.note(&[change("d", 30)]));
        assert!(has_gone(&mut all, &there));
        let mut deleted = change("e", 30);
        deleted.entry = None;
        let mut all = known(&[("a", Some("1"))]);
        assert!(!all.note(&[deleted]), "what is not there cannot be missing");
    }

    #[test]
    fn a_feed_that_tells_late_of_what_went_with_a_container_is_noticed_although_another_one_has_its_name() {
        let there = [container("a", 50, "2")];
        for mut all in [known(&[]), known(&[("a", Some("2"))])] {
            all.note(&[change("a", 60), change("a", 40)]);
            assert!(has_gone(&mut all, &there), "the one of 40 went with its container");
            all.note(&[change("a", 70)]);
            assert!(has_gone(&mut all, &there), "until there is another base");
        }
    }
}
