//! Histories of what clients saw, and whether they keep a promise.
