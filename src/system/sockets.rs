//! Listening sockets that a service manager hands over (`sd_listen_fds(3)`), told apart by name: `https`, `http`, `admin`.
//!
//! They are the listeners then, and `[listen]` must say the same: a port that is bound and not served, or served and not
//! bound, is refused at start. Nothing is taken that was meant for another process (`LISTEN_PID`).
//!
//! Beside them are the descriptors that the last process stored: `sessions`. Others are of another version, and are closed.

use std::fmt::Display;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use listenfd::ListenFd;
use socket2::{Domain, SockRef, Socket, Type};
use tracing::warn;

use crate::admin;
use crate::bundle::{Admin, Listen};
use crate::excerpt::Excerpt;
use crate::system::descriptor_store;

/// What was handed over; empty without a service manager.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Sockets named `https`.
    pub https: Vec<TcpListener>,
    /// Sockets named `http`.
    pub http: Vec<TcpListener>,
    /// The socket named `admin`.
    pub admin: Option<AdminListener>,
    /// Sockets named `sessions`, which the last process stored.
    pub sessions: Vec<OwnedFd>,
}

/// The admin listener is of either kind.
#[derive(Debug)]
pub enum AdminListener {
    /// Its file is the service manager's, and stays.
    Unix(UnixListener),
    /// On a loopback address.
    Tcp(TcpListener),
}

/// Why the sockets cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SocketsError {
    /// The environment contradicts itself, or a descriptor is not open.
    #[error(
        "LISTEN_FDS and LISTEN_FDNAMES do not follow sd_listen_fds(3): {0}. Start the edge through its units"
    )]
    Environment(io::Error),
    /// A name that means nothing here.
    #[error(
        "an inherited socket is named `{name}` (descriptor {descriptor}): expected `https`, `http` or `admin`. Write \
         FileDescriptorName=https into its socket unit"
    )]
    Name {
        /// As the service manager gave it; `unknown` where it gave none.
        name: String,
        /// Its number.
        descriptor: RawFd,
    },
    /// Something else than a listening socket of the right kind.
    #[error(
        "the inherited socket `{name}` (descriptor {descriptor}) cannot be used: expected {expected}, found {found}. \
            sanedge-{name}.socket needs ListenStream= and Accept=no"
    )]
    Kind {
        /// Its name.
        name: &'static str,
        /// Its number.
        descriptor: RawFd,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// `[listen]` says something else.
    #[error(
        "`{name}` in [listen] is {expected}, but the inherited sockets of that name are {found}: {remedy}"
    )]
    Disagree {
        /// The key, which is the name.
        name: &'static str,
        /// What the bundle says.
        expected: String,
        /// What was inherited.
        found: String,
        /// What to do.
        remedy: String,
    },
}

impl Inherited {
    /// Takes the sockets. To be called once, before the first thread: it changes the environment.
    ///
    /// # Errors
    /// A promise of the environment that does not hold, a listening socket with an unknown name, or none behind a known one.
    pub fn take() -> Result<Self, SocketsError> {
        // Counted first: the names may be another process's, and would be found too many.
        if sd_notify::listen_fds().map_err(SocketsError::Environment)?.len() == 0 {
            return Ok(Self::default());
        }
        let named = sd_notify::listen_fds_with_names().map_err(SocketsError::Environment)?;
        let mut sockets = ListenFd::from_env();
        let mut inherited = Self::default();
        for (index, (descriptor, name)) in named.enumerate() {
            match name.as_str() {
                "https" => inherited.https.push(tcp(&mut sockets, index, "https", descriptor)?),
                "http" => inherited.http.push(tcp(&mut sockets, index, "http", descriptor)?),
                "admin" if inherited.admin.is_none() => {
                    inherited.admin = Some(either(&mut sockets, index, descriptor)?);
                }
                "admin" => return Err(one_admin(descriptor)),
                _ => {
                    let is_ours = name == descriptor_store::NAME;
                    let parcel =
                        is_ours.then(|| stored(&mut sockets, index, (Domain::UNIX, Type::SEQPACKET)));
                    match parcel.flatten() {
                        Some(parcel) => inherited.sessions.push(parcel),
                        None => ignore(&mut sockets, index, name, descriptor)?,
                    }
                }
            }
        }
        Ok(inherited)
    }

    /// Whether clients come in by inherited sockets; else the edge binds its own.
    #[must_use]
    pub fn serves(&self) -> bool {
        !(self.https.is_empty() && self.http.is_empty())
    }

