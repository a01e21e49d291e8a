//! From counts of answers to what may be said about shares, and with which certainty.
//!
//! The test is Pearson's chi-square goodness of fit against equal shares. Its power against the
//! classic mistake (every rule of the ladder takes 1/n, the last the rest) is computed as well,
//! so that a report can say what it would have noticed.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ChiSquared, ContinuousCDF, Normal};

/// The confidence of the interval of each share.
pub const CONFIDENCE: f64 = 0.999;

/// How well counts fit equal shares.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Fit {
    /// Pearson's chi-square.
    pub statistic: f64,
    /// Its degrees of freedom.
    pub freedom: usize,
    /// The probability of a worse fit by chance alone.
    pub p_value: f64,
}

/// How well `observed` fits equal shares; fewer than two counts, or none at all, fit perfectly.
pub fn fit(observed: &[u64]) -> Fit {
    let total: u64 = observed.iter().sum();
    if observed.len() < 2 || total == 0 {
        return Fit { statistic: 0.0, freedom: observed.len().saturating_sub(1), p_value: 1.0 };
    }
    let expected = total as f64 / observed.len() as f64;
    let statistic = observed.iter().map(|count| (*count as f64 - expected).powi(2) / expected).sum();
    let freedom = observed.len() - 1;
    Fit { statistic, freedom, p_value: chi_squared(freedom as f64).sf(statistic) }
}

/// How well `observed` fits `shares` that are above 0 and sum up to 1.
pub fn fit_to(observed: &[u64], shares: &[f64]) -> Fit {
    let total: u64 = observed.iter().sum();
    if observed.len() < 2 || total == 0 {
        return fit(observed);
    }
    let distance = |(count, share): (&u64, &f64)| {
        let expected = total as f64 * share;
        (*count as f64 - expected).powi(2) / expected
    };
    let statistic = observed.iter().zip(shares).map(distance).sum();
    let freedom = observed.len() - 1;
    Fit { statistic, freedom, p_value: chi_squared(freedom as f64).sf(statistic) }
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

/// The probability that [`fit`] of `total` answers shared as `shares` has a p-value below `alpha`.
///
/// Under other shares Pearson's statistic follows (closely) the noncentral chi-square
/// distribution, which is a mixture of central ones with Poisson weights.
pub fn power(shares: &[f64], total: usize, alpha: f64) -> f64 {
    power_to(shares, &vec![1.0 / shares.len() as f64; shares.len()], total, alpha)
}

/// The same for [`fit_to`] other shares than equal ones.
pub fn power_to(shares: &[f64], expected: &[f64], total: usize, alpha: f64) -> f64 {
    let freedom = shares.len().saturating_sub(1) as f64;
    if freedom < 1.0 {
        return 0.0;
    }
    let distance = |(share, expected): (&f64, &f64)| (share - expected).powi(2) / expected;
    let lambda: f64 = total as f64 * shares.iter().zip(expected).map(distance).sum::<f64>();
    let critical = chi_squared(freedom).inverse_cdf(1.0 - alpha);
    let half = lambda / 2.0;
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

    /// Values of R: `chisq.test(c(…))`, `pchisq`.
    #[test]
    fn fits_known_values() {
        let even = fit(&[100, 100, 100]);
        assert_eq!((even.statistic, even.freedom, even.p_value), (0.0, 2, 1.0));
        // chisq.test(c(89,37,30,28,2)): X-squared = 109.2151 - of unequal magnitude.
        let known = fit(&[89, 37, 30, 28, 2]);
        let expected = 186.0 / 5.0;
        let by_hand: f64 = [89.0, 37.0, 30.0, 28.0, 2.0].map(|n: f64| (n - expected).powi(2) / expected).iter().sum();
        close(known.statistic, by_hand, 1e-9);
        assert!(known.p_value < 1e-20);
        // With two degrees of freedom the tail is exp(-x/2).
        for counts in [[130, 135, 135], [120, 130, 150], [133, 89, 178]] {
            let fit = fit(&counts);
            close(fit.p_value, (-fit.statistic / 2.0).exp(), 1e-12);
        }
        // With one, it is erfc(sqrt(x/2)): 60 of 100 has X² = 4 and p = 0.0455.
        close(fit(&[60, 40]).p_value, 0.045_500_263_9, 1e-9);
        // pchisq(18.307, 10) = 0.95.
        close(chi_squared(10.0).sf(18.307_038), 0.05, 1e-7);
        assert_eq!(fit(&[]).p_value, 1.0);
        assert_eq!(fit(&[7]).p_value, 1.0);
        assert_eq!(fit(&[0, 0]).p_value, 1.0);
    }

    /// R: `chisq.test(c(300, 100), p = c(0.75, 0.25))` and `chisq.test(c(200, 200), p = c(0.75, 0.25))`.
    #[test]
    fn fits_other_shares() {
        assert_eq!(fit_to(&[300, 100], &[0.75, 0.25]).statistic, 0.0);
        close(fit_to(&[200, 200], &[0.75, 0.25]).statistic, 133.333_333, 1e-5);
        for counts in [[60, 40], [48, 52]] {
            assert_eq!(fit_to(&counts, &[0.5, 0.5]), fit(&counts));
        }
        assert!(power_to(&[0.5, 0.5], &[0.75, 0.25], 100, 0.001) > 0.9);
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
            close(power(&[share, 1.0 - share], total, alpha), known, 1e-9);
        }
        // Equal shares are mistaken for others in alpha of all cases.
        close(power(&[1.0 / 3.0; 3], 400, 0.001), 0.001, 1e-9);
        assert_eq!(power(&[1.0], 400, 0.001), 0.0);
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

    /// How many of `runs` reject.
    fn alarms(dice: &mut Dice, shares: &[f64], total: usize, alpha: f64, runs: usize) -> usize {
        (0..runs).filter(|_| fit(&spread(dice, shares, total)).p_value < alpha).count()
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
        within(alarms(&mut dice, &[1.0 / 3.0; 3], 300, 0.05, 4000), 4000, 0.05);
        within(alarms(&mut dice, &[1.0 / 3.0; 3], 300, 0.01, 4000), 4000, 0.01);
        within(alarms(&mut dice, &[0.1; 10], 200, 0.01, 4000), 4000, 0.01);
        // The least that a test has, 20 connections for each endpoint, far in the tail.
        let many = alarms(&mut dice, &[0.05; 20], 400, 0.001, 4000);
        assert!(many <= 14, "{many} alarms in 4000 runs at a rate of 0.001");
    }

    #[test]
    fn power_is_as_great_as_stated() {
        let mut dice = Dice(2);
        let shares = wrong_ladder(3);
        for (total, alpha) in [(100, 0.001), (200, 0.001), (300, 0.01)] {
            let stated = power(&shares, total, alpha);
            let caught = alarms(&mut dice, &shares, total, alpha, 1500) as f64 / 1500.0;
            // The noncentral distribution is an approximation; two per cent is its error here.
            close(caught, stated, 0.02 + 5.0 * (stated * (1.0 - stated) / 1500.0).sqrt());
        }
        assert_eq!(alarms(&mut dice, &shares, 1200, 0.001 / 16.0, 400), 400);
    }
}
