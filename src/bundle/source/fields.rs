//! `redirect`, `hsts`, `record_bytes_max` and `[site.headers]` of a site.

use toml::de::{DeTable, DeValue};

use super::parsed::Lined;
use super::typed::{Reader, Value};
use super::values::Bad;
use crate::bundle::SiteHeader;
use crate::bundle::finding::{Code, Finding, listed};
use crate::bundle::keys::{HEADERS, SITE};
use crate::excerpt::Excerpt;
use crate::http::changes::{
    HSTS_FIELD, LINES_BYTES_MAX, NAME_BYTES_MAX, is_name, is_value, line_bytes, reserved,
};
use crate::limits::{HSTS, RECORD_BYTES_MAX, Range};

/// Keys that mean something where no app is.
const WITHOUT_APP: [&str; 8] =
    ["hosts", "acme", "local", "redirect", "hsts", "record_bytes_max", "headers", "access_log"];

impl Reader<'_> {
    /// Says so where a site that redirects has keys of an app.
    pub(super) fn only_redirects(&mut self, table: &DeTable<'_>, line: u32) {
        let known = SITE.names();
        let of_app = |key: &&str| table.contains_key(*key) && !WITHOUT_APP.contains(key);
        let keys: Vec<_> = known.into_iter().filter(of_app).collect();
        if keys.is_empty() {
            return;
        }
        let keys = listed(keys);
        let finding = Finding::new(
            Code::RedirectWithApp,
            format!("this site redirects every request, and has keys of an app: {keys}"),
        )
        .expected("`redirect`, or `upstream` and what belongs to it")
        .found(format!("`redirect` and {keys}"))
        .remedy(format!(
            "To redirect, remove {keys}. To serve the app, remove `redirect`. Where only some of the hosts are to redirect, \
             give those a [[site]] of their own."
        ));
        self.push(line, finding);
    }

    /// `hsts` in whole seconds.
    pub(super) fn hsts(&mut self, table: &DeTable<'_>) -> Option<Lined<u32>> {
        let Lined { value, line } = self.lined(table, &HSTS)?;
        Some(Lined { value: u32::try_from(value / 1000).unwrap_or(u32::MAX), line })
    }

    pub(super) fn record_bytes_max(&mut self, table: &DeTable<'_>) -> Option<Lined<u16>> {
        let Lined { value, line } = self.lined(table, &RECORD_BYTES_MAX)?;
        Some(Lined { value: u16::try_from(value).ok()?, line })
    }

    /// The value of `range`'s key, with its line.
    fn lined(&mut self, table: &DeTable<'_>, range: &Range) -> Option<Lined<u64>> {
        let line = table.get(range.key).map_or(0, |value| self.line_of(value));
        Some(Lined { value: self.ranged(table, range)?, line })
    }

    /// `[site.headers]`; `hsts` sets a field already.
    pub(super) fn headers(&mut self, table: &DeTable<'_>, hsts: bool) -> Vec<SiteHeader> {
        let Some(value) = table.get("headers") else { return Vec::new() };
        let Some(fields) = self.table(value, &HEADERS) else { return Vec::new() };
        let line = self.line_of(value);
        self.room(line, "headers", fields.len());
        let mut found: Vec<Lined<SiteHeader>> = Vec::new();
        for (name, value) in fields.iter() {
            let line = self.line_of(name);
            let Some(header) = self.header(line, name.get_ref(), value, hsts) else { continue };
            let same = |other: &&Lined<SiteHeader>| other.value.name.eq_ignore_ascii_case(&header.name);
            match found.iter().find(same).map(|other| other.line) {
                Some(other) => self.push(line.max(other), twice(&header.name, line.min(other))),
                None => found.push(Lined { value: header, line }),
            }
        }
        let bytes = |header: &Lined<SiteHeader>| {
            header.value.value.as_ref().map_or(0, |value| line_bytes(&header.value.name, value))
        };
        let bytes: usize = found.iter().map(bytes).sum();
        if bytes > LINES_BYTES_MAX {
            self.push(line, too_long(bytes));
        }
        found.sort_by_cached_key(|header| header.value.name.to_ascii_lowercase());
        found.into_iter().map(|header| header.value).collect()
    }

    fn header(&mut self, line: u32, name: &str, value: &Value<'_>, hsts: bool) -> Option<SiteHeader> {
        if !is_name(name) {
            self.push(line, no_name(name));
            return None;
        }
        if let Some(reason) = reserved(name) {
            self.push(line, not_changeable(name, reason));
            return None;
        }
        if hsts && name.eq_ignore_ascii_case(HSTS_FIELD) {
            self.push(line, set_by_hsts());
            return None;
        }
        let value = match value.get_ref() {
            DeValue::Boolean(false) => None,
            DeValue::String(text) if is_value(text) => Some(text.to_string()),
            DeValue::String(text) => {
                let key = Excerpt::of(name);
                self.bad(value, &key, no_value(&key, text));
                return None;
            }
            _ => {
                let key = Excerpt::of(name);
                self.wrong_type(value, &key, "a text in quotes, or false to remove the field", "\"DENY\"");
                return None;
            }
        };
        Some(SiteHeader { name: name.to_owned(), value })
    }
}

