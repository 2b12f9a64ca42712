//! A number of `sanedge.toml`: its key, unit, range, default and reason; and how values are written.

use std::fmt;
use std::time::Duration;

use crate::excerpt::Excerpt;

pub(super) const KIB: u64 = 1024;
pub(super) const MIB: u64 = 1024 * KIB;
pub(super) const GIB: u64 = 1024 * MIB;
pub(super) const SECOND: u64 = 1000;
pub(super) const MINUTE: u64 = 60 * SECOND;
pub(super) const HOUR: u64 = 60 * MINUTE;
pub(super) const DAY: u64 = 24 * HOUR;

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A count; written as a plain integer.
    Count,
    /// Bytes; written `"16KiB"`, or as a plain number of bytes.
    Bytes,
    /// Time, kept in milliseconds; written `"30s"`.
    Milliseconds,
    /// 0 or 1; written `true` or `false`.
    Switch,
}

/// A key with its unit, its allowed range and the reason for that range.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// The key as `sanedge.toml` spells it.
    pub key: &'static str,
    /// What the numbers count.
    pub unit: Unit,
    /// Smallest allowed value.
    pub min: u64,
    /// Largest allowed value.
    pub max: u64,
    /// What 0 means where it is allowed below `min`.
    pub zero: Option<&'static str>,
    /// What the key does, in one sentence.
    pub means: &'static str,
    /// Why the default and the range are what they are.
    pub reason: &'static str,
}

/// Where a default comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Always this number.
    Fixed(u64),
    /// From the board's cores and memory, by this rule.
    Board(&'static str),
    /// Nothing; what that means, in words.
    Absent(&'static str),
}

/// A value as written in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// In quotes.
    Text(&'a str),
    /// A plain integer.
    Integer(i64),
}

/// Why a value is not allowed; `Display` says what was expected and found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// No limit has this name.
    #[error("there is no limit `{key}`{}", did_you_mean(.suggestion))]
    Unknown {
        /// The key found.
        key: Excerpt,
        /// The nearest one.
        suggestion: Option<&'static str>,
    },
    /// Outside its range.
    #[error("`{}` is {}: expected {}", .range.key, .range.unit.show(*.found), .range)]
    OutOfRange {
        /// The key and its bounds.
        range: Range,
        /// The value found, in the range's unit.
        found: u64,
    },
    /// A value in the wrong form for its unit.
    #[error("`{key}` is {found}: expected {}", .unit.form())]
    Form {
        /// The key.
        key: &'static str,
        /// Its unit.
        unit: Unit,
        /// The value as written.
        found: Excerpt,
    },
    /// Not a duration.
    #[error("{found:?} is not a duration: expected a whole number and ms, s, m or h, such as \"30s\"")]
    Duration {
        /// The text.
        found: Excerpt,
    },
    /// Not a size.
    #[error(
        "{found:?} is not a size: expected a whole number of bytes, or one with KiB, MiB or GiB, such as \"16KiB\""
    )]
    Size {
        /// The text.
        found: Excerpt,
    },
    /// Two limits that contradict each other.
    #[error("`{key}` is {found}, more than `{bound}`, which is {max}: expected at most that")]
    Above {
        /// The one that is too large.
        key: &'static str,
        /// Its value.
        found: u64,
        /// The limit that bounds it.
        bound: &'static str,
        /// That one's value.
        max: u64,
    },
}

impl PartialEq for Range {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && (self.min, self.max) == (other.min, other.max)
    }
}

impl Eq for Range {}

/// A count from `min` to `max`.
pub(super) const fn count(min: u64, max: u64) -> Range {
    Range { key: "", unit: Unit::Count, min, max, zero: None, means: "", reason: "" }
}

/// A size from `min` to `max` bytes.
pub(super) const fn bytes(min: u64, max: u64) -> Range {
    Range { unit: Unit::Bytes, ..count(min, max) }
}

/// A duration from `min` to `max` milliseconds.
pub(super) const fn time(min: u64, max: u64) -> Range {
    Range { unit: Unit::Milliseconds, ..count(min, max) }
}

/// `true` or `false`.
pub(super) const SWITCH: Range = Range { unit: Unit::Switch, ..count(0, 1) };

