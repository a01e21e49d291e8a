//! What is said to the process that holds a lab, and what it says: one JSON value a line.
//!
//! Its standard input is the lab's life: when that ends, so does the lab.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Both sides must be of one version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What a holder of another version says.
pub(crate) const VERSION_DIFFERS: &str = "this netlab and the one that asks are of different versions";
/// The hidden verb.
pub(crate) const VERB: &str = "hold";

/// The lab to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// [`VERSION`].
    pub(crate) version: String,
    /// The lab file's text.
    pub(crate) text: String,
    /// How messages call the lab file.
    pub(crate) origin: String,
    /// The lab's name.
    pub(crate) name: String,
    /// How long it may take until it is ready.
    pub(crate) timeout: Duration,
    /// How long it may take altogether.
    pub(crate) limit: Option<Duration>,
}

/// It is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Up {
    /// The lab's name.
    pub(crate) name: String,
}