    /// Compares with what the bundle says. Of `https` and `http` either both are inherited or none: who hands over one
    /// gave no right to bind the other.
    ///
    /// # Errors
    /// The first difference, with what to do about it.
    pub fn agree(&self, listen: &Listen) -> Result<(), SocketsError> {
        if self.serves() {
            agree("https", &listen.https, self.https.iter().map(Bound::of).collect())?;
            agree("http", &listen.http, self.http.iter().map(Bound::of).collect())?;
        }
        match &self.admin {
            Some(AdminListener::Unix(listener)) => {
                let address = listener.local_addr().ok();
                agree_admin(listen.admin.as_ref(), address.as_ref().and_then(|at| at.as_pathname()), None)
            }
            Some(AdminListener::Tcp(bound)) => {
                agree_admin(listen.admin.as_ref(), None, Some(&Bound::of(bound)))
            }
            None => Ok(()),
        }
    }
}

/// The same check for the next process: `sockets` are name and address of each socket that the service manager will hand over.
///
/// # Errors
/// The first difference, with what to do about it.
pub fn will_agree(listen: &Listen, sockets: &[(&str, &str)]) -> Result<(), SocketsError> {
    let bound = |address: &str| Bound { address: address.parse().ok(), only_v6: false };
    let of = |name: &str| -> Vec<Bound> {
        sockets.iter().filter(|socket| socket.0 == name).map(|socket| bound(socket.1)).collect()
    };
    let (https, http) = (of("https"), of("http"));
    if !(https.is_empty() && http.is_empty()) {
        agree("https", &listen.https, https)?;
        agree("http", &listen.http, http)?;
    }
    match sockets.iter().find(|socket| socket.0 == "admin") {
        Some((_, path)) if path.starts_with('/') => {
            agree_admin(listen.admin.as_ref(), Some(Path::new(path)), None)
        }
        Some((_, address)) => agree_admin(listen.admin.as_ref(), None, Some(&bound(address))),
        None => Ok(()),
    }
}

fn tcp(
    sockets: &mut ListenFd,
    index: usize,
    name: &'static str,
    descriptor: RawFd,
) -> Result<TcpListener, SocketsError> {
    let taken = sockets.take_tcp_listener(index).map_err(|error| error.to_string());
    let listens = taken.and_then(|taken| {
        let listener =
            taken.filter(|listener| listener.as_raw_fd() == descriptor).ok_or("another descriptor")?;
        if is_listening(SockRef::from(&listener)) {
            Ok(listener)
        } else {
            Err("one that is not listening".to_owned())
        }
    });
    let expected = "a listening TCP socket";
    listens.map_err(|found| SocketsError::Kind { name, descriptor, expected, found })
}

fn either(sockets: &mut ListenFd, index: usize, descriptor: RawFd) -> Result<AdminListener, SocketsError> {
    let Ok(Some(listener)) = sockets.take_unix_listener(index) else {
        return tcp(sockets, index, "admin", descriptor).map(AdminListener::Tcp);
    };
    if is_listening(SockRef::from(&listener)) {
        return Ok(AdminListener::Unix(listener));
    }
    let (expected, found) = ("a listening Unix socket", "one that is not listening".to_owned());
    Err(SocketsError::Kind { name: "admin", descriptor, expected, found })
}

/// A socket of this kind, if it is one. Another is left where it is.
fn stored(sockets: &mut ListenFd, index: usize, (domain, kind): (Domain, Type)) -> Option<OwnedFd> {
    sockets.take_custom(index, domain.into(), kind.into(), "socket").ok().flatten()
}

/// Closes a socket that another version may have stored. One that listens was meant to be served. Other descriptors stay open and unread:
/// only `unsafe` closes one by its number.
fn ignore(sockets: &mut ListenFd, index: usize, name: String, descriptor: RawFd) -> Result<(), SocketsError> {
    let kinds = [
        // Both families of the internet.
        (Domain::IPV4, Type::STREAM),
        (Domain::UNIX, Type::STREAM),
        (Domain::UNIX, Type::SEQPACKET),
        (Domain::UNIX, Type::DGRAM),
        (Domain::IPV4, Type::DGRAM),
    ];
    let socket = kinds.into_iter().find_map(|kind| stored(sockets, index, kind));
    if socket.as_ref().is_some_and(|socket| is_listening(SockRef::from(socket))) {
        return Err(SocketsError::Name { name, descriptor });
    }
    let name = Excerpt::of(&name);
    warn!(%name, descriptor, "an inherited descriptor with an unknown name is not used");
    Ok(())
}

