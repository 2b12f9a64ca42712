//! A small TOML file with a fixed set of keys. serde's code for one type has more bytes than all of this, and a board's program has no room.

use std::borrow::Cow;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Where the file is not as expected: an offset in bytes; 0 for a key that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wrong(pub(crate) usize);

/// A table, of which all keys are read. A key that is missing is an error at the [end](Self::end) only: a misspelt one says more.
pub(crate) struct Keys<'t> {
    /// None if the table itself is missing.
    table: Option<&'t DeTable<'t>>,
    read: Vec<&'static str>,
    is_missing: bool,
}

impl<'t> Keys<'t> {
    pub(crate) fn of(table: &'t DeTable<'t>) -> Self {
        Self { table: Some(table), read: Vec::new(), is_missing: false }
    }

    /// The value of `key`, if it is there and of the type that `read` wants.
    fn value<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&'t DeValue<'t>) -> Option<T>,
    ) -> Result<Option<T>, Wrong> {
        self.read.push(key);
        let Some(value) = self.table.and_then(|table| table.get(key)) else { return Ok(None) };
        read(value.get_ref()).map(Some).ok_or(Wrong(value.span().start))
    }

    pub(crate) fn text_if(&mut self, key: &'static str) -> Result<Option<&'t str>, Wrong> {
        self.value(key, DeValue::as_str)
    }

    pub(crate) fn text(&mut self, key: &'static str) -> Result<&'t str, Wrong> {
        let text = self.text_if(key)?;
        Ok(self.or_missing(text, ""))
    }

    /// A decimal number.
    pub(crate) fn integer(&mut self, key: &'static str) -> Result<i64, Wrong> {
        let decimal = |value: &DeValue<'_>| {
            value.as_integer().filter(|number| number.radix() == 10)?.as_str().parse::<i64>().ok()
        };
        let number = self.value(key, decimal)?;
        Ok(self.or_missing(number, 0))
    }

    pub(crate) fn flag(&mut self, key: &'static str) -> Result<bool, Wrong> {
        let flag = self.value(key, DeValue::as_bool)?;
        Ok(self.or_missing(flag, false))
    }

    pub(crate) fn table(&mut self, key: &'static str) -> Result<Keys<'t>, Wrong> {
        let table = self.value(key, DeValue::as_table)?.map(Keys::of);
        Ok(self.or_missing(table, Keys { table: None, read: Vec::new(), is_missing: false }))
    }

    fn or_missing<T>(&mut self, value: Option<T>, default: T) -> T {
        self.is_missing |= value.is_none();
        value.unwrap_or(default)
    }

    /// No other key is there, and none is missing.
    pub(crate) fn end(self) -> Result<(), Wrong> {
        let other = |key: &&Spanned<Cow<'_, str>>| !self.read.contains(&key.get_ref().as_ref());
        match self.table.and_then(|table| table.keys().find(other)) {
            Some(key) => Err(Wrong(key.span().start)),
            None if self.is_missing => Err(Wrong(0)),
            None => Ok(()),
        }
    }
}

/// Reads a file's text.
pub(crate) fn read<T>(text: &str, read: impl FnOnce(&mut Keys<'_>) -> Result<T, Wrong>) -> Result<T, Wrong> {
    let table = DeTable::parse(text).map_err(|error| Wrong(error.span().map_or(0, |span| span.start)))?;
    let mut keys = Keys::of(table.get_ref());
    let value = read(&mut keys)?;
    keys.end()?;
    Ok(value)
}

/// The line of an offset.
pub(crate) fn line(text: &str, wrong: Wrong) -> usize {
    text.get(..wrong.0).unwrap_or_default().matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_read_once_and_no_other_is_there() {
        let of = |text: &str| {
            read(text, |keys| {
                let mut inner = keys.table("of")?;
                let name = inner.text_if("name")?.map(str::to_owned);
                inner.end()?;
                Ok((keys.text("text")?.to_owned(), keys.integer("number")?, keys.flag("flag")?, name))
            })
        };
        let good = "text = \"a\"\nnumber = 12\nflag = true\nof = { name = \"b\" }\n";
        assert_eq!(of(good), Ok(("a".to_owned(), 12, true, Some("b".to_owned()))));
        assert_eq!(of(&good.replace("name = \"b\"", "")).map(|all| all.3), Ok(None));
        let wrong = |text: &str| line(text, of(text).unwrap_err());
        for (from, to, at) in [
            ("\"a\"", "1", 1),
            ("12", "\"12\"", 2),
            ("12", "12.0", 2),
            ("12", "0xc", 2),
            ("12", "9223372036854775808", 2),
            ("true", "1", 3),
            ("{ name = \"b\" }", "\"b\"", 4),
            ("\"b\"", "1", 4),
            ("name = \"b\"", "other = 1", 4),
            ("flag = true\n", "flag = true\nmore = 1\n", 4),
            ("flag = true\n", "", 1), // a missing key has no line
            ("flag = true", "flag", 3),
            ("number", "nuber", 2),
        ] {
            assert!(good.contains(from));
            assert_eq!(wrong(&good.replace(from, to)), at, "{to}");
        }
    }
}
