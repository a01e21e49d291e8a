//! From counts of answers to what may be said about shares, and with which certainty.
//!
//! The test is Pearson's chi-square goodness of fit against the shares that must be. Its power against
//! the mistakes that people make with such rules ([`Mistake`]) is computed as well, so that a report
//! can say what it would have noticed, and a test can be made large enough to notice it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ChiSquared, ContinuousCDF, Normal};

/// The confidence of the interval of each share.
pub const CONFIDENCE: f64 = 0.999;

/// How well counts fit the shares that they should have.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Fit {
    /// Pearson's chi-square.
    pub statistic: f64,
    /// Its degrees of freedom.
    pub freedom: usize,
    /// The probability of a worse fit by chance alone.
    pub p_value: f64,
}

/// How well `observed` fits `shares`, one for each count, none of them 0, 1 together; fewer than two
/// counts, or none at all, fit perfectly.
pub fn fit(observed: &[u64], shares: &[f64]) -> Fit {
    let total: u64 = observed.iter().sum();
    if observed.len() < 2 || total == 0 {
        return Fit { statistic: 0.0, freedom: observed.len().saturating_sub(1), p_value: 1.0 };
    }
    let one = |(count, share): (&u64, &f64)| {
        let expected = total as f64 * share;
        (*count as f64 - expected).powi(2) / expected
    };
    let statistic = observed.iter().zip(shares).map(one).sum();
    let freedom = observed.len() - 1;
    Fit { statistic, freedom, p_value: chi_squared(freedom as f64).sf(statistic) }
}

/// `n` equal shares.
pub fn equal(n: usize) -> Vec<f64> {
    vec![1.0 / n as f64; n]
}

/// Wilson's score interval of a share, at [`CONFIDENCE`], for this share alone.
pub fn interval(count: u64, total: u64) -> (f64, f64) {
    if total == 0 {
        return (0.0, 1.0);
    }
    let z = Normal::standard().inverse_cdf(0.5 + CONFIDENCE / 2.0);
    let (n, p) = (total as f64, count as f64 / total as f64);
    let middle = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    ((middle - half).max(0.0), (middle + half).min(1.0))
}

/// A mistake that a test must notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mistake {
    /// Every rule of the ladder takes 1/n of what reaches it, and the last one the rest.
    WrongLadder,
    /// One of the endpoints gets nothing; the one of which that is the hardest to see.
    OneMissing,
    /// One of the endpoints is there twice; the one of which that is the hardest to see.
    OneTwice,
}

impl Mistake {
    /// All of them.
    pub const ALL: [Mistake; 3] = [Mistake::WrongLadder, Mistake::OneMissing, Mistake::OneTwice];

    /// In a few words.
    pub fn words(self) -> &'static str {
        match self {
            Mistake::WrongLadder => "a ladder of 1/n, …, 1/n, 1",
            Mistake::OneMissing => "an endpoint left out",
            Mistake::OneTwice => "an endpoint that is there twice",
        }
    }

    /// The shares that it makes of those that should be; `None` where it is none: for two endpoints
    /// ½ and the rest is right, and a ladder makes equal shares or is another mistake altogether.
    pub fn shares(self, right: &[f64]) -> Option<Vec<f64>> {
        let scale = |index: usize, factor: f64| {
            let left = 1.0 + (factor - 1.0) * right[index];
            let share = |(nth, share): (usize, &f64)| share * if nth == index { factor } else { 1.0 } / left;
            right.iter().enumerate().map(share).collect::<Vec<f64>>()
        };
        let smallest = (0..right.len()).min_by(|a, b| right[*a].total_cmp(&right[*b]))?;
        let is_equal = right.iter().all(|share| (share - right[0]).abs() < 1e-9);
        match self {
            _ if right.len() < 2 => None,
            Mistake::WrongLadder => (right.len() > 2 && is_equal).then(|| wrong_ladder(right.len())),
            Mistake::OneMissing => Some(scale(smallest, 0.0)),
            Mistake::OneTwice => Some(scale(smallest, 2.0)),
        }
    }
}

