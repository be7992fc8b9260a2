//! The recovery points of a vault, over all its instances, and the choice of one of them. Read-only.

use anyhow::bail;
use blobkeep_vault::point::Point;
use blobkeep_vault::state::{Chain, LivePoint};
use blobkeep_vault::{Error, Vault};

use crate::output;

/// A point as its chain knows it, with its instance.
#[derive(Debug, Clone)]
pub(super) struct FoundPoint {
    /// The instance it belongs to.
    pub(super) instance: String,
    /// What the chain says.
    pub(super) live: LivePoint,
}

/// The live points of all instances, newest first, and what could not be read.
pub(super) async fn all(vault: &Vault) -> anyhow::Result<(Vec<FoundPoint>, Vec<Error>)> {
    let (mut points, mut damage) = (Vec::new(), Vec::new());
    for instance in Chain::instances(vault).await? {
        // One damaged chain must not hide the points of the others.
        match Chain::instance(vault, &instance)?.load().await {
            Ok(state) => points
                .extend(state.points.iter().map(|live| FoundPoint { instance: instance.clone(), live: live.clone() })),
            Err(error) if error.kind() == blobkeep_vault::ErrorKind::Damaged => {
                damage.push(error);
                points.extend(by_files(vault, &instance).await?);
            }
            Err(error) => return Err(error.into()),
        }
    }
    points.sort_by(|a, b| {
        let key = |point: &FoundPoint| (point.live.started_at, point.live.completed_at, point.live.job.clone());
        key(b).cmp(&key(a))
    });
    Ok((points, damage))
}

/// The points of an instance whose chain is damaged, as their files tell them: better than nothing. When they expire is not known.
async fn by_files(vault: &Vault, instance: &str) -> anyhow::Result<Vec<FoundPoint>> {
    let mut points = Vec::new();
    for job in Point::files(vault, instance).await? {
        match Point::get(vault, instance, &job).await {
            Ok(point) => {
                let (started_at, completed_at) = (point.started_at, point.completed_at);
                let live = LivePoint { job, started_at, completed_at, expires_at: None };
                points.push(FoundPoint { instance: instance.to_owned(), live });
            }
            Err(error) if error.kind() == blobkeep_vault::ErrorKind::Damaged => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(points)
}

/// The point that `wanted` means: `latest`, or an id, or a unique beginning of one.
///
/// # Errors
/// No such point, or more than one.
pub(super) async fn choose(vault: &Vault, wanted: &str) -> anyhow::Result<Point> {
    let (points, damage) = all(vault).await?;
    for error in &damage {
        output::note(&format!(
            "warning: the state of one instance is damaged, its points are told by their files: {error}"
        ));
    }
    let place = vault.store.describe();
    if points.is_empty() {
        bail!("the vault in {place} has no recovery point: make one with `blobkeep offline backup`");
    }
    let chosen = if wanted == "latest" { &points[0] } else { by_id(&points, wanted, &place)? };
    Ok(Point::get(vault, &chosen.instance, &chosen.live.job).await?)
}

pub(super) fn by_id<'a>(points: &'a [FoundPoint], wanted: &str, place: &str) -> anyhow::Result<&'a FoundPoint> {
    let folded = wanted.to_ascii_lowercase();
    let mut found = points.iter().filter(|point| !folded.is_empty() && point.live.job.starts_with(&folded));
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        // A whole id may be the beginning of another.
        (Some(_), Some(_)) => match points.iter().find(|point| point.live.job == folded) {
            Some(exact) => Ok(exact),
            None => bail!("more than one recovery point begins with {wanted}: give more of its id"),
        },
        (None, _) => {
            bail!("the vault in {place} has no recovery point {wanted}: `blobkeep offline list` shows which there are")
        }
    }
}

/// The point of the same source before this one, if there is one.
pub(super) async fn before(vault: &Vault, point: &Point) -> anyhow::Result<Option<Point>> {
    let order = |started_at, completed_at, job: &str| (started_at, completed_at, job.to_owned());
    let here = order(point.started_at, point.completed_at, &point.job);
    let state = Chain::instance(vault, &point.instance)?.load().await?;
    let earlier = state
        .points
        .iter()
        .filter(|live| order(live.started_at, live.completed_at, &live.job) < here)
        .max_by_key(|live| order(live.started_at, live.completed_at, &live.job));
    Ok(match earlier {
        Some(live) => Some(Point::get(vault, &point.instance, &live.job).await?),
        None => None,
    })
}

#[cfg(test)]
mod tests {
    use blobkeep_vault::Timestamp;

    use super::*;

    fn points(jobs: &[&str]) -> Vec<FoundPoint> {
        let live = |job: &&str| LivePoint {
            job: (*job).to_owned(),
            started_at: Timestamp(1),
            completed_at: Timestamp(2),
            expires_at: None,
        };
        jobs.iter().map(|job| FoundPoint { instance: "i".into(), live: live(job) }).collect()
    }

    #[test]
    fn a_point_is_named_by_a_unique_beginning() {
        let points = points(&["abc1", "abc2", "abc22", "d"]);
        let job = |wanted: &str| by_id(&points, wanted, "here").map(|point| point.live.job.clone());
        assert_eq!(job("D").unwrap(), "d");
        assert_eq!(job("abc1").unwrap(), "abc1");
        assert_eq!(job("abc2").unwrap(), "abc2", "a whole id wins");
        assert!(job("ab").unwrap_err().to_string().contains("more than one"));
        assert!(job("x").is_err());
        assert!(job("").is_err());
    }
}
