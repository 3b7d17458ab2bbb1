//! Disk, write-ahead log and checkpoints, with damage detected and named.