/// The probability that [`fit`] of `total` answers that are shared as `shares` against the shares
/// that are `right` has a p-value below `alpha`.
///
/// Under other shares Pearson's statistic follows (closely) the noncentral chi-square
/// distribution, which is a mixture of central ones with Poisson weights.
pub fn power(shares: &[f64], right: &[f64], total: usize, alpha: f64) -> f64 {
    let freedom = right.len().saturating_sub(1) as f64;
    if freedom < 1.0 {
        return 0.0;
    }
    let distance: f64 = shares.iter().zip(right).map(|(share, right)| (share - right).powi(2) / right).sum();
    let half = total as f64 * distance / 2.0;
    let critical = chi_squared(freedom).inverse_cdf(1.0 - alpha);
    // Twelve standard deviations to either side leave out less than 1e-15 of the weight.
    let width = 12.0 * half.sqrt() + 12.0;
    let (first, last) = ((half - width).max(0.0) as usize, (half + width) as usize);
    let mut power = 0.0;
    // ln(j!) is summed up as j goes.
    let mut log_factorial: f64 = (1..=first).map(|j| (j as f64).ln()).sum();
    for j in first..=last {
        if j > first {
            log_factorial += (j as f64).ln();
        }
        let log_weight = if half > 0.0 { j as f64 * half.ln() - half - log_factorial } else { 0.0 };
        if half > 0.0 || j == 0 {
            power += log_weight.exp() * chi_squared(freedom + 2.0 * j as f64).sf(critical);
        }
    }
    power.min(1.0)
}

/// The least power of a test against any of the mistakes.
pub fn least_power(right: &[f64], total: usize, alpha: f64) -> f64 {
    let powers = Mistake::ALL.iter().filter_map(|mistake| Some(power(&mistake.shares(right)?, right, total, alpha)));
    powers.min_by(f64::total_cmp).unwrap_or(0.0)
}

/// How many answers a test needs to notice each of the mistakes with the probability `wanted`, at most
/// `most`; one where none of them can be made.
pub fn answers_for(right: &[f64], wanted: f64, alpha: f64, most: usize) -> usize {
    if right.len() < 2 {
        return 1;
    }
    let enough = |total: usize| least_power(right, total, alpha) >= wanted;
    let (mut too_few, mut total) = (0, 16.min(most));
    while total < most && !enough(total) {
        (too_few, total) = (total, (2 * total).min(most));
    }
    while total - too_few > 1 {
        let middle = too_few.midpoint(total);
        *(if enough(middle) { &mut total } else { &mut too_few }) = middle;
    }
    total
}

/// The probability that `tries` answers that are shared as `shares` meet every endpoint: what the
/// check that each was hit would call good.
///
/// By inclusion and exclusion over the sets of endpoints that are missed, of which there are 2ⁿ; for
/// a few endpoints only.
pub fn all_hit(shares: &[f64], tries: usize) -> f64 {
    let missed = |set: u32| {
        let left: f64 =
            shares.iter().enumerate().filter(|(nth, _)| set & (1 << nth) == 0).map(|(_, share)| share).sum();
        let sign = if set.count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
        sign * left.powi(tries as i32)
    };
    (0..1_u32 << shares.len().min(20)).map(missed).sum()
}

/// The shares of a ladder of `n` rules of which each takes 1/n of what reaches it and the last
/// the rest: ⅓, ⅓, 1 instead of ⅓, ½, 1 for three.
pub fn wrong_ladder(n: usize) -> Vec<f64> {
    let mut left = 1.0;
    let mut shares: Vec<f64> = (1..n)
        .map(|_| {
            let share = left / n as f64;
            left -= share;
            share
        })
        .collect();
    shares.push(left);
    shares
}

/// What each rule of a ladder takes of what reaches it, if these are the counts behind them.
pub fn ladder(observed: &[u64]) -> Vec<f64> {
    let mut left: u64 = observed.iter().sum();
    let rule = |count: &u64| {
        let takes = if left == 0 { 0.0 } else { *count as f64 / left as f64 };
        left -= count;
        takes
    };
    observed.iter().map(rule).collect()
}

/// How many tries at one of `n` equally likely endpoints meet a given one, but for a probability
/// of `miss`; at least one.
pub fn tries_to_hit(n: usize, miss: f64) -> usize {
    if n < 2 {
        return 1;
    }
    (miss.ln() / (-1.0 / n as f64).ln_1p()).ceil() as usize
}