fn no_name(name: &str) -> Finding {
    let shown = Excerpt::of(name);
    Finding::new(Code::BadValue, format!("`{shown}` is not the name of a response field"))
        .expected(format!(
            "a name of 1 to {NAME_BYTES_MAX} letters, digits and hyphens, without blanks and colon (RFC 9110 §5.1)"
        ))
        .found(format!("`{shown}`"))
        .remedy("Write for example X-Frame-Options = \"DENY\", or Server = false to remove a field.")
}

fn not_changeable(name: &str, reason: &str) -> Finding {
    let shown = Excerpt::of(name);
    Finding::new(Code::FieldReserved, format!("no site may change the field `{shown}`: {reason}"))
        .expected(
            "a field that is neither the edge's own, nor part of framing, connection or WebSocket handshake",
        )
        .found(format!("`{shown}` in [site.headers]"))
        .remedy("Remove it.")
}

fn set_by_hsts() -> Finding {
    Finding::new(Code::DuplicateField, format!("`hsts` and [site.headers] both set `{HSTS_FIELD}`"))
        .expected("one of them: browsers read the first such field only (RFC 6797 §8.1)")
        .found("both")
        .remedy(format!(
            "Remove the line in [site.headers]. For `includeSubDomains` or `preload` remove `hsts` in its place, and write the whole \
             value: {HSTS_FIELD} = \"max-age=31536000; includeSubDomains\"."
        ))
}

fn twice(name: &str, earlier_line: u32) -> Finding {
    let shown = Excerpt::of(name);
    Finding::new(Code::DuplicateField, format!("the field `{shown}` appears twice in [site.headers]"))
        .expected("each field once: upper and lower case are the same in a name (RFC 9110 §5.1)")
        .found(format!("it is also on line {earlier_line}"))
        .remedy("Remove one of them.")
}

fn no_value(name: &str, text: &str) -> Bad {
    let expected =
        "a value in visible ASCII, without blanks at its ends and without line ends (RFC 9110 §5.5)";
    match text {
        "" => Bad::new(expected, format!("Write {name} = false to remove the field.")),
        _ => Bad::new(expected, "Remove the other characters: what they mean is left to each client."),
    }
}

fn too_long(bytes: usize) -> Finding {
    Finding::new(Code::TooMany, "the fields of this site are too long")
        .expected(format!(
            "at most {LINES_BYTES_MAX} bytes of names and values: clients in Node accept a head of 16 KiB"
        ))
        .found(format!("{bytes} bytes"))
        .remedy("Shorten the longest value (mostly Content-Security-Policy), or let the app send it.")
}
