//! What was removed from the stream before it was delivered: nobody can deliver it any more, so it is said.

use std::sync::atomic::{AtomicU64, Ordering};

use super::entry::Id;
use crate::source::Context;
use crate::status::Condition;

/// The condition that says whether every entry was still there when its turn came.
pub(super) const NOTHING_REMOVED: &str = "NothingRemoved";

/// Counts what was removed, in one run of a source. What was said stays said: it does not become untrue.
#[derive(Debug, Default)]
pub(super) struct Losses(AtomicU64);

impl Losses {
    /// Entries that were handed to a consumer, and removed before it acknowledged them.
    pub(super) fn removed(&self, ctx: &Context, ids: &[Id]) {
        let Some(last) = ids.last() else { return };
        self.add(
            ctx,
            u64::try_from(ids.len()).unwrap_or(u64::MAX),
            &format!("; the last is {last}"),
        );
    }

    /// Entries that were removed before any consumer got them.
    pub(super) fn unread(&self, ctx: &Context, entries: u64) {
        if entries > 0 {
            self.add(ctx, entries, "");
        }
    }

    fn add(&self, ctx: &Context, entries: u64, last: &str) {
        let total = self.0.fetch_add(entries, Ordering::Relaxed).saturating_add(entries);
        let message = format!(
            "{total} entries were removed from the stream before they were delivered{last}"
        );
        tracing::warn!("{message}");
        ctx.report.condition(Condition::bad(NOTHING_REMOVED, "EntriesRemoved", message));
    }
}