fn chi_squared(freedom: f64) -> ChiSquared {
    // It refuses only what is not positive, and every caller has at least one degree.
    ChiSquared::new(freedom).expect("degrees of freedom are positive")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::rehearsal::Dice;

    fn close(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance, "{a} is not {b} ± {tolerance}");
    }

    fn even(counts: &[u64]) -> Fit {
        fit(counts, &equal(counts.len()))
    }

    /// Values of R: `chisq.test(c(…))`, `pchisq`.
    #[test]
    fn fits_known_values() {
        let even = even(&[100, 100, 100]);
        assert_eq!((even.statistic, even.freedom, even.p_value), (0.0, 2, 1.0));
        // chisq.test(c(89,37,30,28,2)): X-squared = 109.2151 - of unequal magnitude.
        let known = super::fit(&[89, 37, 30, 28, 2], &equal(5));
        let expected = 186.0 / 5.0;
        let by_hand: f64 = [89.0, 37.0, 30.0, 28.0, 2.0].map(|n: f64| (n - expected).powi(2) / expected).iter().sum();
        close(known.statistic, by_hand, 1e-9);
        assert!(known.p_value < 1e-20);
        // With two degrees of freedom the tail is exp(-x/2).
        for counts in [[130, 135, 135], [120, 130, 150], [133, 89, 178]] {
            let fit = self::even(&counts);
            close(fit.p_value, (-fit.statistic / 2.0).exp(), 1e-12);
        }
        // With one, it is erfc(sqrt(x/2)): 60 of 100 has X² = 4 and p = 0.0455.
        close(self::even(&[60, 40]).p_value, 0.045_500_263_9, 1e-9);
        // pchisq(18.307, 10) = 0.95.
        close(chi_squared(10.0).sf(18.307_038), 0.05, 1e-7);
        assert_eq!(self::even(&[]).p_value, 1.0);
        assert_eq!(self::even(&[7]).p_value, 1.0);
        assert_eq!(self::even(&[0, 0]).p_value, 1.0);
    }

    /// R: `chisq.test(c(300, 100), p = c(0.75, 0.25))` and `chisq.test(c(200, 200), p = c(0.75, 0.25))`.
    #[test]
    fn fits_other_shares() {
        assert_eq!(super::fit(&[300, 100], &[0.75, 0.25]).statistic, 0.0);
        close(super::fit(&[200, 200], &[0.75, 0.25]).statistic, 133.333_333, 1e-5);
        for counts in [[60, 40], [48, 52]] {
            assert_eq!(super::fit(&counts, &[0.5, 0.5]), even(&counts));
        }
        assert!(power(&[0.5, 0.5], &[0.75, 0.25], 100, 0.001) > 0.9);
    }

    /// binom::binom.confint(…, methods = "wilson") with conf.level 0.999, by its formula.
    #[test]
    fn intervals_of_shares() {
        let z = 3.290_526_731_491_926_f64;
        for (count, total) in [(133, 400), (0, 400), (400, 400), (1, 3)] {
            let (low, high) = interval(count, total);
            let (n, p) = (total as f64, count as f64 / total as f64);
            // The ends are where the score test just does not reject.
            for end in [low, high] {
                if end > 1e-12 && end < 1.0 - 1e-12 {
                    close((p - end).abs() / (end * (1.0 - end) / n).sqrt(), z, 1e-6);
                }
            }
            assert!(low <= p && p <= high, "{low} {p} {high}");
        }
        assert_eq!(interval(0, 0), (0.0, 1.0));
        close(interval(0, 400).0, 0.0, 1e-12);
        close(interval(400, 400).1, 1.0, 1e-12);
    }

    #[test]
    fn wrong_ladders() {
        let shares = wrong_ladder(3);
        for (share, known) in shares.iter().zip([3.0 / 9.0, 2.0 / 9.0, 4.0 / 9.0]) {
            close(*share, known, 1e-12);
        }
        assert_eq!(wrong_ladder(2), [0.5, 0.5]);
        assert_eq!(ladder(&[300, 200, 400]), [300.0 / 900.0, 200.0 / 600.0, 1.0]);
        assert_eq!(ladder(&[0, 0]), [0.0, 0.0]);
    }

    #[test]
    fn tries_leave_the_stated_chance() {
        for n in [2, 3, 10, 100] {
            let (tries, miss) = (tries_to_hit(n, 1e-9), 1.0 - 1.0 / n as f64);
            assert!(miss.powi(tries as i32) <= 1e-9 && miss.powi(tries as i32 - 1) > 1e-9, "{n}: {tries}");
        }
        assert_eq!(tries_to_hit(3, 1e-9), 52);
        assert_eq!(tries_to_hit(1, 1e-9), 1);
    }

    /// Known: with one degree of freedom the statistic is the square of a normal variable.
    #[test]
    fn power_of_known_shares() {
        let normal = Normal::standard();
        for (share, total, alpha) in [(0.55, 400, 0.05), (0.6, 400, 0.001), (0.5, 400, 0.05)] {
            let z = normal.inverse_cdf(1.0 - alpha / 2.0);
            let shift = 2.0 * (share - 0.5) * (total as f64).sqrt();
            let known = normal.sf(z - shift) + normal.cdf(-z - shift);
            close(power(&[share, 1.0 - share], &equal(2), total, alpha), known, 1e-9);
        }
        // Equal shares are mistaken for others in alpha of all cases.
        close(power(&equal(3), &equal(3), 400, 0.001), 0.001, 1e-9);
        assert_eq!(power(&[1.0], &[1.0], 400, 0.001), 0.0);
    }

    #[test]
    fn tests_are_as_large_as_they_must_be() {
        for right in [equal(2), equal(3), equal(10), vec![0.5, 0.25, 0.25], vec![0.25, 0.25, 0.5]] {
            for alpha in [0.001, 0.000_025] {
                let total = answers_for(&right, 0.999, alpha, 100_000);
                assert!(least_power(&right, total, alpha) >= 0.999, "{right:?}: {total}");
                assert!(least_power(&right, total - 1, alpha) < 0.999, "{right:?}: {total}");
            }
        }
        assert_eq!(answers_for(&equal(100), 0.999, 0.001, 500), 500);
    }

    #[test]
    fn mistakes_are_what_they_say() {
        let shares = |mistake: Mistake, right: &[f64]| mistake.shares(right).unwrap_or_default();
        for (share, known) in shares(Mistake::OneTwice, &equal(3)).iter().zip([0.5, 0.25, 0.25]) {
            close(*share, known, 1e-12);
        }
        for (share, known) in shares(Mistake::OneMissing, &equal(3)).iter().zip([0.0, 0.5, 0.5]) {
            close(*share, known, 1e-12);
        }
        assert_eq!(shares(Mistake::WrongLadder, &equal(2)), [0.0; 0]);
        assert_eq!(shares(Mistake::WrongLadder, &[0.5, 0.25, 0.25]), [0.0; 0]);
        // The smallest share is the hardest to miss.
        let twice = shares(Mistake::OneTwice, &[0.5, 0.3, 0.2]);
        close(twice.iter().sum(), 1.0, 1e-12);
        close(twice[2], 1.0 / 3.0, 1e-12);
        assert_eq!(shares(Mistake::OneTwice, &[1.0]), [0.0; 0]);
    }

    /// The figures of docs/statistics.md and the README: why "every endpoint was hit" is no test.
    #[test]
    fn being_hit_shows_next_to_nothing() {
        let close_to = |shares: &[f64], tries, known| close(all_hit(shares, tries), known, 0.00005);
        close_to(&equal(3), 30, 1.0000);
        close_to(&wrong_ladder(3), 30, 0.9995);
        close_to(&[0.8, 0.1, 0.1], 30, 0.9165);
        close_to(&[0.5, 0.25, 0.25], 30, 0.9996);
        assert_eq!(all_hit(&[0.0, 0.5, 0.5], 30), 0.0);
        // By counting: 30 draws, ten thousand times.
        let mut dice = Dice(3);
        let hit =
            (0..10_000).filter(|_| spread(&mut dice, &[0.8, 0.1, 0.1], 30).iter().all(|count| *count > 0)).count();
        within(hit, 10_000, 0.9165);
    }

    fn spread(dice: &mut Dice, shares: &[f64], total: usize) -> Vec<u64> {
        let mut counts = vec![0; shares.len()];
        for _ in 0..total {
            let mut roll = dice.roll();
            let taken = shares.iter().position(|share| {
                roll -= share;
                roll < 0.0
            });
            counts[taken.unwrap_or(shares.len() - 1)] += 1;
        }
        counts
    }

    /// How many of `runs` reject that answers shared as `shares` are as is `right`.
    fn alarms(dice: &mut Dice, (shares, right): (&[f64], &[f64]), (total, alpha): (usize, f64), runs: usize) -> usize {
        (0..runs).filter(|_| fit(&spread(dice, shares, total), right).p_value < alpha).count()
    }

    /// The counts are binomial, so five standard deviations are as good as never left by chance.
    fn within(alarms: usize, runs: usize, rate: f64) {
        let (mean, deviation) = (runs as f64 * rate, (runs as f64 * rate * (1.0 - rate)).sqrt());
        assert!(
            (alarms as f64 - mean).abs() <= 5.0 * deviation + 1.0,
            "{alarms} alarms in {runs} runs at a rate of {rate}"
        );
    }

    #[test]
    fn false_alarms_are_as_rare_as_stated() {
        let mut dice = Dice(1);
        for (right, total, alpha) in [
            (equal(3), 300, 0.05),
            (equal(3), 300, 0.01),
            (equal(10), 200, 0.01),
            // What comes of three nodes, of which one has two of the endpoints and one has none.
            (vec![0.5, 0.25, 0.25], 300, 0.01),
        ] {
            within(alarms(&mut dice, (&right, &right), (total, alpha), 4000), 4000, alpha);
        }
        // The least that a test has, 20 connections for each endpoint, far in the tail.
        let many = alarms(&mut dice, (&equal(20), &equal(20)), (400, 0.001), 4000);
        assert!(many <= 14, "{many} alarms in 4000 runs at a rate of 0.001");
    }

    /// A thousand runs of `verify` in a good lab of two nodes and three endpoints, with one false alarm
    /// allowed in twenty runs so that there is something to count.
    #[test]
    fn runs_in_good_labs_fail_as_rarely_as_stated() {
        let (mut dice, right) = (Dice(4), equal(3));
        let (tests, alpha) = (2, 0.05);
        let each = alpha / tests as f64;
        let total = answers_for(&right, 0.999, each, 100_000);
        let fails = |dice: &mut Dice| alarms(dice, (&right, &right), (total, each), tests) > 0;
        let failed = (0..1000).filter(|_| fails(&mut dice)).count();
        // No more than stated, but for what chance does to the count; and not far less, or the test
        // would not be one.
        assert!(failed <= 50 + 5 * 7, "{failed} of 1000 runs");
        assert!(failed >= 50 - 5 * 7, "{failed} of 1000 runs");
    }

    /// A test of the size that is chosen catches each of these as often as it says, or more often.
    #[test]
    fn wrong_ladders_are_caught_as_often_as_stated() {
        let (mut dice, right, wanted, alpha) = (Dice(2), equal(3), 0.99, 0.0005);
        let total = answers_for(&right, wanted, alpha, 100_000);
        let (ladder, missing) = (wrong_ladder(3), vec![0.5, 0.5, 0.0]);
        for shares in [ladder, vec![0.8, 0.1, 0.1], missing, vec![0.5, 0.25, 0.25], vec![0.25, 0.25, 0.5]] {
            let caught = alarms(&mut dice, (&shares, &right), (total, alpha), 1000);
            let deviation = (1000.0 * wanted * (1.0 - wanted)).sqrt();
            assert!(caught as f64 >= 1000.0 * wanted - 5.0 * deviation, "{shares:?}: {caught} of 1000 are caught");
        }
    }

    #[test]
    fn power_is_as_great_as_stated() {
        let mut dice = Dice(2);
        let shares = wrong_ladder(3);
        for (total, alpha) in [(100, 0.001), (200, 0.001), (300, 0.01)] {
            let stated = power(&shares, &equal(3), total, alpha);
            let caught = alarms(&mut dice, (&shares, &equal(3)), (total, alpha), 1500) as f64 / 1500.0;
            // The noncentral distribution is an approximation; two per cent is its error here.
            close(caught, stated, 0.02 + 5.0 * (stated * (1.0 - stated) / 1500.0).sqrt());
        }
        assert_eq!(alarms(&mut dice, (&shares, &equal(3)), (1200, 0.001 / 16.0), 400), 400);
    }
}
