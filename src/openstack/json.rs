//! JSON from a server, of which any part may be missing or of another shape.
//!
//! Used by `keystone`, `catalog` and `barbican`. Invariant: unneeded parts are skipped
//! while reading and never kept, so a reply needs little more memory than its own
//! bytes, whatever it is made of.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// How many elements of a list are kept. Three bytes of JSON can be a hundred in
/// memory, and no honest list comes near this.
pub(super) const LONGEST_LIST: usize = 1024;

/// For fields that can be done without: a value of another shape is `None`.
pub(super) fn optional<'de, D: Deserializer<'de>, T: FromJson>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    deserializer.deserialize_any(Any(PhantomData))
}

/// A type with the shapes of JSON that it can be read from; by default none.
pub(super) trait FromJson: Sized {
    fn from_text(_: &str) -> Option<Self> {
        None
    }

    fn from_bool(_: bool) -> Option<Self> {
        None
    }

    fn from_number(_: u64) -> Option<Self> {
        None
    }

    fn from_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        skip_rest(&mut list)?;
        Ok(None)
    }

    fn from_object<'de, A: MapAccess<'de>>(mut object: A) -> Result<Option<Self>, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

/// Reads a list to its end.
pub(super) fn skip_rest<'de, A: SeqAccess<'de>>(list: &mut A) -> Result<(), A::Error> {
    while list.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

/// The same for objects whose fields are all read leniently.
pub(super) fn object<'de, A: MapAccess<'de>, T: Deserialize<'de>>(
    object: A,
) -> Result<Option<T>, A::Error> {
    T::deserialize(MapAccessDeserializer::new(object)).map(Some)
}

/// An element of a list.
pub(super) struct Element<T>(pub(super) Option<T>);

impl<'de, T: FromJson> Deserialize<'de> for Element<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        optional(deserializer).map(Self)
    }
}

impl FromJson for String {
    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl FromJson for bool {
    fn from_bool(value: bool) -> Option<Self> {
        Some(value)
    }
}

impl FromJson for u64 {
    fn from_number(number: u64) -> Option<Self> {
        Some(number)
    }
}

impl<T: FromJson> FromJson for Box<T> {
    fn from_object<'de, A: MapAccess<'de>>(object: A) -> Result<Option<Self>, A::Error> {
        Ok(T::from_object(object)?.map(Box::new))
    }
}

/// Without the elements that are of another shape, and those beyond
/// [`LONGEST_LIST`].
impl<T: FromJson> FromJson for Vec<T> {
    fn from_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        let mut kept = Self::new();
        while kept.len() < LONGEST_LIST {
            match list.next_element()? {
                Some(Element(element)) => kept.extend(element),
                None => return Ok(Some(kept)),
            }
        }
        skip_rest(&mut list)?;
        Ok(Some(kept))
    }
}

/// Without the values that are no text.
impl FromJson for BTreeMap<String, String> {
    fn from_object<'de, A: MapAccess<'de>>(mut object: A) -> Result<Option<Self>, A::Error> {
        let mut kept = Self::new();
        while let Some((name, Element(value))) = object.next_entry()? {
            if let Some(value) = value
                && kept.len() < LONGEST_LIST
            {
                kept.insert(name, value);
            }
        }
        Ok(Some(kept))
    }
}

struct Any<T>(PhantomData<T>);

impl<'de, T: FromJson> Visitor<'de> for Any<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(T::from_bool(value))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(T::from_number(number))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(T::from_text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        T::from_list(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Self::Value, A::Error> {
        T::from_object(object)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read<T: FromJson>(value: Value) -> Option<T> {
        optional(value).expect("JSON")
    }

    #[test]
    fn what_has_another_shape_is_missing() {
        assert_eq!(read::<String>(json!("x")), Some("x".to_owned()));
        assert_eq!(read::<bool>(json!(true)), Some(true));
        assert_eq!(read::<u64>(json!(256)), Some(256));
        for other in [
            json!(null),
            json!(-1),
            json!(0.5),
            json!([[1], {"a": 2}]),
            json!({"a": {"b": []}}),
        ] {
            assert_eq!(read::<String>(other.clone()), None, "{other}");
            assert_eq!(read::<bool>(other.clone()), None, "{other}");
            assert_eq!(read::<u64>(other.clone()), None, "{other}");
        }
        assert_eq!(read::<u64>(json!("256")), None);
        assert_eq!(read::<Vec<String>>(json!({"a": 1})), None);
    }

    #[test]
    fn a_list_keeps_what_fits() {
        let list = json!(["a", 7, null, ["b"], {"c": 1}, "d"]);
        let kept = read::<Vec<String>>(list).expect("a list");
        assert_eq!(kept, ["a", "d"]);
        let map = json!({"a": "b", "c": 1, "d": []});
        let kept = read::<BTreeMap<String, String>>(map).expect("a map");
        assert_eq!(kept, [("a".to_owned(), "b".to_owned())].into());
    }

    #[test]
    fn a_list_without_end_is_kept_in_part() {
        let long = json!(vec!["x"; LONGEST_LIST + 9]);
        let kept = read::<Vec<String>>(long).expect("a list");
        assert_eq!(kept.len(), LONGEST_LIST);
    }
}
