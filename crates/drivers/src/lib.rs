//! What runs a protocol: scenario, live.
