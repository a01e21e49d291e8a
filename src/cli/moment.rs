//! Moments and how long they are ago, as kubectl writes them.

use std::time::{SystemTime, UNIX_EPOCH};

/// How long a moment is ago, in milliseconds since 1970: `5s`, `3m12s`, `7h5m`.
pub(super) fn age(millis: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    duration(now.as_secs().saturating_sub(millis / 1000))
}

/// So many seconds, as kubectl has it: what is long is not told to the second.
fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let (text, rest) = match seconds {
        0..120 => (format!("{seconds}s"), None),
        120..600 => (format!("{minutes}m"), Some((seconds % 60, 's'))),
        600..10_800 => (format!("{minutes}m"), None),
        10_800..28_800 => (format!("{hours}h"), Some((minutes % 60, 'm'))),
        28_800..172_800 => (format!("{hours}h"), None),
        172_800..691_200 => (format!("{days}d"), Some((hours % 24, 'h'))),
        691_200..63_072_000 => (format!("{days}d"), None),
        63_072_000..252_288_000 => (format!("{}y", days / 365), Some((days % 365, 'd'))),
        _ => (format!("{}y", days / 365), None),
    };
    match rest {
        Some((rest @ 1.., unit)) => format!("{text}{rest}{unit}"),
        _ => text,
    }
}

/// A moment as RFC 3339 has it, in UTC.
pub(super) fn stamp(millis: u64) -> String {
    let (seconds, millis) = (millis / 1000, millis % 1000);
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March, so that the day that may be missing is the last one.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, late) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z", era * 400 + year + late)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_kubectls() {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 60 * MINUTE;
        const DAY: u64 = 24 * HOUR;
        for (seconds, text) in [
            (0, "0s"),
            (5, "5s"),
            (119, "119s"),
            (2 * MINUTE, "2m"),
            (3 * MINUTE + 12, "3m12s"),
            (10 * MINUTE + 59, "10m"),
            (2 * HOUR + 59 * MINUTE, "179m"),
            (3 * HOUR, "3h"),
            (7 * HOUR + 5 * MINUTE, "7h5m"),
            (8 * HOUR + 5 * MINUTE, "8h"),
            (47 * HOUR, "47h"),
            (2 * DAY, "2d"),
            (7 * DAY + 23 * HOUR, "7d23h"),
            (8 * DAY + 23 * HOUR, "8d"),
            (729 * DAY, "729d"),
            (2 * 365 * DAY + 3 * DAY, "2y3d"),
            (8 * 365 * DAY, "8y"),
        ] {
            assert_eq!(duration(seconds), text, "{seconds} s");
        }
    }

    #[test]
    fn moments() {
        assert_eq!(stamp(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(stamp(951_782_400_001), "2000-02-29T00:00:00.001Z");
        assert_eq!(stamp(1_709_251_199_999), "2024-02-29T23:59:59.999Z");
        assert_eq!(stamp(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
    }
}
