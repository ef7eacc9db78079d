//! Enums whose variants have numbers: `[number, field, ...]` in MessagePack.
//!
//! `rmp_serde` would write the variant's name; a number is shorter and survives a renaming.

/// Implements serde's traits for an enum from one table of numbers, variants and fields.
///
/// A variant without fields is written `Name {}`, one with unnamed fields `Name { 0: name }`.
macro_rules! serde_numbered {
    ($type:ident { $($number:literal => $variant:ident { $($field:tt : $name:ident),* }),* $(,)? }) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeTuple;
                match self {
                    $(Self::$variant { $($field: $name),* } => {
                        let fields = [$(stringify!($name)),*] as [&str; _];
                        let mut tuple = serializer.serialize_tuple(1 + fields.len())?;
                        tuple.serialize_element::<u8>(&$number)?;
                        $(tuple.serialize_element($name)?;)*
                        tuple.end()
                    })*
                }
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Self, D::Error> {
                struct Visitor;

                impl<'de> serde::de::Visitor<'de> for Visitor {
                    type Value = $type;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(concat!("the number and the fields of ", stringify!($type)))
                    }

                    fn visit_seq<A: serde::de::SeqAccess<'de>>(
                        self,
                        mut sequence: A,
                    ) -> Result<$type, A::Error> {
                        let value = match $crate::numbered::next::<u8, A>(&mut sequence)? {
                            $($number => $type::$variant {
                                $($field: $crate::numbered::next(&mut sequence)?),*
                            },)*
                            other => {
                                let text = format!("{} has no variant {other}", stringify!($type));
                                return Err(serde::de::Error::custom(text));
                            }
                        };
                        match sequence.next_element::<serde::de::IgnoredAny>()? {
                            None => Ok(value),
                            Some(_) => Err(serde::de::Error::custom("a variant has more fields")),
                        }
                    }
                }

                deserializer.deserialize_seq(Visitor)
            }
        }
    };
}
pub(crate) use serde_numbered;

/// The next element of a sequence that must have one.
pub(crate) fn next<'de, T: serde::Deserialize<'de>, A: serde::de::SeqAccess<'de>>(
    sequence: &mut A,
) -> Result<T, A::Error> {
    sequence
        .next_element()?
        .ok_or_else(|| serde::de::Error::custom("a variant lacks a field"))
}
