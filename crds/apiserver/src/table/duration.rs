//! Ages for people: two or three significant figures, as Kubernetes prints them.

use jiff::{SignedDuration, Timestamp};

/// The time from an RFC 3339 timestamp until now.
pub(super) fn since(time: Option<&str>, now: Timestamp) -> String {
    match time {
        None | Some("") => "<unknown>".into(),
        Some(text) => text
            .parse::<Timestamp>()
            .map_or_else(|_| "<invalid>".into(), |time| human(now.duration_since(time))),
    }
}

/// A duration as in `59s`, `5m30s`, `3h`, `2d4h`, `3y20d`.
pub(super) fn human(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    // Clocks of two machines differ; two seconds are as good as now.
    if seconds < -1 {
        return "<invalid>".into();
    }
    let seconds = seconds.max(0);
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, years) = (hours / 24, hours / 24 / 365);
    if seconds < 120 {
        format!("{seconds}s")
    } else if minutes < 10 {
        two(minutes, 'm', seconds % 60, 's')
    } else if minutes < 180 {
        format!("{minutes}m")
    } else if hours < 8 {
        two(hours, 'h', minutes % 60, 'm')
    } else if hours < 48 {
        format!("{hours}h")
    } else if days < 8 {
        two(days, 'd', hours % 24, 'h')
    } else if years < 2 {
        format!("{days}d")
    } else if years < 8 {
        two(years, 'y', days % 365, 'd')
    } else {
        format!("{years}y")
    }
}

fn two(large: i64, unit: char, small: i64, part: char) -> String {
    if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit}{small}{part}") }
}
