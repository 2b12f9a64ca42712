//! systemd's descriptor store (`FileDescriptorStoreMax=`): it keeps open sessions from the end of one process to the start of the next.
//!
//! Each parcel of sessions is the only message in a pair of sockets, of which the service manager holds the receiving end. A message
//! can be received once. That is what keeps two processes from going on with the same session, which would repeat the nonces of its
//! AEAD.

use std::io::{self, IoSlice, IoSliceMut, PipeReader, pipe};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, sendmsg, socketpair,
};
use rustix::time::{ClockId, clock_gettime};
use zeroize::Zeroizing;

use super::parcels::{self, DESCRIPTORS_MAX, Fault, HEAD_BYTES, Head, MESSAGE_BYTES_MAX};
use super::process::{open_files, raise_open_files};
use crate::edge::shared::handover::{Frozen, Kind};

/// `FDNAME=` of parcels.
pub const NAME: &str = "sessions";
/// `FDNAME=` of a descriptor that is stored for a moment. If the process ends meanwhile, the next one closes it.
const PROBE: &str = "probe";

/// How long the service manager has for a message, and for a barrier (sd_notify_barrier(3)).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait after the barrier for systemd to close refused descriptors: systemd 254 and later close them asynchronously.
const REFUSAL_TIME: Duration = Duration::from_millis(200);
/// The same where the store is believed to have room for all descriptors.
const ROOMY_REFUSAL_TIME: Duration = Duration::from_millis(20);
/// How long a send to the service manager may block.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(1);
/// A record with little or no buffered data.
const LITTLE_BYTES: usize = 1024;
/// Room for other descriptors beside those of the sessions.
const OTHER_DESCRIPTORS: u64 = 64;

/// What became of sessions that were to be stored.
#[derive(Default)]
pub struct Stored {
    /// No other process has these sessions, so this one may resume them.
    pub not_stored: Vec<Frozen>,
    /// Sessions that the service manager has now.
    pub sessions: usize,
    /// In how many parcels.
    pub parcels: usize,
    /// Why some were not stored, if some were not.
    pub why: Option<String>,
}

/// What the last process stored.
#[derive(Default)]
pub struct Taken {
    /// No other process has these sessions.
    pub sessions: Vec<Frozen>,
    /// How many ended because they could not be used, as far as that is known.
    pub ended: usize,
    /// Why, if some ended.
    pub why: Option<String>,
}

/// Stores as many `sessions` as possible with the service manager of `NOTIFY_SOCKET`. The kernel copies them; their buffered data, without
/// the first KiB of each, takes at most `copies_bytes_max` there. Blocks, for 5 s if the manager does not answer. After a session is frozen,
/// this process must neither encrypt nor decrypt data for it.
pub fn store(sessions: Vec<Frozen>, copies_bytes_max: u64) -> Stored {
    match Manager::from_env() {
        Ok(manager) => manager.store(sessions, copies_bytes_max),
        Err(why) => Stored { not_stored: sessions, why: Some(why), ..Stored::default() },
    }
}

/// Takes the sessions in `sockets`, which the service manager handed over under the name [`NAME`]. Blocks, for 5 s if the manager does
/// not answer.
pub fn take(sockets: Vec<OwnedFd>) -> Taken {
    if sockets.is_empty() {
        return Taken::default();
    }
    match Manager::from_env() {
        Ok(manager) => manager.take(sockets),
        Err(why) => end(&sockets, boot_time(), why),
    }
}

/// Whether systemd runs this process and stores descriptors. Stores one to find out. Blocks, for up to 5 s if systemd does not answer.
pub fn is_confirmed() -> bool {
    // Only systemd sets INVOCATION_ID (systemd.exec(5)). Other service managers may not answer.
    std::env::var_os("INVOCATION_ID").is_some()
        && Manager::from_env().is_ok_and(|manager| manager.keeps().unwrap_or(false))
}

/// The service manager's end of sd_notify(3).
#[derive(Debug)]
pub struct Manager(UnixDatagram);

/// A parcel on its way.
struct Parcel {
    sessions: Vec<Frozen>,
    /// Hangs up when the last copy of the other end is closed.
    ours: OwnedFd,
    theirs: OwnedFd,
}

