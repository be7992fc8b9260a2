//! Progress of long work: a bar on a terminal, a line now and then elsewhere; and the wish to stop (Ctrl-C, SIGTERM). All of it goes to
//! standard error. Calls return at once.

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use blobkeep_vault::{Monitor, WorkProgress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output;

/// Time between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Set when the user asked to stop.
#[derive(Debug, Clone, Default)]
pub(crate) struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Watches Ctrl-C and SIGTERM. The first asks the work to stop at its next step, the second ends the process.
    pub(crate) fn on_signals() -> Self {
        let flag = Self::default();
        let set = flag.clone();
        tokio::spawn(async move {
            wait_for_signal().await;
            set.0.store(true, Ordering::SeqCst);
            output::note("stopping at the next step; what is done stays done (once more ends at once)");
            wait_for_signal().await;
            std::process::exit(1);
        });
        flag
    }

    /// Whether the user asked to stop.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Returns when the process is asked to end, by Ctrl-C or SIGTERM.
pub(crate) async fn wait_for_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Without handlers the system's own rule stands: the signal ends the process.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Shows how one piece of work goes on.
pub(crate) struct ProgressView {
    label: String,
    bar: Option<ProgressBar>,
    last_line: Mutex<Instant>,
    stop: StopFlag,
}

impl ProgressView {
    /// A view for work called `label` ("backup", say).
    pub(crate) fn new(label: &str, stop: StopFlag) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let bar = is_terminal.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(8));
            bar.enable_steady_tick(Duration::from_millis(250));
            bar.set_style(style("{spinner} {prefix} {msg} ({elapsed})"));
            bar.set_prefix(label.to_owned());
            bar
        });
        Self { label: label.to_owned(), bar, last_line: Mutex::new(Instant::now()), stop }
    }

    /// Shows a text in place of counts, for work whose counts are not known here.
    pub(crate) fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None => self.line(|| text.to_owned()),
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn line(&self, text: impl FnOnce() -> String) {
        let mut last = self.last_line.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() >= LINE_EVERY {
            *last = Instant::now();
            output::note(&format!("{}: {}", self.label, text()));
        }
    }
}

impl Drop for ProgressView {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Monitor for ProgressView {
    fn progress(&self, progress: &WorkProgress) {
        let Some(bar) = &self.bar else { return self.line(|| describe(progress)) };
        if let Some(all) = progress.bytes_in_all.filter(|all| *all > 0) {
            if bar.length().is_none() {
                bar.set_length(all);
                bar.set_style(style("{spinner} {prefix} [{bar:30}] {percent}% {msg} ({elapsed}, {eta} to go)"));
            }
            bar.set_position(progress.bytes.min(all));
        }
        bar.set_message(describe(progress));
    }

    fn should_stop(&self) -> Option<String> {
        self.stop.is_set().then(|| "the user asked to stop".to_owned())
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn describe(progress: &WorkProgress) -> String {
    let mut text = match progress.blobs_in_all {
        Some(all) => format!("{} of {}", output::count(progress.blobs), output::counted(all, "blob")),
        None => output::counted(progress.blobs, "blob"),
    };
    if progress.unchanged_blobs > 0 {
        text.push_str(&format!(", {} unchanged", output::count(progress.unchanged_blobs)));
    }
    if progress.skipped_blobs > 0 {
        text.push_str(&format!(", {} skipped", output::count(progress.skipped_blobs)));
    }
    text.push_str(&format!(", {}", output::bytes(progress.bytes)));
    if let Some(all) = progress.bytes_in_all {
        text.push_str(&format!(" of {}", output::bytes(all)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_told_in_words() {
        let backup = WorkProgress { blobs: 1200, unchanged_blobs: 1000, bytes: 2048, ..WorkProgress::default() };
        assert_eq!(describe(&backup), "1,200 blobs, 1,000 unchanged, 2.0 KiB");
        let restore = WorkProgress {
            blobs: 3,
            blobs_in_all: Some(10),
            bytes: 1024,
            bytes_in_all: Some(4096),
            skipped_blobs: 1,
            ..WorkProgress::default()
        };
        assert_eq!(describe(&restore), "3 of 10 blobs, 1 skipped, 1.0 KiB of 4.0 KiB");
    }
}
