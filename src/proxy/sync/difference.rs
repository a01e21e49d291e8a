//! Compares two lists of named things, most of which are in both, and in the same order.

use std::collections::HashMap;

/// What differs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Difference<'a, T> {
    /// Only in the old list, in its order.
    pub(super) gone: Vec<&'a T>,
    /// Only in the new list, in its order.
    pub(super) new: Vec<&'a T>,
    /// In both, and not equal: old and new, in the new list's order.
    pub(super) changed: Vec<(&'a T, &'a T)>,
}

/// Names are unique in each list.
///
/// From both ends, as long as the names agree, things are compared where they stand; only between
/// the first and the last name that disagrees they are looked up.
pub(super) fn difference<'a, T: PartialEq>(
    old: &'a [T],
    new: &'a [T],
    name: impl Fn(&'a T) -> &'a str,
) -> Difference<'a, T> {
    let same = |(old, new): &(&'a T, &'a T)| name(old) == name(new);
    let head = old.iter().zip(new).take_while(same).count();
    let (old_rest, new_rest) = (&old[head..], &new[head..]);
    let tail = old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(same).count();
    let (old_window, old_tail) = old_rest.split_at(old_rest.len() - tail);
    let (new_window, new_tail) = new_rest.split_at(new_rest.len() - tail);

    let mut left: HashMap<&str, &T> = old_window.iter().map(|it| (name(it), it)).collect();
    let mut pairs: Vec<(&T, &T)> = old.iter().zip(new).take(head).collect();
    let mut fresh = Vec::new();
    for it in new_window {
        match left.remove(name(it)) {
            Some(before) => pairs.push((before, it)),
            None => fresh.push(it),
        }
    }
    pairs.extend(old_tail.iter().zip(new_tail));
    pairs.retain(|(old, new)| old != new);
    let gone = old_window.iter().filter(|it| left.contains_key(name(it))).collect();
    Difference { gone, new: fresh, changed: pairs }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Named = (&'static str, u8);

    fn check(old: &[Named], new: &[Named], gone: &[Named], fresh: &[Named], changed: &[(Named, Named)]) {
        let found = difference(old, new, |it| it.0);
        assert_eq!(found.gone.into_iter().copied().collect::<Vec<_>>(), gone);
        assert_eq!(found.new.into_iter().copied().collect::<Vec<_>>(), fresh);
        assert_eq!(found.changed.into_iter().map(|(old, new)| (*old, *new)).collect::<Vec<_>>(), changed);
    }

    #[test]
    fn by_name() {
        check(&[("a", 1), ("b", 2)], &[("a", 1), ("b", 2)], &[], &[], &[]);
        check(&[("a", 1), ("b", 2), ("c", 3)], &[("a", 1), ("b", 9), ("c", 3)], &[], &[], &[(("b", 2), ("b", 9))]);
        check(&[("a", 1), ("c", 3)], &[("a", 1), ("b", 2), ("c", 4)], &[], &[("b", 2)], &[(("c", 3), ("c", 4))]);
        check(&[("a", 1), ("b", 2), ("c", 3)], &[("a", 1), ("c", 3)], &[("b", 2)], &[], &[]);
        check(&[("a", 1), ("b", 2)], &[], &[("a", 1), ("b", 2)], &[], &[]);
        check(&[], &[("a", 1)], &[], &[("a", 1)], &[]);
    }

    #[test]
    fn what_only_moved_is_the_same() {
        check(&[("a", 1), ("b", 2), ("c", 3)], &[("c", 3), ("a", 1), ("b", 2)], &[], &[], &[]);
    }

    #[test]
    fn no_thing_is_at_both_ends() {
        check(&[("a", 1)], &[("a", 1), ("a2", 1)], &[], &[("a2", 1)], &[]);
        check(&[("a", 1), ("b", 1)], &[("b", 1)], &[("a", 1)], &[], &[]);
    }
}