impl Manager {
    fn from_env() -> Result<Self, String> {
        let path = std::env::var_os("NOTIFY_SOCKET").ok_or("there is no service manager (NOTIFY_SOCKET)")?;
        Self::at(path.as_bytes()).map_err(|error| format!("the service manager does not listen: {error}"))
    }

    /// At a path, or at an abstract address, which begins with `@`.
    ///
    /// # Errors
    /// No socket is bound to the address.
    pub fn at(address: &[u8]) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        let address = match address {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
        };
        socket.connect_addr(&address)?;
        socket.set_write_timeout(Some(MESSAGE_TIMEOUT))?;
        Ok(Self(socket))
    }

    /// [`store`] with this manager.
    pub fn store(&self, mut sessions: Vec<Frozen>, copies_bytes_max: u64) -> Stored {
        sessions.sort_by_cached_key(place);
        let mut room_bytes = copies_bytes_max;
        let (sessions, mut misfits): (Vec<_>, Vec<_>) = sessions.into_iter().partition(|session| {
            let left_bytes = room_bytes.checked_sub(session.record.len().saturating_sub(LITTLE_BYTES) as u64);
            room_bytes = left_bytes.unwrap_or(room_bytes);
            left_bytes.is_some()
        });
        let mut why = (!misfits.is_empty())
            .then(|| "the sessions have more buffered data than `handshakes_max` leaves room for".to_owned());
        let (packed, too_large) = parcels::pack(sessions);
        if !too_large.is_empty() {
            why = Some("a session has too much data for a message".to_owned());
            misfits.extend(too_large);
        }
        let mut stored = Stored { not_stored: misfits, why, ..Stored::default() };
        // The kernel counts descriptors on their way against the sender's limit (ETOOMANYREFS), as well as open ones.
        let descriptors: usize = packed.iter().flatten().map(|session| session.descriptors.len()).sum();
        raise_open_files(open_files() + (descriptors + 2 * packed.len()) as u64 + OTHER_DESCRIPTORS);

        let now = boot_time();
        let mut sent = Vec::with_capacity(packed.len());
        for sessions in packed {
            match send_parcel(&sessions, now) {
                Ok((ours, theirs)) => sent.push(Parcel { sessions, ours, theirs }),
                Err(error) => {
                    stored.why = Some(format!("a message was not sent: {error}"));
                    stored.not_stored.extend(sessions);
                }
            }
        }
        if sent.is_empty() {
            return stored;
        }
        if let Err(error) = self.hand_over(&sent) {
            stored.why = Some(format!("the service manager does not confirm: {error}"));
            let _ = self.say(&forget(), &[]);
            // The manager may hold some parcels nevertheless. A message that is received here cannot be received by another process.
            let received = sent.into_iter().filter(|parcel| discard(&parcel.theirs));
            stored.not_stored.extend(received.flat_map(|parcel| parcel.sessions));
            return stored;
        }
        let (ours, sessions): (Vec<_>, Vec<_>) =
            sent.into_iter().map(|Parcel { sessions, ours, .. }| (ours, sessions)).unzip();
        // systemd 252 does not set FDSTORE, and it closes refused descriptors before the barrier.
        let is_roomy = told_room().is_none_or(|room| ours.len() < room);
        thread::sleep(if is_roomy { ROOMY_REFUSAL_TIME } else { REFUSAL_TIME });
        for (sessions, refused) in sessions.into_iter().zip(hung_up(&ours)) {
            if refused {
                stored.why = Some(
                    "the service manager has no room for the sessions: raise FileDescriptorStoreMax="
                        .to_owned(),
                );
                stored.not_stored.extend(sessions);
            } else {
                stored.sessions += sessions.len();
                stored.parcels += 1;
            }
        }
        stored
    }

    fn hand_over(&self, parcels: &[Parcel]) -> io::Result<()> {
        // Not polled: they hang up when this process ends.
        let state = format!("FDSTORE=1\nFDNAME={NAME}\nFDPOLL=0");
        let theirs: Vec<BorrowedFd<'_>> = parcels.iter().map(|parcel| parcel.theirs.as_fd()).collect();
        theirs.chunks(DESCRIPTORS_MAX).try_for_each(|some| self.say(&state, some))?;
        self.barrier()
    }

    /// [`is_confirmed`] with this manager.
    ///
    /// # Errors
    /// It does not answer.
    pub fn keeps(&self) -> io::Result<bool> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        self.say(&format!("FDSTORE=1\nFDNAME={PROBE}\nFDPOLL=0"), &[theirs.as_fd()])?;
        drop(theirs);
        self.barrier()?;
        thread::sleep(told_room().map_or(REFUSAL_TIME, |_| ROOMY_REFUSAL_TIME));
        let is_kept = !hung_up(&[ours]).contains(&true);
        self.say(&format!("FDSTOREREMOVE=1\nFDNAME={PROBE}"), &[])?;
        Ok(is_kept)
    }

    /// [`take`] from this manager.
    pub fn take(&self, sockets: Vec<OwnedFd>) -> Taken {
        let now = boot_time();
        let (mut taken, mut good, mut bad) = (Taken::default(), Vec::new(), Vec::new());
        let mut descriptors = 0;
        for socket in sockets {
            match peek(&socket, now) {
                Ok((head, bytes)) => {
                    descriptors += head.descriptors;
                    good.push((socket, head, bytes));
                }
                Err(fault) => {
                    taken.why = fault.map(|fault| fault.to_string()).or(taken.why);
                    bad.push(socket);
                }
            }
        }
        raise_open_files(open_files() + descriptors as u64 + OTHER_DESCRIPTORS);
        // The next start must not get these sockets again. The first message is received only after systemd confirms that.
        if let Err(error) = self.say(&forget(), &[]).and_then(|()| self.barrier()) {
            let sockets: Vec<OwnedFd> = good.into_iter().map(|(socket, ..)| socket).chain(bad).collect();
            return end(&sockets, now, format!("the service manager does not confirm: {error}"));
        }
        for socket in bad {
            taken.ended += usize::from(discard(&socket));
        }
        for (socket, head, bytes) in good {
            match receive(&socket, bytes, now) {
                Ok(sessions) => {
                    let damaged = head.sessions.saturating_sub(sessions.len());
                    if damaged > 0 {
                        taken.ended += damaged;
                        taken.why = Some("a record is damaged".to_owned());
                    }
                    taken.sessions.extend(sessions);
                }
                Err(error) => {
                    taken.ended += head.sessions;
                    taken.why = Some(error.to_string());
                }
            }
        }
        taken
    }

    fn say(&self, state: &str, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        send(&self.0, state.as_bytes(), descriptors)
    }

    /// Waits until the manager has worked through what was sent before.
    fn barrier(&self) -> io::Result<()> {
        let (ours, theirs) = pipe()?;
        self.say("BARRIER=1", &[theirs.as_fd()])?;
        drop(theirs);
        if has_hung_up(&ours) { Ok(()) } else { Err(io::ErrorKind::TimedOut.into()) }
    }
}

