//! Services: from the lab's text to the rules of each node, and what a client must see.

pub mod truth;
