//! How a crate declares the bugs that can be planted in it.
//!
//! A *planted bug* is a known mistake, a line or two long, which a test or a simulation must catch:
//! it shows that the checks around the code see what they are there for. A crate that has some
//! declares them by [`planted_bugs!`](crate::planted_bugs) and guards each of the lines by a
//! question that is the constant `false` unless its cargo feature `mutants` is on.

/// Declares an enum of planted bugs, each with the name that a command line knows it by.
///
/// With the feature `mutants` of the crate that declares it (and in its own tests) the enum has
/// `ALL`, every bug in the order of its declaration, and `name`. A name is never used for another
/// bug later: reports of campaigns are compared by it.
#[macro_export]
macro_rules! planted_bugs {
    (
        $(#[$about:meta])*
        $visibility:vis enum $family:ident {
            $($(#[$of:meta])* $bug:ident = $name:literal,)+
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        $visibility enum $family {
            $($(#[$of])* $bug,)+
        }

        #[cfg(any(test, feature = "mutants"))]
        impl $family {
            /// Every bug of this family.
            pub const ALL: &'static [$family] = &[$($family::$bug,)+];

            /// The name on a command line and in reports.
            pub const fn name(self) -> &'static str {
                match self {
                    $($family::$bug => $name,)+
                }
            }
        }
    };
}
