//! The limit of open files.

use std::collections::HashSet;

use tracing::warn;

use crate::bundle::Bundle;
use crate::system::process::raise_open_files;

/// Raises the soft limit of open files to what `bundle` needs, or lowers its `sessions_max`, which this gives, to what it allows.
pub(crate) fn fit_descriptors(bundle: &Bundle) -> u32 {
    let sessions_max = bundle.limits.sessions_max;
    let others = bundle.limits.other_descriptors(bundle.upstreams().collect::<HashSet<_>>().len() as u64);
    let needed = u64::from(sessions_max) * 2 + others;
    let got = raise_open_files(needed);
    if needed <= got {
        return sessions_max;
    }
    let fits = u32::try_from(got.saturating_sub(others) / 2).unwrap_or(u32::MAX).max(1);
    if fits < sessions_max {
        warn!(
            sessions_max = fits,
            asked = sessions_max,
            open_files = got,
            "sessions_max lowered to what the limit of open files allows; raise LimitNOFILE= (without systemd: `ulimit -n`)"
        );
    }
    fits.min(sessions_max)
}
