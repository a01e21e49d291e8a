//! From measurements to a table: medians, ranges, and ratios of medians; for people, for programs, and
//! for the page that says what was measured.

use std::fmt::Write;

use serde_json::json;

/// What is measured, of one contender in one case.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    case: String,
    name: String,
    unit: Unit,
    /// The rows of the same case that it is compared with.
    against: Vec<String>,
    /// One for each round.
    pub(crate) values: Vec<f64>,
}

/// What the numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Milliseconds.
    Millis,
    /// Microseconds.
    Micros,
    /// Mebibytes.
    Mebibytes,
    /// Kibibytes.
    Kibibytes,
    /// How many a second.
    PerSecond,
    /// How many.
    Count,
}

const UNITS: [Unit; 6] = [Unit::Millis, Unit::Micros, Unit::Mebibytes, Unit::Kibibytes, Unit::PerSecond, Unit::Count];

impl Unit {
    fn symbol(self) -> &'static str {
        match self {
            Unit::Millis => "ms",
            Unit::Micros => "µs",
            Unit::Mebibytes => "MiB",
            Unit::Kibibytes => "KiB",
            Unit::PerSecond => "/s",
            Unit::Count => "",
        }
    }

    fn show(self, value: f64) -> String {
        let digits = match value {
            _ if self == Unit::Count || value.abs() >= 1000.0 => 0,
            _ => 1,
        };
        format!("{value:.digits$} {}", self.symbol()).trim_end().to_owned()
    }
}

impl Row {
    pub(crate) fn new(case: &str, name: &str, unit: Unit) -> Self {
        Row { case: case.to_owned(), name: name.to_owned(), unit, against: Vec::new(), values: Vec::new() }
    }

    /// Compares it with another row of the case.
    pub(crate) fn against(mut self, name: &str) -> Self {
        self.against.push(name.to_owned());
        self
    }

    /// What it says of the inside of which lab of the case.
    fn inside(&self) -> Option<(&str, &str)> {
        self.name.strip_prefix("inside")?.split_once(": ").map(|(lab, what)| (lab.trim_start_matches(" netlab"), what))
    }

    pub(crate) fn median(&self) -> f64 {
        let mut values = self.values.clone();
        values.sort_by(f64::total_cmp);
        match values.len() {
            0 => f64::NAN,
            n => f64::midpoint(values[(n - 1) / 2], values[n / 2]),
        }
    }

    /// The least and the most of all rounds.
    fn range(&self) -> (f64, f64) {
        let fold = |pick: fn(f64, f64) -> f64| self.values.iter().copied().fold(f64::NAN, pick);
        (fold(f64::min), fold(f64::max))
    }
}

/// Everything that was measured, in order.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<Row>);

impl Table {
    /// The row of that name in the case, to add a value to; a new one if there is none.
    pub(crate) fn add(&mut self, row: &Row, value: f64) {
        match self.0.iter_mut().find(|it| it.case == row.case && it.name == row.name) {
            Some(known) => known.values.push(value),
            None => self.0.push(Row { values: vec![value], ..row.clone() }),
        }
    }

    /// The median of a row, if that was measured.
    pub(crate) fn median(&self, case: &str, name: &str) -> Option<f64> {
        let row = self.0.iter().find(|row| row.case == case && row.name == name);
        row.map(Row::median).filter(|median| median.is_finite())
    }

