//! The first wrong answer, which ends a run.

use std::fmt;
use std::sync::OnceLock;

/// An answer that no correct server gives.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Wrong {
    /// What was promised.
    pub(super) promise: &'static str,
    /// What that means here.
    pub(super) expected: String,
    /// What the server said.
    pub(super) seen: String,
}

/// Who gave a wrong answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Finding {
    /// The endpoint.
    pub(super) endpoint: String,
    /// Its answer.
    pub(super) wrong: Wrong,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { endpoint, wrong: Wrong { promise, expected, seen } } = self;
        write!(
            f,
            "{endpoint} answers wrongly, so there are no figures\n  promise   {promise}\n  \
             expected  {expected}\n  seen      {seen}"
        )
    }
}

/// Shared by everybody who judges answers of one cluster.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    finding: OnceLock<Finding>,
}

impl Verdict {
    /// Remembers the first wrong answer.
    pub(super) fn condemn(&self, endpoint: &str, wrong: Wrong) {
        // A second finding changes nothing.
        let _ = self.finding.set(Finding { endpoint: endpoint.to_owned(), wrong });
    }

    /// The wrong answer, if there was one.
    pub(super) fn finding(&self) -> Option<&Finding> {
        self.finding.get()
    }
}
