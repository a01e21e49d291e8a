//! What a file says for a key: nothing, nonsense, or a value with its place.

use super::model::Span;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) at: Span,
}

/// What the file says for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said<T> {
    /// The key is not there.
    Nothing,
    /// Something that was refused, so that nothing more may be concluded from it.
    Nonsense,
    /// A good value.
    Value(At<T>),
}

impl<T> Said<T> {
    /// The value, if there is a good one.
    pub(super) fn get(&self) -> Option<&T> {
        match self {
            Said::Value(said) => Some(&said.value),
            Said::Nothing | Said::Nonsense => None,
        }
    }

    /// The value with its place, if there is a good one.
    pub(super) fn at(&self) -> Option<&At<T>> {
        match self {
            Said::Value(said) => Some(said),
            Said::Nothing | Said::Nonsense => None,
        }
    }

    /// Where it stands, otherwise `or`.
    pub(super) fn span(&self, or: &Span) -> Span {
        self.at().map_or_else(|| or.clone(), |said| said.at.clone())
    }

    /// The key is not there.
    pub(super) fn is_nothing(&self) -> bool {
        matches!(self, Said::Nothing)
    }

    /// It is there, but was refused.
    pub(super) fn is_nonsense(&self) -> bool {
        matches!(self, Said::Nonsense)
    }
}

impl<T: Clone> Said<T> {
    /// The value, or `default` if the key is not there; `None` if it was refused.
    pub(super) fn or(&self, default: T) -> Option<T> {
        match self {
            Said::Nothing => Some(default),
            Said::Nonsense => None,
            Said::Value(said) => Some(said.value.clone()),
        }
    }

    /// The value, or `Some(None)` if the key is not there; `None` if it was refused.
    pub(super) fn maybe(&self) -> Option<Option<T>> {
        match self {
            Said::Nothing => Some(None),
            Said::Nonsense => None,
            Said::Value(said) => Some(Some(said.value.clone())),
        }
    }
}

impl<T> Said<Vec<T>> {
    /// The elements, `Some(None)` if the key is not there; `None` if it was refused.
    pub(super) fn maybe_list(&self) -> Option<Option<&[T]>> {
        match self {
            Said::Nothing => Some(None),
            Said::Nonsense => None,
            Said::Value(said) => Some(Some(&said.value)),
        }
    }

    /// The elements; none if the key is not there or was refused.
    pub(super) fn list(&self) -> &[T] {
        self.get().map_or(&[], Vec::as_slice)
    }
}