    /// How its median relates to those that the row is compared with.
    fn ratios<'a>(&self, row: &'a Row) -> Vec<(f64, &'a str)> {
        let of = |name: &'a String| Some((row.median() / self.median(&row.case, name)?, name.as_str()));
        row.against.iter().filter_map(of).collect()
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let (mut case, mut width) = ("", 0);
        for row in &self.0 {
            if row.case != case {
                case = &row.case;
                let names = self.0.iter().filter(|it| it.case == case).map(|it| it.name.chars().count());
                width = names.max().unwrap_or_default();
                let _ = writeln!(text, "\n{case}\n{:<width$} {:>12}  {:>22}  RATIO", "", "MEDIAN", "RANGE");
            }
            let ratios: Vec<_> = self.ratios(row).into_iter().map(|(it, name)| ratio(row.unit, it, name)).collect();
            let (median, range) = (row.unit.show(row.median()), shown_range(row));
            let line = format!("{:<width$} {median:>12}  {range:>22}  {}", row.name, ratios.join(", "));
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text.trim_start().to_owned()
    }

    /// For the documentation: a table for each case, and one of what the labs are made of, which has a line
    /// for each lab.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        let mut case = "";
        for row in self.0.iter().filter(|row| row.inside().is_none()) {
            if row.case != case {
                case = &row.case;
                let _ = writeln!(text, "\n### {case}\n\n| what | ratio | median | range |\n|---|---|---|---|");
            }
            let ratios: Vec<_> = self.ratios(row).into_iter().map(|(it, name)| ratio(row.unit, it, name)).collect();
            let (median, range) = (row.unit.show(row.median()), shown_range(row));
            let _ = writeln!(text, "| {} | {} | {median} | {range} |", row.name, ratios.join("; "));
        }
        self.insides(&mut text);
        text.trim_start().to_owned()
    }

    fn insides(&self, text: &mut String) {
        let (mut labs, mut columns): (Vec<(&str, &str)>, Vec<&str>) = (Vec::new(), Vec::new());
        for (row, (lab, what)) in self.0.iter().filter_map(|row| Some((row, row.inside()?))) {
            if !labs.contains(&(&row.case, lab)) {
                labs.push((&row.case, lab));
            }
            if !columns.contains(&what) {
                columns.push(what);
            }
        }
        if labs.is_empty() {
            return;
        }
        let _ = writeln!(text, "\n### inside, medians\n\n| lab | {} |", columns.join(" | "));
        let _ = writeln!(text, "|---|{}", "---|".repeat(columns.len()));
        for (case, lab) in labs {
            let cell = |what: &&str| {
                let row = self.0.iter().find(|row| row.case == case && row.inside() == Some((lab, what)));
                row.map_or_else(String::new, |row| row.unit.show(row.median()))
            };
            let cells: Vec<_> = columns.iter().map(cell).collect();
            let _ = writeln!(text, "| {case}{lab} | {} |", cells.join(" | "));
        }
    }

    /// For programs.
    pub(crate) fn json(&self) -> serde_json::Value {
        let rows = self.0.iter().map(|row| {
            let (least, most) = row.range();
            let ratios: serde_json::Map<_, _> =
                self.ratios(row).into_iter().map(|(ratio, name)| (name.to_owned(), json!(ratio))).collect();
            json!({
                "case": row.case, "name": row.name, "unit": row.unit.symbol(), "median": row.median(),
                "least": least, "most": most, "rounds": row.values, "ratio_to": ratios,
            })
        });
        rows.collect()
    }

    /// Adds what [`Table::json`] has given out; none if that is something else.
    pub(crate) fn read(&mut self, json: &serde_json::Value) -> Option<()> {
        for row in json.as_array()? {
            let text = |field: &str| row[field].as_str();
            let unit = UNITS.into_iter().find(|unit| Some(unit.symbol()) == text("unit"))?;
            let known = Row::new(text("case")?, text("name")?, unit);
            let known = row["ratio_to"].as_object()?.keys().fold(known, |known, name| known.against(name));
            row["rounds"].as_array()?.iter().filter_map(serde_json::Value::as_f64).for_each(|it| self.add(&known, it));
        }
        Some(())
    }
}

fn shown_range(row: &Row) -> String {
    let (least, most) = row.range();
    let (low, high) = (row.unit.show(least), row.unit.show(most));
    if low == high { String::new() } else { format!("{} to {high}", low.split(' ').next().unwrap_or_default()) }
}

/// Of times, the reader wants to know which is the faster one.
fn ratio(unit: Unit, ratio: f64, name: &str) -> String {
    match unit {
        Unit::Millis | Unit::Micros if ratio < 0.95 => format!("{:.1} times as fast as {name}", 1.0 / ratio),
        _ => format!("{ratio:.2} × {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::default();
        let fast = Row::new("lab", "fast", Unit::Millis).against("slow").against("nobody");
        let slow = Row::new("lab", "slow", Unit::Millis).against("fast");
        [3.0, 1.0, 2.0].into_iter().for_each(|value| table.add(&fast, value));
        [10.0, 30.0, 20.0, 24.0].into_iter().for_each(|value| table.add(&slow, value));
        table.add(&Row::new("lab", "processes", Unit::Count), 7.0);
        table
    }

    #[test]
    fn ratios_are_of_medians() {
        let expected = "\
lab
                MEDIAN                   RANGE  RATIO
fast            2.0 ms           1.0 to 3.0 ms  11.0 times as fast as slow
slow           22.0 ms         10.0 to 30.0 ms  11.00 × fast
processes            7
";
        assert_eq!(table().text(), expected);
        assert_eq!((table().median("lab", "slow"), table().median("lab", "nobody")), (Some(22.0), None));
    }

    #[test]
    fn markdown_has_a_table_for_each_case() {
        let expected = "\
### lab

| what | ratio | median | range |
|---|---|---|---|
| fast | 11.0 times as fast as slow | 2.0 ms | 1.0 to 3.0 ms |
| slow | 11.00 × fast | 22.0 ms | 10.0 to 30.0 ms |
| processes |  | 7 |  |

### inside, medians

| lab | plan | threads |
|---|---|---|
| lab, echo | 1.0 ms |  |
| big | 2.0 ms | 5 |
";
        let mut table = table();
        table.add(&Row::new("lab", "inside netlab, echo: plan", Unit::Millis), 1.0);
        table.add(&Row::new("big", "inside: plan", Unit::Millis), 2.0);
        table.add(&Row::new("big", "inside: threads", Unit::Count), 5.0);
        assert_eq!(table.markdown(), expected);
    }

    #[test]
    fn json_has_every_round() {
        let json = table().json();
        assert_eq!(
            (&json[0]["rounds"], &json[0]["ratio_to"]),
            (&json!([3.0, 1.0, 2.0]), &json!({ "slow": 1.0 / 11.0 }))
        );
    }
}
