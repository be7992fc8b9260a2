//! Reads `testdata/api/two-years.tsv`; its head says what its rows mean. The tests of the service read it with this file, too.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test binary uses its own part")]

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

/// Microseconds in an hour.
const HOUR: i64 = 3_600_000_000;

/// The whole table.
#[derive(Debug, Default)]
pub struct Table {
    /// The first instant, µs.
    pub begin: i64,
    /// The first instant that no longer counts, µs.
    pub end: i64,
    pub cases: Vec<Case>,
}

/// One policy, and the points that it must make.
#[derive(Debug, Default)]
pub struct Case {
    pub name: String,
    zone: String,
    intervals: Vec<String>,
    tags: Vec<Tag>,
    count: usize,
    /// Tag and end (µs) of every point, by the instant at which it is due (µs).
    pub points: BTreeMap<i64, (String, i64)>,
}

#[derive(Debug)]
struct Tag {
    name: String,
    priority: i64,
    kept: String,
    criterion: Option<Value>,
}

impl Table {
    /// Reads the file of the repository. Panics where the file contradicts itself.
    pub fn read() -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/api/two-years.tsv");
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut table = Self::default();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            table.take(line).unwrap_or_else(|wrong| panic!("two-years.tsv:{}: {wrong}", number + 1));
        }
        for case in &table.cases {
            assert_eq!(case.points.len(), case.count, "two-years.tsv: the count of {}", case.name);
        }
        table
    }

    /// The case of that name.
    pub fn case(&self, name: &str) -> &Case {
        self.cases.iter().find(|case| case.name == name).unwrap_or_else(|| panic!("two-years.tsv has no case {name}"))
    }

    fn take(&mut self, line: &str) -> Result<(), String> {
        let fields: Vec<&str> = line.split('\t').collect();
        match fields.as_slice() {
            ["window", begin, end] => (self.begin, self.end) = (instant(begin)?, instant(end)?),
            ["case", name] => self.cases.push(Case { name: (*name).to_owned(), ..Case::default() }),
            fields => {
                let window = self.begin..self.end;
                let case = self.cases.last_mut().ok_or("a row before the first case")?;
                case.take(fields)?;
                let outside = case.points.keys().find(|at| !window.contains(at));
                outside.map_or(Ok(()), |at| Err(format!("{} is outside the window", text(*at))))?;
            }
        }
        Ok(())
    }
}

impl Case {
    fn take(&mut self, fields: &[&str]) -> Result<(), String> {
        match fields {
            ["zone", zone] => (*zone).clone_into(&mut self.zone),
            ["every", interval] => self.intervals.push((*interval).to_owned()),
            ["tag", name, priority, kept, criterion] => self.tags.push(Tag {
                name: (*name).to_owned(),
                priority: priority.parse().map_err(|error| format!("{priority}: {error}"))?,
                kept: (*kept).to_owned(),
                criterion: match *criterion {
                    "-" => None,
                    text => Some(serde_json::from_str(text).map_err(|error| format!("{text}: {error}"))?),
                },
            }),
            ["count", count] => self.count = count.parse().map_err(|error| format!("{count}: {error}"))?,
            [kind @ ("all" | "but"), first, last, step, tag, end] => {
                let kept = instant(end)? - instant(first)?;
                for at in run(first, last, step)? {
                    let before = self.points.insert(at, ((*tag).to_owned(), at + kept));
                    if before.is_some() != (*kind == "but") {
                        return Err(format!("{} does not fit to the rows before", text(at)));
                    }
                }
            }
            _ => return Err("no such row".to_owned()),
        }
        Ok(())
    }

    /// The body of the PUT that makes the policy.
    pub fn policy(&self) -> Value {
        let store = json!({ "dataStoreType": "VaultStore", "objectType": "DataStoreInfoBase" });
        let mut rules: Vec<Value> = self
            .tags
            .iter()
            .map(|tag| {
                json!({
                    "objectType": "AzureRetentionRule",
                    "name": tag.name,
                    "isDefault": tag.criterion.is_none(),
                    "lifecycles": [{
                        "deleteAfter": { "objectType": "AbsoluteDeleteOption", "duration": tag.kept },
                        "sourceDataStore": store,
                    }],
                })
            })
            .collect();
        rules.push(json!({
            "objectType": "AzureBackupRule",
            "name": "Backup",
            "backupParameters": { "objectType": "AzureBackupParams", "backupType": "Discrete" },
            "dataStore": store,
            "trigger": {
                "objectType": "ScheduleBasedTriggerContext",
                "schedule": { "repeatingTimeIntervals": self.intervals, "timeZone": self.zone },
                "taggingCriteria": self.tags.iter().map(Tag::criteria).collect::<Vec<_>>(),
            },
        }));
        json!({ "properties": {
            "objectType": "BackupPolicy",
            "datasourceTypes": ["Microsoft.Storage/storageAccounts/blobServices"],
            "policyRules": rules,
        }})
    }
}

impl Tag {
    fn criteria(&self) -> Value {
        let mut tagging = json!({
            "isDefault": self.criterion.is_none(),
            "taggingPriority": self.priority,
            "tagInfo": { "id": format!("{}_", self.name), "tagName": self.name },
        });
        if let Some(criterion) = &self.criterion {
            let mut criterion = criterion.clone();
            criterion["objectType"] = json!("ScheduleBasedBackupCriteria");
            tagging["criteria"] = json!([criterion]);
        }
        tagging
    }
}

/// The instants from `first` to `last`, `step` apart; the first alone if there is no step.
fn run(first: &str, last: &str, step: &str) -> Result<Vec<i64>, String> {
    let first = instant(first)?;
    if (last, step) == ("-", "-") {
        return Ok(vec![first]);
    }
    let (number, unit) = step.split_at(step.len() - 1);
    let hours = match unit {
        "h" => 1,
        "d" => 24,
        _ => return Err(format!("{step} is no step")),
    };
    let step = number.parse::<i64>().map_err(|error| format!("{step}: {error}"))? * hours * HOUR;
    let last = instant(last)?;
    if last <= first || (last - first) % step != 0 {
        return Err("the last point is no whole number of steps after the first".to_owned());
    }
    Ok((0..=(last - first) / step).map(|number| first + number * step).collect())
}

/// Reads an instant without the code that is tested with it.
fn instant(text: &str) -> Result<i64, String> {
    let read = text.parse::<jiff::Timestamp>().map_err(|error| format!("{text}: {error}"))?;
    Ok(read.as_microsecond())
}

/// An instant (µs) as the table writes it.
pub fn text(instant: i64) -> String {
    jiff::Timestamp::from_microsecond(instant).unwrap().to_string()
}
