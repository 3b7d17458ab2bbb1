//! The known name that a mistyped one probably meant.

use crate::nearest::nearest;
use crate::serve::table;

/// The flag whose name is nearest.
pub(super) fn flag(name: &str) -> Option<&'static str> {
    let special = ["config-file", "version", "help"];
    nearest(name, table::flags().map(|flag| flag.name).chain(special))
}

/// The YAML key that is nearest.
pub(super) fn yaml_key(key: &str) -> Option<&'static str> {
    nearest(key, table::flags().map(|flag| flag.yaml))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_finds_its_flag_and_nonsense_finds_none() {
        assert_eq!(flag("listen-client-url"), Some("listen-client-urls"));
        assert_eq!(flag("dta-dir"), Some("data-dir"));
        assert_eq!(flag("xyzzy-frobnicate"), None);
        assert_eq!(
            yaml_key("peer-transport-security.certfile"),
            Some("peer-transport-security.cert-file")
        );
    }
}
