//! Where the embedded API answers otherwise on purpose: all of it, each with its reason.

use super::call::Call;
use super::normal::Normal;

/// Makes equal what differs on purpose.
pub(crate) fn forgive(_call: &Call, _ours: &mut Normal, _theirs: &mut Normal) {}
