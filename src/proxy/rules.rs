//! A node's rules as what they are made of; as text only where somebody reads it. In a big lab most
//! changes concern a few Services, and nobody reads of the others.

use std::{
    fmt,
    hash::{Hash, Hasher},
    ops::Deref,
    sync::{Arc, OnceLock},
};

use super::{render, view::NodeView};
use crate::lab::model::ProxyMode;

/// A node's complete rules: a text, rendered when it is first looked at.
#[derive(Clone)]
pub struct Rules(Arc<Inner>);

struct Inner {
    mode: ProxyMode,
    view: NodeView,
    text: OnceLock<String>,
}

impl Rules {
    /// What `mode` writes for a node.
    pub fn new(mode: ProxyMode, view: NodeView) -> Self {
        Rules(Arc::new(Inner { mode, view, text: OnceLock::new() }))
    }

    /// Who writes them.
    pub fn mode(&self) -> ProxyMode {
        self.0.mode
    }

    /// What they make the node do.
    pub fn view(&self) -> &NodeView {
        &self.0.view
    }

    /// The text, which is not kept: for who needs it once.
    pub fn to_text(&self) -> String {
        self.0.text.get().cloned().unwrap_or_else(|| render(self.0.mode, &self.0.view))
    }
}

impl Deref for Rules {
    type Target = str;

    fn deref(&self) -> &str {
        self.0.text.get_or_init(|| render(self.0.mode, &self.0.view))
    }
}

/// Their texts are the same.
impl PartialEq for Rules {
    fn eq(&self, other: &Rules) -> bool {
        let (one, other_one) = (&self.0, &other.0);
        Arc::ptr_eq(one, other_one)
            || (one.mode == other_one.mode && (one.view.is_like(&other_one.view) || **self == **other))
    }
}

impl Eq for Rules {}

impl Hash for Rules {
    /// Of what no two nodes have in common.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.mode.hash(state);
        self.0.view.ip.hash(state);
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
