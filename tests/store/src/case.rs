//! How cases are listed.
#![forbid(unsafe_code)]

/// Declares a list of cases, each with its rule and where that is written, and the function that checks one of them.
macro_rules! cases {
    (
        async fn $check:ident($at:ident: $at_type:ty, $by:ident: $by_type:ty, $ground:ident: $ground_type:ty);
        $($(#[doc = $says:literal])+ $module:ident::$name:ident: $document:literal, $section:literal;)*
    ) => {
        /// A rule, and the check of it.
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub struct Case {
            /// Its name.
            pub name: &'static str,
            /// The rule.
            pub says: &'static str,
            /// The document that has the rule, as a path in Xen's sources.
            pub document: &'static str,
            /// The section in it, or the name of what the document describes there.
            pub section: &'static str,
            which: Which,
        }

        #[expect(non_camel_case_types, reason = "they are called what the functions are")]
        #[derive(Clone, Copy, PartialEq, Eq)]
        enum Which {
            $($name,)*
        }

        /// All cases of this kind.
        pub const CASES: &[Case] = &[
            $(Case {
                name: concat!(stringify!($module), "::", stringify!($name)),
                says: concat!($($says),+),
                document: $document,
                section: $section,
                which: Which::$name,
            },)*
        ];

        async fn $check(which: Which, $at: $at_type, $by: $by_type, $ground: $ground_type) -> $crate::difference::Outcome {
            match which {
                $(Which::$name => $module::$name($at, $by, $ground).await,)*
            }
        }

        impl core::fmt::Debug for Case {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(self.name)
            }
        }
    };
}
pub(crate) use cases;
