//! Puts our rules right in a built-in chain, among those of others, which stay where they are.

use std::collections::{HashMap, HashSet};

/// A rule that is in the chain.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found<'a> {
    /// Without `-A CHAIN`.
    pub(super) rule: &'a str,
    /// Whether it is one of ours, wanted or not.
    pub(super) ours: bool,
}

/// The commands after which ours in `found` are `wanted`, in that order.
///
/// As many as possible stay. The others are deleted by what they say (so that a rule of others
/// cannot be hit, even if one came in between), and inserted after the one they follow.
pub(super) fn mend(chain: &str, found: &[Found<'_>], wanted: &[&str]) -> Vec<String> {
    let kept = kept(found, wanted);
    let gone = |at: usize| found[at].ours && kept[at].is_none();
    let mut commands: Vec<String> =
        (0..found.len()).filter(|at| gone(*at)).map(|at| format!("-D {chain} {}", found[at].rule)).collect();

    // Where the first of ours was, the first of ours will be, if none is left to go by.
    let anchor = (0..found.len()).find(|at| found[*at].ours).filter(|_| kept.iter().all(Option::is_none));
    let mut left = (0..found.len()).filter(|at| !gone(*at)).count();
    let (mut position, mut next) = (0, 0);
    let mut insert = |range: std::ops::Range<usize>, position: &mut usize, left: usize| {
        for rule in &wanted[range] {
            *position += 1;
            commands.push(match left {
                0 => format!("-A {chain} {rule}"),
                _ => format!("-I {chain} {position} {rule}"),
            });
        }
    };
    for at in 0..found.len() {
        if anchor == Some(at) {
            insert(0..wanted.len(), &mut position, left);
            next = wanted.len();
        }
        if gone(at) {
            continue;
        }
        if let Some(index) = kept[at] {
            // Those before the first that is kept; after that, there are none.
            insert(next..index, &mut position, left);
            next = index + 1;
        }
        (position, left) = (position + 1, left - 1);
        if kept[at].is_some() {
            let following = kept[at + 1..].iter().flatten().next().copied().unwrap_or(wanted.len());
            insert(next..following, &mut position, left);
            next = following;
        }
    }
    insert(next..wanted.len(), &mut position, left);
    commands
}

/// Which of `wanted` each rule is that may stay: the longest ascending choice.
fn kept(found: &[Found<'_>], wanted: &[&str]) -> Vec<Option<usize>> {
    let index: HashMap<&str, usize> = wanted.iter().enumerate().map(|(at, rule)| (*rule, at)).collect();
    let mut which = vec![None; found.len()];
    // A deletion hits the first rule that says so: of equal ones only the last may stay, and if
    // several are to be equal, none does.
    if index.len() == wanted.len() {
        let mut seen = HashSet::new();
        for (at, it) in found.iter().enumerate().rev().filter(|(_, it)| it.ours) {
            which[at] = index.get(it.rule).copied().filter(|_| seen.insert(it.rule));
        }
    }
    let chosen = ascending(&which);
    which.iter().enumerate().map(|(at, index)| index.filter(|_| chosen.contains(&at))).collect()
}

/// The places of a longest ascending choice of numbers, by patience sorting.
fn ascending(numbers: &[Option<usize>]) -> HashSet<usize> {
    // The place of the smallest last number of each length, and what each place follows.
    let (mut ends, mut follows): (Vec<usize>, Vec<Option<usize>>) = (Vec::new(), vec![None; numbers.len()]);
    for at in (0..numbers.len()).filter(|at| numbers[*at].is_some()) {
        let length = ends.partition_point(|end| numbers[*end] < numbers[at]);
        follows[at] = length.checked_sub(1).map(|before| ends[before]);
        match ends.get_mut(length) {
            Some(end) => *end = at,
            None => ends.push(at),
        }
    }
    std::iter::successors(ends.last().copied(), |at| follows[*at]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Capitals are others' rules.
    fn check(found: &str, wanted: &str, commands: &[&str], after: &str) {
        let found: Vec<&str> = found.split_terminator(' ').collect();
        let wanted: Vec<&str> = wanted.split_terminator(' ').collect();
        let rules: Vec<Found<'_>> =
            found.iter().map(|rule| Found { rule, ours: rule.starts_with(char::is_lowercase) }).collect();
        let said = mend("C", &rules, &wanted);
        assert_eq!(said, commands);
        let mut chain: Vec<String> = found.iter().map(ToString::to_string).collect();
        for command in said {
            match command.split(' ').collect::<Vec<_>>()[..] {
                ["-D", "C", rule] => drop(chain.remove(chain.iter().position(|it| it == rule).expect("it is there"))),
                ["-A", "C", rule] => chain.push(rule.to_owned()),
                ["-I", "C", at, rule] => chain.insert(at.parse::<usize>().expect("a number") - 1, rule.to_owned()),
                _ => panic!("{command}"),
            }
        }
        assert_eq!(chain.join(" "), after);
    }

    #[test]
    fn nothing_to_do() {
        check("X a b Y c", "a b c", &[], "X a b Y c");
    }

    #[test]
    fn a_rule_is_put_back_after_the_one_it_follows() {
        check("X a Y c Z", "a b c", &["-I C 3 b"], "X a b Y c Z");
        check("X b Y c", "a b c", &["-I C 2 a"], "X a b Y c");
        check("X a b", "a b c d", &["-A C c", "-A C d"], "X a b c d");
        check("X a b Y", "a b c", &["-I C 4 c"], "X a b c Y");
    }

    #[test]
    fn where_none_is_left_they_come_where_the_first_was_or_last() {
        check("X Y", "a b", &["-A C a", "-A C b"], "X Y a b");
        check("X p Y q", "a b", &["-D C p", "-D C q", "-I C 2 a", "-I C 3 b"], "X a b Y");
        check("", "a", &["-A C a"], "a");
    }

    #[test]
    fn what_is_not_wanted_goes() {
        check("X a old Y b", "a b", &["-D C old"], "X a Y b");
        check("X a Y", "", &["-D C a"], "X Y");
    }

    #[test]
    fn of_copies_the_last_stays() {
        check("a X a b", "a b", &["-D C a"], "X a b");
    }

    #[test]
    fn as_few_as_possible_move() {
        check("c a X b d", "a b c d", &["-D C c", "-I C 4 c"], "a X b c d");
        check("d X c b a", "a b c d", &["-D C d", "-D C c", "-D C b", "-A C b", "-A C c", "-A C d"], "X a b c d");
    }

    #[test]
    fn equal_rules_may_be_wanted() {
        check("X a b Y", "a b a", &["-D C a", "-D C b", "-I C 2 a", "-I C 3 b", "-I C 4 a"], "X a b a Y");
    }
}
