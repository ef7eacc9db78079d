//! The bar on anything long, where a person looks on.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::Output;

/// A bar on standard error, hidden when that is no terminal or answers are JSON. It goes away when
/// dropped.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Counts bytes, of a total if it is known.
    pub(crate) fn of_bytes(total: Option<u64>, output: &Output) -> Self {
        Self::new(
            total,
            output,
            "{bar:40} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left",
            "{spinner} {bytes} {bytes_per_sec}",
        )
    }

    /// Counts entries, of a total.
    pub(crate) fn of_entries(total: u64, output: &Output) -> Self {
        Self::new(
            Some(total),
            output,
            "{bar:40} {human_pos}/{human_len} {per_sec}, {eta} left",
            "{spinner} {human_pos}",
        )
    }

    fn new(total: Option<u64>, output: &Output, with_total: &str, without: &str) -> Self {
        // indicatif draws on a terminal only; programs that want JSON want no bar even there.
        let target = if output.json() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        let bar = match total {
            Some(total) => ProgressBar::with_draw_target(Some(total), target),
            None => ProgressBar::with_draw_target(None, target),
        };
        let template = if total.is_some() { with_total } else { without };
        bar.set_style(ProgressStyle::with_template(template).expect("the templates are constant"));
        Self(bar)
    }

    /// So much more is done.
    pub(crate) fn advance(&self, by: u64) {
        self.0.inc(by);
    }

    /// So much is done, of so much.
    pub(crate) fn set(&self, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