fn is_listening(socket: SockRef<'_>) -> bool {
    socket.is_listener().unwrap_or(false)
}

fn one_admin(descriptor: RawFd) -> SocketsError {
    let (expected, found) = ("one socket", "a second one".to_owned());
    SocketsError::Kind { name: "admin", descriptor, expected, found }
}

/// Every address has its socket, and every socket its address.
fn agree(name: &'static str, asked: &[SocketAddr], mut rest: Vec<Bound>) -> Result<(), SocketsError> {
    let given = listed(&rest);
    let differs = || disagree(name, &listed(asked), &given);
    // Those that take any port choose last.
    let (any, fixed): (Vec<&SocketAddr>, Vec<_>) = asked.iter().partition(|address| address.port() == 0);
    for address in fixed.into_iter().chain(any) {
        let at = rest.iter().position(|bound| bound.is(*address)).ok_or_else(differs)?;
        rest.swap_remove(at);
    }
    if rest.is_empty() { Ok(()) } else { Err(differs()) }
}

/// An inherited socket has a path or an address.
fn agree_admin(
    asked: Option<&Admin>,
    path: Option<&Path>,
    bound: Option<&Bound>,
) -> Result<(), SocketsError> {
    let unix = |path: &Path| format!("unix:{}", Excerpt::of_path(path));
    let asked_text = match asked {
        Some(Admin::Unix(asked)) => unix(asked),
        Some(Admin::Tcp(asked)) => asked.to_string(),
        None => unix(Path::new(admin::DEFAULT_PATH)),
    };
    let (agrees, found) = match (path.map(unix), bound) {
        (Some(found), _) => (found == asked_text, found),
        (None, Some(bound)) => {
            (matches!(asked, Some(Admin::Tcp(asked)) if bound.is(*asked)), bound.to_string())
        }
        (None, None) => (false, "a Unix socket without a path".to_owned()),
    };
    if agrees { Ok(()) } else { Err(disagree("admin", &asked_text, &found)) }
}

fn disagree(name: &'static str, expected: &str, found: &str) -> SocketsError {
    let remedy = match (expected, found) {
        (_, NONE) => {
            format!("`systemctl enable --now sanedge-{name}.socket`, or leave `{name}` out of sanedge.toml")
        }
        (NONE, _) => {
            format!("`systemctl disable --now sanedge-{name}.socket`, or add `{name}` to sanedge.toml")
        }
        _ => format!("make ListenStream= of sanedge-{name}.socket and `{name}` in sanedge.toml equal"),
    };
    SocketsError::Disagree { name, expected: expected.to_owned(), found: found.to_owned(), remedy }
}

const NONE: &str = "none";

fn listed(items: &[impl Display]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    if items.is_empty() { NONE.to_owned() } else { items.join(", ") }
}

/// Where an inherited socket listens.
#[derive(Debug)]
struct Bound {
    address: Option<SocketAddr>,
    /// `[::]` that leaves IPv4 out.
    only_v6: bool,
}

impl Bound {
    fn of(listener: &TcpListener) -> Self {
        let address = listener.local_addr().ok();
        let any = address.is_some_and(|address| address.ip() == Ipv6Addr::UNSPECIFIED);
        Self { address, only_v6: any && SockRef::from(listener).only_v6().unwrap_or(false) }
    }

    /// Whether this is the listener that [`bind`](crate::edge) would have made of `asked`. Port 0 is any.
    fn is(&self, asked: SocketAddr) -> bool {
        let Some(found) = self.address else { return false };
        let same_ip = found.ip() == asked.ip() || is_all_without_ipv6(asked.ip(), found.ip());
        same_ip && !self.only_v6 && (asked.port() == 0 || asked.port() == found.port())
    }
}

impl Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.address {
            Some(address) if self.only_v6 => {
                write!(f, "{address} for IPv6 only (BindIPv6Only=both is missing)")
            }
            Some(address) => address.fmt(f),
            None => f.write_str("a socket without an address"),
        }
    }
}

/// A kernel without IPv6 makes `0.0.0.0` of `[::]`, for systemd as for us.
fn is_all_without_ipv6(asked: IpAddr, found: IpAddr) -> bool {
    asked == Ipv6Addr::UNSPECIFIED
        && found == Ipv4Addr::UNSPECIFIED
        && Socket::new(Domain::IPV6, Type::STREAM, None).is_err()
}
