//! How load was spread, test by test: a bar for each endpoint, with the share that it should have
//! marked, and what may be said about all tests.

use super::{
    Colour, Distribution, Share, Statistics,
    paint::{Columns, Ink, paint},
};
use crate::probe::{
    judge::{list, p_text},
    stats::Mistake,
};

/// How long the longest bar is.
const WIDTH: usize = 32;
/// So many endpoints of a test that is as it must be are shown.
const MOST_BARS: usize = 12;
/// So many tests that are as they must be are shown.
const MOST_TESTS: usize = 8;

/// The tests, those that failed first; and what they can tell.
pub(super) fn section(distributions: &[Distribution], statistics: &Statistics, colour: Colour) -> Option<String> {
    if distributions.is_empty() {
        return None;
    }
    let mut text = format!("{}\n", paint(colour, Ink::Heading, "distribution"));
    let (even, uneven): (Vec<_>, Vec<_>) = distributions.iter().partition(|test| test.even);
    for test in uneven.iter().chain(even.iter().take(MOST_TESTS)) {
        text.push_str(&self::test(test, colour));
    }
    if let Some(rest) = even.get(MOST_TESTS..).filter(|rest| !rest.is_empty()) {
        let least = rest.iter().map(|test| test.p_value).fold(1.0, f64::min);
        text.push_str(&format!("and {} more that are as they must be, p = {} or more\n", rest.len(), p_text(least)));
    }
    text.push_str(&small_print(distributions, statistics));
    Some(text)
}

fn test(test: &Distribution, colour: Colour) -> String {
    let verdict = match test.even {
        true => paint(colour, Ink::Good, "as it must be"),
        false => paint(colour, Ink::Bad, "NOT as it must be"),
    };
    let mut text = format!(
        "{}{}, {} connections from {}: p = {}, {verdict}\n",
        test.service_port,
        // What a user asks by name, no node in particular balances.
        if test.node.is_empty() { String::new() } else { format!(" by {}", test.node) },
        test.connections,
        places(&test.from),
        p_text(test.p_value)
    );
    let ends = test.shares.iter().flat_map(|share| [share.high, share.expected]);
    let longest = ends.fold(f64::MIN_POSITIVE, f64::max);
    let mut columns = Columns::bare();
    let (outside, inside): (Vec<_>, Vec<_>) = test.shares.iter().partition(|share| is_outside(share));
    let folded = test.shares.len() > MOST_BARS;
    let shown = if folded { outside.into_iter().chain(inside).take(MOST_BARS).collect() } else { all(&test.shares) };
    for share in shown {
        columns.row(vec![
            (share.endpoint.clone(), None),
            (percent(share.share), is_outside(share).then_some(Ink::Doubtful)),
            (bar(share, longest), None),
            (format!("should be {}", percent(share.expected)), None),
            (format!("is {} to {}", percent(share.low), percent(share.high)), Some(Ink::Faint)),
        ]);
    }
    text.push_str(&columns.render(colour, "  "));
    if folded {
        text.push_str(&format!("  and {} more endpoints\n", test.shares.len() - MOST_BARS));
    }
    text
}

fn all(shares: &[Share]) -> Vec<&Share> {
    shares.iter().collect()
}

fn places(from: &[String]) -> String {
    let mut places: Vec<&str> = Vec::new();
    for place in from {
        if !places.contains(&place.as_str()) {
            places.push(place);
        }
    }
    places.join(", ")
}

/// The interval of the share does not hold what it should be.
fn is_outside(share: &Share) -> bool {
    share.expected < share.low || share.expected > share.high
}

