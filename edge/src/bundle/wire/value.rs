//! One value of a decoded bundle at a time: texts, names, addresses, networks, and the order of tables.

use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use ipnet::IpNet;

use super::error::Broken;
use super::payload::{Net, TEXT_BYTES_MAX, ZONE_BYTES_MAX};
use crate::bundle::SiteHeader;
use crate::excerpt::Excerpt;
use crate::http::changes;
use crate::names::DnsName;

/// A path prefix: what RFC 3986 §3.3 allows, or a percent sign.
pub(super) fn path(path: &str) -> Result<String, Broken> {
    let fine = |b: u8| b.is_ascii_graphic() && !matches!(b, b'?' | b'#');
    if path.starts_with('/') && path.len() <= TEXT_BYTES_MAX && path.bytes().all(fine) {
        return Ok(path.to_owned());
    }
    let expected = "a path that begins with `/`, in printable ASCII without `?` and `#`";
    Err(Broken::Text { field: "routes.path", found: Excerpt::of(path), expected })
}

/// What a redirect writes in front of the request's path.
pub(super) fn redirect_path(text: &str) -> Result<String, Broken> {
    match text {
        "" => Ok(String::new()),
        _ if !text.ends_with('/') => path(text),
        _ => {
            let expected = "no path, or one without a slash at its end";
            Err(Broken::Text { field: "redirect.path", found: Excerpt::of(text), expected })
        }
    }
}

/// A field of responses; `is_set` elsewhere by the edge.
pub(super) fn header(name: &str, value: Option<&str>, is_set: bool) -> Result<SiteHeader, Broken> {
    let broken = |field, text, expected| Err(Broken::Text { field, found: Excerpt::of(text), expected });
    if !changes::is_name(name) || changes::reserved(name).is_some() || is_set {
        return broken("headers.name", name, "the name of a field that a site may change");
    }
    if let Some(bad) = value.filter(|value| !changes::is_value(value)) {
        return broken("headers.value", bad, "the value of a field, in visible ASCII");
    }
    Ok(SiteHeader { name: name.to_owned(), value: value.map(str::to_owned) })
}

/// Whether Linux could name an interface so: no blank, no control, no `/`; and nothing that ends it in `[…%zone]:port`.
pub fn is_zone(zone: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"/%[]\"'\\".contains(&byte);
    (1..=ZONE_BYTES_MAX).contains(&zone.len()) && zone.bytes().all(plain)
}

pub(super) fn text(field: &'static str, text: &str) -> Result<String, Broken> {
    if !text.is_empty() && text.len() <= TEXT_BYTES_MAX && !text.contains(char::is_control) {
        return Ok(text.to_owned());
    }
    let expected = "1 to 1024 bytes without control characters";
    Err(Broken::Text { field, found: Excerpt::of(text), expected })
}

pub(super) fn absolute(field: &'static str, path: &str, bytes_max: usize) -> Result<PathBuf, Broken> {
    if path.starts_with('/') && path.len() <= bytes_max && !path.contains('\0') {
        return Ok(PathBuf::from(path));
    }
    let expected = "an absolute path, not too long for its use";
    Err(Broken::Text { field, found: Excerpt::of(path), expected })
}

pub(super) fn dns_name(field: &'static str, text: &str) -> Result<DnsName, Broken> {
    let name = DnsName::parse(text).map_err(|error| Broken::Name { field, error })?;
    if name.as_str() == text {
        return Ok(name);
    }
    Err(Broken::Text { field, found: Excerpt::of(text), expected: "lower case and no trailing dot" })
}

pub(super) fn link_local(field: &'static str, ip: Ipv6Addr) -> Result<Ipv6Addr, Broken> {
    if ip.is_unicast_link_local() {
        return Ok(ip);
    }
    Err(Broken::Address {
        field,
        found: ip.to_string(),
        expected: "a link-local address (fe80::/10) before a zone",
    })
}

pub(super) fn zone(field: &'static str, zone: &str) -> Result<String, Broken> {
    if is_zone(zone) {
        return Ok(zone.to_owned());
    }
    let expected = "the name or number of an interface, at most 15 bytes";
    Err(Broken::Text { field, found: Excerpt::of(zone), expected })
}

pub(super) fn ip(field: &'static str, address: IpAddr) -> Result<IpAddr, Broken> {
    if address.to_canonical() == address {
        return Ok(address);
    }
    Err(Broken::Address { field, found: address.to_string(), expected: "an IPv4 address as such" })
}

pub(super) fn port(field: &'static str, port: u16) -> Result<u16, Broken> {
    let refuse = Broken::Number { field, found: 0, expected: "a port from 1 to 65535" };
    if port == 0 { Err(refuse) } else { Ok(port) }
}

pub(super) fn nets(field: &'static str, nets: &[Net], prefix_min: u8) -> Result<Vec<IpNet>, Broken> {
    nets.iter().map(|row| net(field, *row, prefix_min)).collect()
}

pub(super) fn net(field: &'static str, net: Net, prefix_min: u8) -> Result<IpNet, Broken> {
    let found = IpNet::new(net.address, net.prefix).ok();
    let fine = found.filter(|found| found.trunc() == *found && net.prefix >= prefix_min);
    fine.ok_or_else(|| Broken::Address {
        field,
        found: format!("{}/{}", net.address, net.prefix),
        expected: "a network without bits behind its prefix, and not all addresses where they are believed",
    })
}

pub(super) fn index(field: &'static str, index: u16, len: usize) -> Result<(), Broken> {
    let index = usize::from(index);
    if index < len { Ok(()) } else { Err(Broken::Index { field, index, len }) }
}

pub(super) fn ordered(table: &'static str, indexes: impl Iterator<Item = u16>) -> Result<(), Broken> {
    let mut last = 0;
    for (at, index) in indexes.enumerate() {
        if index < last {
            return Err(Broken::Order { table, at });
        }
        last = index;
    }
    Ok(())
}

/// Whether each of `len` rows is one of `indexes`.
pub(super) fn used(
    table: &'static str,
    len: usize,
    indexes: impl Iterator<Item = u16>,
) -> Result<(), Broken> {
    let mut seen = vec![false; len];
    indexes.for_each(|index| {
        if let Some(seen) = seen.get_mut(usize::from(index)) {
            *seen = true;
        }
    });
    match seen.iter().position(|seen| !seen) {
        Some(at) => Err(Broken::Unused { table, at }),
        None => Ok(()),
    }
}
