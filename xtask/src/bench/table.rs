//! From times to a table: medians, ranges, and ratios of medians.

use std::{fmt::Write, time::Duration};

use serde_json::json;

/// A contender's times.
#[derive(Debug)]
pub(crate) struct Row {
    title: String,
    name: String,
    against: Option<&'static str>,
    /// One for each round.
    pub(crate) times: Vec<Duration>,
    /// How many times as long as this row the one it is compared with takes, and its name.
    ratio: Option<(f64, &'static str)>,
}

impl Row {
    pub(crate) fn new(title: &str, name: &str, against: Option<&'static str>) -> Self {
        Row { title: title.to_owned(), name: name.to_owned(), against, times: Vec::new(), ratio: None }
    }

    fn median(&self) -> f64 {
        let mut times: Vec<f64> =
            self.times.iter().map(Duration::as_secs_f64).map(|seconds| seconds * 1000.0).collect();
        times.sort_by(f64::total_cmp);
        match times.len() {
            0 => f64::NAN,
            n => (times[(n - 1) / 2] + times[n / 2]) / 2.0,
        }
    }

    fn range(&self) -> (f64, f64) {
        let millis = |time: Option<&Duration>| time.map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0);
        (millis(self.times.iter().min()), millis(self.times.iter().max()))
    }
}

/// Works out the ratios.
pub(crate) fn relate(rows: &mut [Row]) {
    let medians: Vec<(String, f64)> = rows.iter().map(|row| (row.name.clone(), row.median())).collect();
    for row in rows {
        let other =
            row.against.and_then(|name| medians.iter().find(|(other, _)| other == name).map(|(_, it)| (*it, name)));
        row.ratio = other.map(|(other, name)| (other / row.median(), name));
    }
}

/// For people.
pub(crate) fn text(rows: &[Row]) -> String {
    let mut text = String::new();
    let mut title = "";
    for row in rows {
        if row.title != title {
            title = &row.title;
            let _ = writeln!(text, "\n{title}\n{:<40} {:>9}  {:>19}  RATIO", "", "MEDIAN", "RANGE");
        }
        let (low, high) = row.range();
        let ratio = match row.ratio {
            Some((ratio, name)) if ratio >= 1.0 => format!("{ratio:.1} times as fast as {name}"),
            Some((ratio, name)) => format!("{:.2} times {name}", 1.0 / ratio),
            None => String::new(),
        };
        let median = row.median();
        let line = format!("{:<40} {median:>6.1} ms  {low:>6.1} to {high:>6.1} ms  {ratio}", row.name);
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text.trim_start().to_owned()
}

/// For programs: times in milliseconds.
pub(crate) fn json(rows: &[Row]) -> String {
    let items: Vec<_> = rows
        .iter()
        .map(|row| {
            let (min, max) = row.range();
            let ratio = row.ratio.map(|(ratio, name)| json!({ "times_as_fast": ratio, "as": name }));
            json!({ "lab": row.title, "name": row.name, "rounds": row.times.len(), "median": row.median(), "min": min, "max": max, "ratio": ratio })
        })
        .collect();
    format!("{:#}\n", json!({ "version": 1, "unit": "ms", "rows": items }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_medians() {
        let mut rows = [Row::new("lab", "fast", Some("slow")), Row::new("lab", "slow", None)];
        rows[0].times = [3, 1, 2].map(Duration::from_millis).into();
        rows[1].times = [10, 30, 20, 24].map(Duration::from_millis).into();
        relate(&mut rows);
        assert_eq!(
            text(&rows),
            "lab\n                                            MEDIAN                RANGE  RATIO\n\
             fast                                        2.0 ms     1.0 to    3.0 ms  11.0 times as fast as slow\n\
             slow                                       22.0 ms    10.0 to   30.0 ms\n"
        );
    }
}