impl Unit {
    /// The type of a key with such a value.
    pub fn name(self) -> &'static str {
        match self {
            Self::Count => "number",
            Self::Bytes => "size",
            Self::Milliseconds => "duration",
            Self::Switch => "true or false",
        }
    }

    /// How a value of this unit is written.
    pub fn form(self) -> &'static str {
        match self {
            Self::Count => "a whole number without quotes",
            Self::Bytes => "a size such as \"16KiB\", or a whole number of bytes",
            Self::Milliseconds => "a duration such as \"30s\"",
            Self::Switch => "true or false",
        }
    }

    /// The value as `sanedge.toml` would write it, in the largest unit that divides it.
    pub fn show(self, value: u64) -> String {
        let steps: &[(u64, &str)] = match self {
            Self::Switch => return (value != 0).to_string(),
            Self::Count => &[],
            Self::Bytes => &[(GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")],
            Self::Milliseconds => &[(HOUR, "h"), (MINUTE, "m"), (SECOND, "s"), (1, "ms")],
        };
        let whole = steps.iter().find(|(step, _)| value != 0 && value.is_multiple_of(*step));
        whole.map_or_else(|| value.to_string(), |(step, name)| format!("{}{name}", value / step))
    }
}

impl Range {
    /// The same, where 0 is allowed as well and means `zero`.
    pub(super) const fn or_zero(self, zero: &'static str) -> Self {
        Self { zero: Some(zero), ..self }
    }

    /// Returns `value` if it is allowed.
    ///
    /// # Errors
    /// [`LimitError::OutOfRange`] where it is not.
    pub fn check(&self, value: u64) -> Result<u64, LimitError> {
        let allowed = (self.min..=self.max).contains(&value) || (value == 0 && self.zero.is_some());
        if allowed { Ok(value) } else { Err(LimitError::OutOfRange { range: *self, found: value }) }
    }

    /// Parses a value of the file in this range's unit, and checks it.
    ///
    /// # Errors
    /// If the form is not that of the unit, or the value is out of range.
    pub fn read(&self, value: Value<'_>) -> Result<u64, LimitError> {
        let form = |found: Excerpt| LimitError::Form { key: self.key, unit: self.unit, found };
        let number = match (self.unit, value) {
            (Unit::Milliseconds, Value::Text(text)) => milliseconds(text)?,
            (Unit::Bytes, Value::Text(text)) => parse_size(text)?,
            (Unit::Count | Unit::Switch, Value::Text(text)) => {
                return Err(form(Excerpt::of(&format!("\"{text}\""))));
            }
            (Unit::Milliseconds, Value::Integer(number)) => {
                return Err(form(Excerpt::of(&number.to_string())));
            }
            (_, Value::Integer(number)) => {
                u64::try_from(number).map_err(|_| form(Excerpt::of(&number.to_string())))?
            }
        };
        self.check(number)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.unit.show(self.min), self.unit.show(self.max))?;
        match self.zero {
            Some(meaning) => write!(f, ", or 0 for {meaning}"),
            None => Ok(()),
        }
    }
}

/// Reads `"250ms"`, `"30s"`, `"5m"` or `"1h"`.
///
/// # Errors
/// [`LimitError::Duration`] if the text is anything else, or too large for milliseconds in 64 bits.
pub fn parse_duration(text: &str) -> Result<Duration, LimitError> {
    milliseconds(text).map(Duration::from_millis)
}

/// Reads `"512"`, `"16KiB"`, `"1MiB"` or `"2GiB"` into bytes.
///
/// # Errors
/// [`LimitError::Size`] if the text is anything else, or too large for 64 bits.
pub fn parse_size(text: &str) -> Result<u64, LimitError> {
    let unit = |suffix: &str| match suffix {
        "" => Some(1),
        "KiB" => Some(KIB),
        "MiB" => Some(MIB),
        "GiB" => Some(GIB),
        _ => None,
    };
    scaled(text, unit).ok_or_else(|| LimitError::Size { found: Excerpt::of(text) })
}

fn milliseconds(text: &str) -> Result<u64, LimitError> {
    let unit = |suffix: &str| match suffix {
        "ms" => Some(1),
        "s" => Some(SECOND),
        "m" => Some(MINUTE),
        "h" => Some(HOUR),
        _ => None,
    };
    scaled(text, unit).ok_or_else(|| LimitError::Duration { found: Excerpt::of(text) })
}

/// Digits and a suffix, multiplied.
fn scaled(text: &str, unit: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, suffix) = text.split_at_checked(end)?;
    digits.parse::<u64>().ok()?.checked_mul(unit(suffix)?)
}

fn did_you_mean(suggestion: &Option<&'static str>) -> String {
    suggestion.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_have_one_form() {
        let durations = [("0ms", 0), ("250ms", 250), ("30s", 30_000), ("5m", 300_000), ("2h", 7_200_000)];
        for (text, wanted) in durations {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(wanted)), "{text}");
        }
        for (text, wanted) in
            [("0", 0), ("512", 512), ("16KiB", 16_384), ("1MiB", 1 << 20), ("2GiB", 2 << 30)]
        {
            assert_eq!(parse_size(text), Ok(wanted), "{text}");
        }
        let odd = [
            "",
            "s",
            "30",
            "1.5s",
            "30 s",
            " 30s",
            "-1s",
            "+1s",
            "30S",
            "1d",
            "1h30m",
            "99999999999999999999ms",
            "5124095576030431h",
        ];
        for text in odd {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        let odd =
            ["", "KiB", "16 KiB", "16kib", "16K", "16KB", "1.5MiB", "-1", "+1", "0x10", "17179869184GiB"];
        for text in odd {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_shown_can_be_read(value: u64) {
            proptest::prop_assert_eq!(parse_size(&Unit::Bytes.show(value)), Ok(value));
            proptest::prop_assert_eq!(milliseconds(&Unit::Milliseconds.show(value.max(1))), Ok(value.max(1)));
        }
    }
}
