//! What a restore will do, decided before the first write: containers, names, totals, and what stands in the way.

use std::collections::BTreeSet;

use super::{ContainerSelection, RestoreOptions, RestoreState, SelectedItems, Selection};
use crate::error::{Error, Result};
use crate::item::{ContainerEntry, EntryKey};
use crate::manifest::{ManifestReader, Record, Root, Totals};
use crate::point::Point;
use crate::read::ChunkReader;
use crate::target::{OnConflict, Target};
use crate::vault::Vault;
use crate::walk::containers;

/// Refusals that an error spells out.
const REFUSALS: usize = 10;

/// What a restore will do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Blobs and bytes chosen.
    pub totals: Totals,
    /// Containers of the target, with the properties they will have.
    pub containers: Vec<ContainerEntry>,
    /// Containers of the target that this restore makes.
    pub(super) to_create: Vec<String>,
    /// The selection, with the names that the target wants.
    pub(super) selection: Selection,
}

/// Plans a restore and refuses, before the first write, what cannot be done.
pub async fn plan(
    vault: &Vault,
    point: &Point,
    target: &dyn Target,
    options: &RestoreOptions,
    state: &RestoreState,
) -> Result<Plan> {
    options.selection.check()?;
    if point.feed().is_some() {
        return Err(Error::Invalid(format!(
            "recovery point {} has no content: its blobs stay at {} as versions, and only a restore in place brings them back",
            point.job, point.source
        )));
    }
    let mut selection = options.selection.clone();
    let mut containers = chosen_containers(&vault.reader, &point.root, &selection).await?;
    if let Some(only) = target.only_container() {
        let [container] = containers.as_slice() else {
            let names: Vec<&str> = containers.iter().map(|container| container.name.as_str()).collect();
            return Err(Error::Invalid(format!(
                "{} takes one container, and {} are chosen ({}): choose one",
                target.describe(),
                containers.len(),
                names.join(", ")
            )));
        };
        let name = container.name.clone();
        match selection.containers.first_mut() {
            Some(selected) => selected.rename_to = Some(only),
            None => {
                selection.containers.push(ContainerSelection { name, rename_to: Some(only), ..Default::default() });
            }
        }
    }
    let mut to_create = Vec::new();
    let mut in_the_way = Vec::new();
    for container in &mut containers {
        container.name = selection.target_name(&container.name).to_owned();
        let is_there = target.container(&container.name).await?.is_some();
        let is_ours = state.containers.contains(&container.name);
        let must_be_new = options.on_conflict == OnConflict::Fail;
        if !is_there || is_ours {
            to_create.push(container.name.clone());
        } else if must_be_new {
            in_the_way.push(container.name.clone());
        }
    }
    if !in_the_way.is_empty() {
        let (names, place) = (in_the_way.join(", "), target.describe());
        return Err(Error::Conflict(format!(
            "{place} already has {names}: nothing was written; remove or rename the container, or restore under another name"
        )));
    }
    let totals = check_items(vault, point, target, &selection).await?;
    Ok(Plan { totals, containers, to_create, selection })
}

/// Every chosen blob must be acceptable to the target, and no two may become one there.
async fn check_items(vault: &Vault, point: &Point, target: &dyn Target, selection: &Selection) -> Result<Totals> {
    let mut totals = Totals::default();
    let mut refused = Vec::new();
    let mut refusals = 0_u64;
    let mut aliases: BTreeSet<(String, String)> = BTreeSet::new();
    // The order of the restore does not matter here, and one walk is enough.
    let unordered = Selection { first: Vec::new(), ..selection.clone() };
    let mut items = SelectedItems::new(&vault.reader, &point.root, &unordered, None);
    while let Some(mut item) = items.next().await? {
        item.entry.container = selection.target_name(&item.entry.container).to_owned();
        totals.blobs += 1;
        totals.bytes += item.entry.size_bytes;
        let identity = target.identity(&item.entry.name);
        let is_alias = identity != item.entry.name && !aliases.insert((item.entry.container.clone(), identity));
        let reason = match target.accepts(&item.entry) {
            Err(reason) => reason,
            Ok(()) if is_alias => "the target would take it for another blob of the point".to_owned(),
            Ok(()) => continue,
        };
        refusals += 1;
        if refused.len() < REFUSALS {
            refused.push(format!("{}: {reason}", item.entry.display_name()));
        }
    }
    if refusals == 0 {
        return Ok(totals);
    }
    let (place, refused) = (target.describe(), refused.join("; "));
    Err(Error::Invalid(format!("{place} cannot hold {refusals} of the chosen blobs, nothing was written: {refused}")))
}

/// The containers of a selection, as the point knows them.
pub(super) async fn chosen_containers(
    reader: &ChunkReader,
    root: &Root,
    selection: &Selection,
) -> Result<Vec<ContainerEntry>> {
    if selection.containers.is_empty() {
        return containers(reader, root).await;
    }
    let mut chosen = Vec::new();
    for selected in &selection.containers {
        let key = EntryKey { container: &selected.name, name: "", is_current: false, version: "" };
        match ManifestReader::new(reader, root, Some(key)).next().await? {
            Some(Record::Container(container)) if container.name == selected.name => chosen.push(container),
            _ => return Err(Error::NotFound(format!("the recovery point has no container {}", selected.name))),
        }
    }
    Ok(chosen)
}
