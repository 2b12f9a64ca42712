//! Tables of settings: one row gives the field, its key, range, default, description, reading, and form in the bundle.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::range::{LimitError, Preset, Range, Value};
use crate::excerpt::Excerpt;

/// One row of a table: a field of `T`.
#[derive(Clone, Copy, Debug)]
pub struct Row<T> {
    /// Key, unit, bounds, reason.
    pub range: Range,
    /// Default.
    pub preset: Preset,
    pub(super) read: fn(&T) -> Option<u64>,
    pub(super) write: fn(&mut T, u64),
}

impl<T> Row<T> {
    /// The field's value in the range's unit; `None` where it has none.
    pub fn value(&self, settings: &T) -> Option<u64> {
        (self.read)(settings)
    }

    /// Sets the field to a value that the range allows.
    pub fn set(&self, settings: &mut T, value: u64) {
        (self.write)(settings, value);
    }
}

/// A type that a field can have: one number, and how the bundle holds it.
pub(super) trait Stored: Copy + Default {
    /// The form in the bundle.
    type Wire: Serialize + for<'de> Deserialize<'de>;

    /// The number; `None` where there is none.
    fn number(self) -> Option<u64>;
    /// From a number in range; tests check that each range fits its type.
    fn of(number: u64) -> Self;
    fn wire(self) -> Self::Wire;
    fn read(wire: Self::Wire) -> Self;
}

macro_rules! stored_as_itself {
    ($($number:ty)*) => {
        $(impl Stored for $number {
            type Wire = Self;

            fn number(self) -> Option<u64> {
                Some(self.into())
            }

            fn of(number: u64) -> Self {
                Self::try_from(number).unwrap_or(Self::MAX)
            }

            fn wire(self) -> Self {
                self
            }

            fn read(wire: Self) -> Self {
                wire
            }
        })*
    };
}

stored_as_itself!(u8 u16 u32 u64);

impl Stored for bool {
    type Wire = Self;

    fn number(self) -> Option<u64> {
        Some(self.into())
    }

    fn of(number: u64) -> Self {
        number != 0
    }

    fn wire(self) -> Self {
        self
    }

    fn read(wire: Self) -> Self {
        wire
    }
}

/// In milliseconds. One that 32 bits do not hold is above every range: what is written then differs, and is refused.
impl Stored for Duration {
    type Wire = u32;

    fn number(self) -> Option<u64> {
        Some(u64::try_from(self.as_millis()).unwrap_or(u64::MAX))
    }

    fn of(number: u64) -> Self {
        Self::from_millis(number)
    }

    fn wire(self) -> u32 {
        u32::try_from(self.as_millis()).unwrap_or(u32::MAX)
    }

    fn read(wire: u32) -> Self {
        Self::from_millis(wire.into())
    }
}

impl<T: Stored> Stored for Option<T> {
    type Wire = Option<T::Wire>;

    fn number(self) -> Option<u64> {
        self.and_then(T::number)
    }

    fn of(number: u64) -> Self {
        Some(T::of(number))
    }

    fn wire(self) -> Self::Wire {
        self.map(T::wire)
    }

    fn read(wire: Self::Wire) -> Self {
        wire.map(T::read)
    }
}

pub(super) fn serialize<T: Stored, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    value.wire().serialize(serializer)
}

pub(super) fn deserialize<'de, T: Stored, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::Wire::deserialize(deserializer).map(T::read)
}

/// Sets the field `key` to a value of the file.
pub(super) fn set<T>(
    rows: &'static [Row<T>],
    settings: &mut T,
    key: &str,
    value: Value<'_>,
) -> Result<(), LimitError> {
    let row = rows.iter().find(|row| row.range.key == key).ok_or_else(|| unknown(rows, key))?;
    row.set(settings, row.range.read(value)?);
    Ok(())
}

fn unknown<T>(rows: &'static [Row<T>], key: &str) -> LimitError {
    let nearest = rows
        .iter()
        .map(|row| row.range.key)
        .max_by(|a, b| strsim::jaro_winkler(a, key).total_cmp(&strsim::jaro_winkler(b, key)));
    let suggestion = nearest.filter(|near| strsim::jaro_winkler(near, key) > 0.8);
    LimitError::Unknown { key: Excerpt::of(key), suggestion }
}

/// The key of a field: its name without `_ms`, since a duration is written with its unit.
pub(super) const fn key_of(field: &'static str) -> &'static str {
    match field.as_bytes() {
        [.., b'_', b'm', b's'] => field.split_at(field.len() - 3).0,
        _ => field,
    }
}

/// Defines a struct of settings and the table of its rows:
///
/// ```text
/// /// What it does, in one sentence.
/// field: type = range, default, "why both are what they are";
/// ```
///
/// A key that is not the field's name follows it: `timeout as "drain_timeout"`. The bundle holds the fields in this order.
macro_rules! settings {
    (
        $(#[$about:meta])*
        pub struct $Settings:ident, $ROWS:ident {
            $(
                $(#[doc = $means:literal])*
                $field:ident $(as $key:literal)?: $type:ty = $range:expr, $preset:expr, $reason:literal;
            )*
        }
    ) => {
        $(#[$about])*
        #[derive(serde::Serialize, serde::Deserialize)]
        pub struct $Settings {
            $(
                $(#[doc = $means])*
                #[serde(with = "super::row")]
                pub $field: $type,
            )*
        }

        #[doc = concat!("The rows of [`", stringify!($Settings), "`], in the order of its fields.")]
        pub static $ROWS: [Row<$Settings>; [$(stringify!($field)),*].len()] = [
            $(Row {
                range: Range {
                    key: key_of([$($key,)? stringify!($field)][0]),
                    means: concat!($($means),*).trim_ascii(),
                    reason: $reason,
                    ..$range
                },
                preset: $preset,
                read: |settings| Stored::number(settings.$field),
                write: |settings, value| settings.$field = Stored::of(value),
            },)*
        ];

        impl $Settings {
            /// All fixed defaults. A field without one is 0, `false` or `None`.
            pub(super) fn fixed() -> Self {
                let mut settings = Self { $($field: <$type>::default(),)* };
                for row in &$ROWS {
                    if let Preset::Fixed(value) = row.preset {
                        row.set(&mut settings, value);
                    }
                }
                settings
            }

            /// Sets the field of `key` to a value of the file.
            ///
            /// # Errors
            /// If there is no such key, the form is not that of its unit, or the value is out of range; nothing is changed then.
            pub fn set(&mut self, key: &str, value: Value<'_>) -> Result<(), LimitError> {
                row::set(&$ROWS, self, key, value)
            }

            /// Checks every value against its range.
            ///
            /// # Errors
            /// The first one that is out of it.
            pub fn check_ranges(&self) -> Result<(), LimitError> {
                let mut values = $ROWS.iter().filter_map(|row| Some((row, row.value(self)?)));
                values.try_for_each(|(row, value)| row.range.check(value).map(drop))
            }
        }
    };
}

pub(super) use settings;
