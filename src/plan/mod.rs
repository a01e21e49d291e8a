//! From a [`Lab`](crate::lab::model::Lab) to a [`Plan`](step::Plan): what has to happen, as data.

pub mod step;
