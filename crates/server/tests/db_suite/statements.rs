//! Which statements `db` has, and which of them were executed.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::Once;

use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

thread_local! {
    /// What was executed in this thread, if that is watched. A test and all that it does to the database is one thread.
    static EXECUTED: RefCell<Option<BTreeSet<String>>> = const { RefCell::new(None) };
}

/// What is executed in this thread from now on.
pub(crate) struct Executed;

impl Executed {
    pub(crate) fn watch() -> Self {
        // One for the whole process: what comes and goes with a test would take that of another one along.
        static RECORDER: Once = Once::new();
        RECORDER.call_once(|| tracing::subscriber::set_global_default(Recorder).unwrap());
        EXECUTED.set(Some(BTreeSet::new()));
        Self
    }

    /// Fails with the statements that nobody executed.
    pub(crate) fn expect_all(self) {
        let executed = EXECUTED.take().unwrap_or_default();
        let written = written();
        assert!(written.len() > 100, "only {} statements were found in src/db", written.len());
        let missing: Vec<&String> = written.iter().filter(|statement| !executed.contains(*statement)).collect();
        let missing = missing.iter().map(|statement| format!("\n  {statement}")).collect::<String>();
        assert!(missing.is_empty(), "the suite executes not (add a step to tests/db_suite that does):{missing}");
    }
}

/// The same statement, however its lines are broken.
fn on_one_line(statement: &str) -> String {
    statement.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The texts in the sources of `db` that begin like a statement.
fn written() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/db")).unwrap() {
        let file = entry.unwrap().path();
        // What is said to one database alone is no statement about resources.
        if file.ends_with("dialect.rs") || file.ends_with("postgres.rs") {
            continue;
        }
        let source = std::fs::read_to_string(&file).unwrap();
        let code = source.split("#[cfg(test)]").next().unwrap_or_default();
        let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        let code = lines.collect::<Vec<_>>().join("\n");
        // Every second piece is the inside of a text: none of these files has a quotation mark in one.
        all.extend(code.split('"').skip(1).step_by(2).map(on_one_line).filter(|text| is_statement(text)));
    }
    all
}

fn is_statement(text: &str) -> bool {
    ["SELECT ", "INSERT ", "UPDATE ", "DELETE ", "WITH "].iter().any(|word| text.starts_with(word))
}

/// Keeps what `db` says of its statements.
struct Recorder;

struct Statement(Option<String>);

impl Visit for Statement {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "statement" {
            self.0 = Some(on_one_line(value));
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "blobkeep_server::db::sql"
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut statement = Statement(None);
        event.record(&mut statement);
        EXECUTED.with_borrow_mut(|executed| {
            if let Some(executed) = executed {
                executed.extend(statement.0);
            }
        });
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
