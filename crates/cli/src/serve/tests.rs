//! What the three notations mean, by tables.
