//! One binary, `quorate`.
fn main() {}