/// `████▓▓░░│`: the share, of which the lower part is certain, then as far as it may go; and a mark
/// where it should be.
fn bar(share: &Share, longest: f64) -> String {
    let cell = |value: f64| (value / longest * WIDTH as f64).round() as usize;
    let (low, middle, high) = (cell(share.low), cell(share.share), cell(share.high));
    let mark = cell(share.expected).saturating_sub(1);
    let one = |at: usize| match at {
        at if at == mark => '│',
        at if at < low => '█',
        at if at < middle => '▓',
        at if at < high => '░',
        _ => ' ',
    };
    (0..WIDTH).map(one).collect()
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn small_print(distributions: &[Distribution], statistics: &Statistics) -> String {
    let Statistics { tests, alpha, alpha_each, power, .. } = statistics;
    let rate = format!("{} %", round(alpha * 100.0));
    let mut text = match tests {
        1 => format!("chi-square goodness of fit; chance alone fails the test in {rate} of runs;\n"),
        _ => format!(
            "chi-square goodness of fit; chance alone fails one of the {tests} tests in at most {rate} of runs, each at \
             {};\n",
            p_text(*alpha_each)
        ),
    };
    text.push_str("│ is the share that it should be, ▓░ the 99.9 % interval (Wilson's, for each share alone)");
    if let Some(power) = power {
        // For two endpoints, say, a ladder of ½ and the rest is right.
        let can_be = |mistake: &Mistake| {
            distributions.iter().flat_map(|test| &test.notices).any(|notice| notice.mistake == *mistake)
        };
        let mistakes: Vec<&str> = Mistake::ALL.into_iter().filter(can_be).map(Mistake::words).collect();
        text.push_str(&format!(";\n{}\nis noticed in {} of runs", list(mistakes, "or"), at_least(*power)));
    }
    text.push('\n');
    text
}

/// Three digits of it: the others are only the computer's.
fn round(number: f64) -> f64 {
    format!("{number:.2e}").parse().unwrap_or(number)
}

/// A probability near 1, rounded down.
fn at_least(power: f64) -> String {
    match power {
        power if power >= 0.9999 => "more than 99.99 %".to_owned(),
        power if power >= 0.999 => "more than 99.9 %".to_owned(),
        power if power >= 0.99 => "more than 99 %".to_owned(),
        power => format!("{} %", (power * 1000.0).floor() / 10.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{
        rehearsal::{Breakage, book, perform},
        suite::{SuiteOptions, suite},
    };

    fn share(share: f64, expected: f64, (low, high): (f64, f64)) -> Share {
        Share { endpoint: "a".to_owned(), address: "b".to_owned(), observed: 1, share, expected, low, high }
    }

    #[test]
    fn a_bar_has_the_share_the_interval_and_the_mark() {
        let bar = bar(&share(0.5, 0.75, (0.25, 0.625)), 1.0);
        assert_eq!(
            bar,
            format!("{}{}{}{}│{}", "█".repeat(8), "▓".repeat(8), "░".repeat(4), " ".repeat(3), " ".repeat(8))
        );
        assert_eq!(self::bar(&share(0.0, 0.5, (0.0, 0.0)), 0.5).trim_start(), "│");
        assert!(is_outside(&share(0.5, 0.75, (0.25, 0.625))) && !is_outside(&share(0.5, 0.6, (0.25, 0.625))));
    }

    /// A ladder of ½ and the rest is right for two endpoints.
    #[test]
    fn a_mistake_that_cannot_be_made_is_not_told() {
        let small_print_of = |lab: &crate::lab::model::Lab| {
            let suite = suite(lab, &SuiteOptions::default());
            let report = crate::probe::judge::report(&suite, &perform(lab, &suite, &Breakage::NONE), &[]);
            small_print(&report.distributions, &report.statistics)
        };
        let mut lab = book();
        assert!(
            small_print_of(&lab).contains("\na ladder of 1/n, …, 1/n, 1, an endpoint left out or an endpoint that")
        );
        lab.pods[2].labels.clear();
        let text = small_print_of(&lab);
        assert!(
            text.contains("\nan endpoint left out or an endpoint that is there twice\nis noticed in more"),
            "{text}"
        );
    }

    /// A probe of the user's that goes to a Service's name has no node that it names.
    #[test]
    fn what_nobody_in_particular_balances_is_told_without() {
        let lab = book();
        let suite = suite(&lab, &SuiteOptions::default());
        let report = crate::probe::judge::report(&suite, &perform(&lab, &suite, &Breakage::NONE), &[]);
        let by_node = report.distributions.first().expect("a Service is balanced").clone();
        let told = |test: &Distribution| super::test(test, Colour::Off);
        assert!(told(&by_node).starts_with("http-server-svc:8080 by node1, "), "{}", told(&by_node));
        let mine = Distribution { service_port: "mine".to_owned(), node: String::new(), connections: 100, ..by_node };
        assert!(told(&mine).starts_with("mine, 100 connections from "), "{}", told(&mine));
    }

    #[test]
    fn a_power_is_rounded_down() {
        assert_eq!(at_least(0.99995), "more than 99.99 %");
        assert_eq!(at_least(0.98765), "98.7 %");
        assert_eq!(round(0.001 * 100.0).to_string(), "0.1");
        assert_eq!(round(0.000_001 * 100.0).to_string(), "0.0001");
        assert_eq!(round(1e-12 * 100.0).to_string(), "0.0000000001");
    }
}
