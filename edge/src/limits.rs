//! Every bound of the edge: name, unit, default, allowed range, reason, and what it costs in memory at worst.
//!
//! Fields carry their unit last. Three tables of the same form give the fields, their keys and everything about them:
//! [`LIMITS`] is `[limits]`, [`RULES`] the keys of a site or route, [`DRAIN`] those of the drain. The reader of
//! `sanedge.toml`, docs/configuration.md, `compile` and `open` all read these.

mod defaults;
mod memory;
mod range;
mod row;
mod rules;
mod table;

pub use defaults::WebSocketBounds;
pub use memory::{
    ADDRESS_ROW_BYTES, HANDSHAKE_BYTES, IDLE_SESSION_BYTES, Machine, Memory, PROCESS_BYTES, TLS_RECEIVE_BYTES,
};
pub use range::{LimitError, Preset, Range, Unit, Value, parse_duration, parse_size};
pub use row::Row;
pub use rules::{DRAIN, Drain, HSTS, RECORD_BYTES_MAX, RULES, Rules, SITE};
pub use table::{FIELDS_MAX, LIMITS, Limits, PROCESS_DESCRIPTORS, RESPONSE_FIELDS_MAX};

/// How many seconds' worth of a rate may be used at once.
pub const BURST_S: u64 = 10;

/// Range and default of each key of a table.
pub fn ranges<T>(rows: &'static [Row<T>]) -> Vec<(&'static Range, &'static Preset)> {
    rows.iter().map(|row| (&row.range, &row.preset)).collect()
}

