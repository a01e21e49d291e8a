//! The judgement, and every form of the report.