/// The order in which sessions are stored, for a store that is too small. WebSockets come first, because their clients notice the end of a
/// connection. Sessions with much data come later, because a few of them must not take the room of all others.
fn place(session: &Frozen) -> (u8, bool) {
    let kind = match session.kind() {
        Some(Kind::WebSocket) => 0,
        Some(Kind::Http | Kind::Silent | Kind::SilentPort80) => 1,
        Some(Kind::Sids) | None => 2,
    };
    (kind, session.record.len() > LITTLE_BYTES)
}

/// `FileDescriptorStoreMax=`, which systemd 254 and later pass in `FDSTORE` unless it is 0.
fn told_room() -> Option<usize> {
    std::env::var("FDSTORE").ok()?.parse().ok()
}

fn forget() -> String {
    format!("FDSTOREREMOVE=1\nFDNAME={NAME}")
}

/// Discards the parcels in `sockets`, which ends their sessions, even if another process holds copies of these sockets.
fn end(sockets: &[OwnedFd], now: Duration, why: String) -> Taken {
    let mut ended = 0;
    for socket in sockets {
        let sessions = peek(socket, now).map_or(1, |(head, _)| head.sessions);
        ended += if discard(socket) { sessions } else { 0 };
    }
    Taken { ended, why: Some(why), sessions: Vec::new() }
}

