//! What is wrong with a lab file, where, and what to do about it.

use crate::lab::model::Span;

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// One lowercase sentence without a full stop.
    pub message: String,
    /// The place in the file that it is about.
    pub at: Span,
    /// What to write beside the underline; may be empty.
    pub label: String,
    /// Other places that have to do with it, each with what to write beside it.
    pub related: Vec<(Span, String)>,
    /// What to do.
    pub hint: Option<String>,
}

/// All problems of a lab file, never none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);
