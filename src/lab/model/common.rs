//! What labs have in common: one object for all of them, until one has something else in its place.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
};

/// A thing that is not copied with what it is in. Changed, it is another one.
#[derive(Clone)]
pub struct Common<T>(Arc<T>);

impl<T> Common<T> {
    /// Both are the one object: nothing of them can be different.
    pub fn is_same(one: &Self, other: &Self) -> bool {
        Arc::ptr_eq(&one.0, &other.0)
    }
}

impl<T> From<T> for Common<T> {
    fn from(thing: T) -> Self {
        Common(Arc::new(thing))
    }
}

impl<T> Deref for Common<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Clone> DerefMut for Common<T> {
    fn deref_mut(&mut self) -> &mut T {
        Arc::make_mut(&mut self.0)
    }
}

impl<T: fmt::Debug> fmt::Debug for Common<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