/// Range and default of `key`, in whichever table it is.
pub fn bounded(key: &str) -> Option<(&'static Range, &'static Preset)> {
    let all = [ranges(&LIMITS), ranges(&RULES), ranges(&DRAIN)];
    all.into_iter().flatten().chain(SITE).find(|(range, _)| range.key == key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use range::GIB;

    const PI: Machine = Machine { cores: 4, ram_bytes: 4 * GIB, budget_bytes: GIB, handshakes_per_s: 100 };

    /// Each bound of each row is one that its field holds.
    fn fit<T: Clone>(rows: &'static [Row<T>], settings: &T) {
        for row in rows {
            for value in [row.range.min, row.range.max] {
                let mut changed = settings.clone();
                row.set(&mut changed, value);
                assert_eq!(row.value(&changed), Some(value), "{}", row.range.key);
            }
        }
    }

    #[test]
    fn the_bounds_of_every_row_fit_its_field() {
        fit(&LIMITS, &Limits::default_for(&PI));
        fit(&RULES, &Rules::default());
        fit(&DRAIN, &Drain::default());
    }

    #[test]
    fn every_row_has_a_key_a_meaning_and_a_default_in_range() {
        let all = [ranges(&LIMITS), ranges(&RULES), ranges(&DRAIN), SITE.to_vec()].concat();
        assert_eq!(all.len(), 23 + 10 + 2 + 2);
        for (range, preset) in &all {
            assert!(!range.key.is_empty() && !range.key.ends_with("_ms"), "{}", range.key);
            assert!(range.means.ends_with('.') && !range.means.contains("  "), "{}", range.means);
            assert!(range.min <= range.max, "{}", range.key);
            // What is on or off has no range whose reason one could ask for.
            assert_eq!(range.reason.is_empty(), range.unit == Unit::Switch, "{}", range.key);
            if let Preset::Fixed(value) = preset {
                range.check(*value).unwrap();
            }
        }
        let mut keys: Vec<_> = all.iter().map(|(range, _)| range.key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), all.len());
        assert!(keys.contains(&"handshake_timeout") && keys.contains(&"drain_timeout"));
    }

    #[test]
    fn every_number_is_taken_at_its_bounds_and_refused_beyond() {
        let all = [ranges(&LIMITS), ranges(&RULES), ranges(&DRAIN), SITE.to_vec()].concat();
        for (range, _) in all {
            assert_eq!(range.check(range.min), Ok(range.min));
            assert_eq!(range.check(range.max), Ok(range.max));
            let above = LimitError::OutOfRange { range: *range, found: range.max + 1 };
            assert_eq!(range.check(range.max + 1), Err(above));
            if let Some(below) = range.min.checked_sub(1) {
                let allowed = below == 0 && range.zero.is_some();
                assert_eq!(range.check(below).is_ok(), allowed, "{}", range.key);
            }
            assert_eq!(range.check(0).is_ok(), range.min == 0 || range.zero.is_some(), "{}", range.key);
        }
    }

    #[test]
    fn a_value_out_of_range_is_found_in_every_field() {
        let mut limits = Limits::default_for(&PI);
        limits.check_ranges().unwrap();
        limits.scratch_bytes = 4095;
        assert!(matches!(limits.check_ranges(), Err(LimitError::OutOfRange { found: 4095, .. })));
        let long = std::time::Duration::MAX;
        for wrong in [
            Rules { response_timeout: long, ..Rules::default() },
            Rules { idle_timeout: Some(long), ..Rules::default() },
            Rules { send_proxy_protocol: Some(0), ..Rules::default() },
            Rules { send_proxy_protocol: Some(3), ..Rules::default() },
            Rules { body_bytes_max: Some(0), ..Rules::default() },
        ] {
            assert!(matches!(wrong.check_ranges(), Err(LimitError::OutOfRange { .. })), "{wrong:?}");
        }
        Rules { send_proxy_protocol: Some(2), body_bytes_max: Some(1), ..Rules::default() }
            .check_ranges()
            .unwrap();
        Rules::default().check_ranges().unwrap();
        Drain::default().check_ranges().unwrap();
    }

    #[test]
    fn a_limit_is_set_by_its_name_in_its_form() {
        let mut limits = Limits::default_for(&PI);
        limits.set("head_timeout", Value::Text("1500ms")).unwrap();
        limits.set("head_bytes_max", Value::Text("32KiB")).unwrap();
        limits.set("scratch_bytes", Value::Integer(8192)).unwrap();
        limits.set("socket_buffer_bytes", Value::Integer(0)).unwrap();
        limits.set("workers", Value::Integer(2)).unwrap();
        let found = (limits.head_timeout_ms, limits.head_bytes_max, limits.scratch_bytes, limits.workers);
        assert_eq!(found, (1500, 32_768, 8192, 2));
    }

    #[test]
    fn a_wrong_value_says_what_was_expected_and_changes_nothing() {
        let before = Limits::default_for(&PI);
        let refused = [
            ("head_timeout", Value::Integer(10), ["`head_timeout` is 10", "\"30s\""]),
            ("head_timeout", Value::Text("99ms"), ["`head_timeout` is 99ms", "100ms to 2m"]),
            ("head_timeout", Value::Text("10"), ["\"10\" is not a duration", "\"30s\""]),
            ("head_bytes_max", Value::Text("16KB"), ["\"16KB\" is not a size", "KiB"]),
            ("head_bytes_max", Value::Text("1MiB"), ["`head_bytes_max` is 1MiB", "4KiB to 63KiB"]),
            ("workers", Value::Text("4"), ["`workers` is \"4\"", "without quotes"]),
            ("workers", Value::Integer(-1), ["`workers` is -1", "whole number"]),
            ("workers", Value::Integer(0), ["`workers` is 0", "1 to 64"]),
            (
                "socket_buffer_bytes",
                Value::Integer(1),
                ["`socket_buffer_bytes` is 1", "0 for the kernel's autotuning"],
            ),
            (
                "head_byte_max",
                Value::Integer(1),
                ["no limit `head_byte_max`", "did you mean `head_bytes_max`?"],
            ),
            ("zzz", Value::Integer(1), ["no limit `zzz`", "zzz"]),
        ];
        for (key, value, parts) in refused {
            let mut limits = before.clone();
            let text = limits.set(key, value).unwrap_err().to_string();
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
            assert_eq!(limits, before);
        }
    }

    #[test]
    fn limits_that_bound_each_other_are_checked() {
        let mut limits = Limits::default_for(&PI);
        limits.target_bytes_max = limits.head_bytes_max;
        limits.check().unwrap();
        limits.target_bytes_max += 1;
        let text = limits.check().unwrap_err().to_string();
        assert!(text.contains("target_bytes_max") && text.contains("head_bytes_max"), "{text}");
    }
}
