//! One file of the specification's examples.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/api")
}

/// Method and path template of each operation of the specification.
pub(crate) fn operations() -> BTreeMap<String, (String, String)> {
    let text = std::fs::read_to_string(testdata().join("operations.tsv")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let [name, method, path] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
            (name.to_owned(), (method.to_owned(), path.to_owned()))
        })
        .collect()
}

/// An example: a request, and the answers that it may have.
#[derive(Debug)]
pub(crate) struct Example {
    /// Its file below the folder, without the ending.
    pub(crate) name: String,
    pub(crate) operation: String,
    content: Value,
}

impl Example {
    pub(crate) fn read(name: &str) -> Self {
        let path = testdata().join(format!("examples/{name}.json"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let content: Value = serde_json::from_str(&text).unwrap();
        let operation = content["operationId"].as_str().unwrap().to_owned();
        Self { name: name.to_owned(), operation, content }
    }

    /// The names of all examples.
    pub(crate) fn all() -> BTreeSet<String> {
        let root = testdata().join("examples");
        let mut folders = vec![root.clone()];
        let mut names = BTreeSet::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|ending| ending == "json") {
                    let name = path.strip_prefix(&root).unwrap().with_extension("");
                    names.insert(name.to_str().unwrap().replace('\\', "/"));
                }
            }
        }
        names
    }

    /// The parameters that are texts: of the path, the query and the headers.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = (&str, &str)> {
        let parameters = self.content["parameters"].as_object().unwrap();
        parameters.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
    }

    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    pub(crate) fn body(&self) -> Option<&Value> {
        Some(&self.content["parameters"]["parameters"]).filter(|body| body.is_object())
    }

    /// A text of the body.
    pub(crate) fn text(&self, pointer: &str) -> Option<&str> {
        self.body()?.pointer(pointer)?.as_str().filter(|text| !text.is_empty())
    }

    /// The statuses of the answers.
    pub(crate) fn statuses(&self) -> impl Iterator<Item = u16> {
        self.content["responses"].as_object().unwrap().keys().map(|status| status.parse().unwrap())
    }

    /// The instance of blobs that the request sends or the answer shows.
    pub(crate) fn instance(&self) -> Option<&Value> {
        let sent = self.body().map(|body| &body["properties"]);
        let shown = &self.content["responses"]["200"]["body"]["properties"];
        let kind = |instance: &Value| instance["dataSourceInfo"]["datasourceType"].as_str().unwrap_or("").to_owned();
        sent.into_iter()
            .chain([shown])
            .find(|instance| kind(instance).starts_with("Microsoft.Storage/storageAccounts/"))
    }
}
