//! The lab file: from its text to a [`model::Lab`], or to all that is wrong with it.

pub mod model;
pub mod name;

use crate::diag::Diagnostics;
use model::Lab;

/// Reads a lab from the text of its file.
///
/// # Errors
///
/// All problems at once, in file order.
pub fn load(_text: &str) -> Result<Lab, Diagnostics> {
    unimplemented!("being written")
}