/// A pair of sockets, with these sessions on the way from the first to the second.
fn send_parcel(sessions: &[Frozen], now: Duration) -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    // As far as allowed; the default is enough.
    let _ = set_socket_send_buffer_size(&ours, 2 * MESSAGE_BYTES_MAX);
    let records = sessions.iter().map(|session| (session.descriptors.len(), session.record.as_slice()));
    let message = parcels::write(now, records);
    let descriptors = sessions.iter().flat_map(|session| &session.descriptors);
    let descriptors: Vec<BorrowedFd<'_>> = descriptors.map(AsFd::as_fd).collect();
    send(&ours, &message, &descriptors)?;
    Ok((ours, theirs))
}

fn send(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The head of the parcel in `socket` and the length of its message, which stay there; no fault where there is no message.
fn peek(socket: &OwnedFd, now: Duration) -> Result<(Head, usize), Option<Fault>> {
    let mut head = [0; HEAD_BYTES];
    let flags = RecvFlags::PEEK | RecvFlags::TRUNC | RecvFlags::DONTWAIT;
    let (read, bytes) = recv(socket, head.as_mut_slice(), flags).map_err(|_| None)?;
    if bytes == 0 {
        return Err(None);
    }
    let read = Head::read(head.get(..read).unwrap_or_default(), now)?;
    if bytes <= MESSAGE_BYTES_MAX { Ok((read, bytes)) } else { Err(Some(Fault::Damaged)) }
}

/// Receives a message and closes its descriptors; whether there was one.
fn discard(socket: &OwnedFd) -> bool {
    let flags = RecvFlags::TRUNC | RecvFlags::DONTWAIT;
    recv(socket, [0; 1].as_mut_slice(), flags).is_ok_and(|(_, bytes)| bytes > 0)
}

fn receive(socket: &OwnedFd, bytes: usize, now: Duration) -> io::Result<Vec<Frozen>> {
    let mut message = Zeroizing::new(vec![0; bytes]);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut message)], &mut control, flags)?;
    let mut descriptors = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            descriptors.extend(rights);
        }
    }
    let damaged = |fault: Fault| io::Error::other(fault);
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::other(
            "the sockets of the sessions exceed the limit of open files: raise LimitNOFILE=",
        ));
    }
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(damaged(Fault::Damaged));
    }
    let entries = parcels::read(&message, now).map_err(damaged)?;
    if entries.iter().map(|entry| entry.descriptors).sum::<usize>() != descriptors.len() {
        return Err(damaged(Fault::Damaged));
    }
    let mut descriptors = descriptors.into_iter();
    let sessions = entries.into_iter().filter_map(|entry| {
        let descriptors = descriptors.by_ref().take(entry.descriptors).collect();
        let record = Zeroizing::new(entry.record?.to_vec());
        Some(Frozen { record, descriptors })
    });
    Ok(sessions.collect())
}

/// Which of `sockets` have no open other end.
fn hung_up(sockets: &[OwnedFd]) -> Vec<bool> {
    let mut asked: Vec<PollFd<'_>> =
        sockets.iter().map(|socket| PollFd::new(socket, PollFlags::empty())).collect();
    let _ = poll(&mut asked, Some(&Timespec::default()));
    asked.iter().map(|asked| asked.revents().contains(PollFlags::HUP)).collect()
}

/// Waits for the end of a pipe.
fn has_hung_up(pipe: &PipeReader) -> bool {
    let mut left = ANSWER_TIMEOUT;
    loop {
        let (mut asked, begun) = ([PollFd::new(pipe, PollFlags::empty())], boot_time());
        let timeout = Timespec::try_from(left).unwrap_or_default();
        match poll(&mut asked, Some(&timeout)) {
            Ok(count) => return count > 0,
            // A signal.
            Err(_) => left = left.saturating_sub(boot_time().saturating_sub(begun)),
        }
    }
}

/// Since the boot of the machine, sleep included.
fn boot_time() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
