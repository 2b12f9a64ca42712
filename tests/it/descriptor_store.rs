//! Sessions in the descriptor store of a service manager: none is lost, none is in two processes. The tests of [`alone`] store and take
//! in their own process; they have one of their own, because a child that another test starts holds copies of all sockets for a moment.

use std::os::unix::net::UnixStream;
use std::process::Command;

use crate::support::HOST;
use crate::support::edge::{Edge, PATIENCE, text};
use crate::support::service_manager::ServiceManager;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::Signal;

#[test]
fn nothing_is_lost_between_two_processes() {
    // Three of them wait for what does not come.
    for (tests, passed) in [("descriptor_store::alone", 11), ("descriptor_store::limited", 1)] {
        let mut program = Command::new(std::env::current_exe().unwrap());
        let output = program.args([tests, "--ignored", "--test-threads=4"]).output().unwrap();
        let said = text(&output);
        assert!(output.status.success() && said.contains(&format!(" {passed} passed")), "{said}");
    }
}

/// What another version stored is closed, whatever it is; what listens is to be served, and refused.
#[test]
fn an_unknown_stored_descriptor_is_closed_and_logged() {
    let Some(manager) = ServiceManager::ready("an_unknown_stored_descriptor_is_closed_and_logged") else {
        return;
    };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let manager = manager.with("https", listener);
    let kinds = [SocketType::STREAM, SocketType::SEQPACKET, SocketType::DGRAM];
    let mut inodes = Vec::new();
    for kind in kinds {
        let (socket, _) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
        inodes.push(rustix::fs::fstat(&socket).unwrap().st_ino);
        manager.put("tomorrow", socket);
    }
    let connected = std::net::TcpStream::connect(address).unwrap();
    inodes.push(rustix::fs::fstat(&connected).unwrap().st_ino);
    manager.put("sessions", connected);
    manager.put("of a file", std::fs::File::open("/dev/null").unwrap());
    let desk = Edge::certified_for(&[HOST]).site(&[HOST], "127.0.0.1:9").write();
    let toml = std::fs::read_to_string(desk.toml()).unwrap();
    std::fs::write(desk.toml(), toml.replace("127.0.0.1:0", &address.to_string())).unwrap();

    let edge = manager.serve(desk);
    assert_eq!(edge.https, address);
    manager.wait_for("READY=1");
    let log = edge.log();
    assert_eq!(log.matches("unknown name is not used").count(), 5, "{log}");
    assert!(log.contains("name=tomorrow descriptor=4") && log.contains("descriptor=8"), "{log}");
    let open: Vec<String> = std::fs::read_dir(format!("/proc/{}/fd", edge.pid()))
        .unwrap()
        .filter_map(|entry| Some(std::fs::read_link(entry.ok()?.path()).ok()?.display().to_string()))
        .collect();
    assert!(open.len() > 5);
    for inode in inodes {
        assert!(!open.contains(&format!("socket:[{inode}]")), "{inode} is open: {open:?}");
    }
    // They are no listeners, but do not keep the others from being some.
    let mut edge = manager.restart(edge);
    assert_eq!(edge.https, address);
    edge.signal(Signal::TERM);
    edge.wait_until_ended();
    manager.wait_for("STOPPING=1");
}

/// A connection is closed; a pair of sockets that is named like a parcel is not a parcel.
#[test]
fn what_is_not_a_parcel_does_not_keep_the_edge_from_its_start() {
    let test = "what_is_not_a_parcel_does_not_keep_the_edge_from_its_start";
    let Some(manager) = ServiceManager::ready(test) else { return };
    let (empty, _) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let (stream, _) = UnixStream::pair().unwrap();
    manager.put("sessions", empty);
    manager.put("sessions", stream);
    let edge = manager.serve(Edge::certified_for(&[HOST]).site(&[HOST], "127.0.0.1:9").write());
    edge.wait_for_log("name=sessions descriptor=4", PATIENCE);
    edge.stop();
}

mod alone {
    use std::io::{Read, Write};
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::UnixStream;
    use std::thread;
    use std::time::Duration;

    use rustix::net::sockopt::socket_send_buffer_size;
    use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair};
    use rustix::time::{ClockId, clock_gettime};
    use sanedge::edge::shared::handover::{FORMAT, Frozen, Kind};
    use sanedge::system::descriptor_store::{Manager, NAME};
    use sanedge::system::parcels::{self, FULL_BYTES, HEAD_BYTES, MESSAGE_BYTES_MAX};
    use zeroize::Zeroizing;

    use crate::support::edge::PATIENCE;
    use crate::support::service_manager::{ServiceManager, send};

    /// What a session adds to its record.
    const ROW_BYTES: usize = 13;

    pub(super) fn manager_of(service_manager: &ServiceManager) -> Manager {
        Manager::at(service_manager.address().as_os_str().as_bytes()).unwrap()
    }

    /// Its two descriptors are connected with each other.
    fn session(record: impl Into<Vec<u8>>) -> Frozen {
        let (client, upstream) = UnixStream::pair().unwrap();
        Frozen { record: Zeroizing::new(record.into()), descriptors: vec![client.into(), upstream.into()] }
    }

    pub(super) fn sessions(count: usize) -> Vec<Frozen> {
        (0..count).map(|number| session(format!("session {number}"))).collect()
    }

    /// Its sockets are its own, and connected.
    pub(super) fn assert_goes_on(session: Frozen) {
        let mut ends = session.descriptors.into_iter().map(UnixStream::from);
        let (mut client, mut upstream) = (ends.next().unwrap(), ends.next().unwrap());
        assert!(ends.next().is_none());
        client.write_all(&session.record).unwrap();
        upstream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut read = vec![0; session.record.len()];
        upstream.read_exact(&mut read).unwrap();
        assert_eq!(read, *session.record);
    }

    fn names(sessions: &[Frozen]) -> Vec<String> {
        sessions.iter().map(|session| String::from_utf8(session.record.to_vec()).unwrap()).collect()
    }

    fn now() -> Duration {
        let now = clock_gettime(ClockId::Boottime);
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    }

    /// The receiving end of a parcel with these bytes.
    fn parcel(bytes: &[u8], sessions: &[Frozen]) -> OwnedFd {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let descriptors: Vec<_> =
            sessions.iter().flat_map(|session| &session.descriptors).map(AsFd::as_fd).collect();
        send(&ours, bytes, &descriptors);
        theirs
    }

    fn message(stored: Duration, sessions: &[Frozen]) -> Vec<u8> {
        let records = sessions.iter().map(|session| (session.descriptors.len(), session.record.as_slice()));
        parcels::write(stored, records).to_vec()
    }

    fn is_empty(parcel: &OwnedFd) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        recv(parcel, [0; 1].as_mut_slice(), flags).map_or(true, |(_, bytes)| bytes == 0)
    }

    #[test]
    #[ignore = "run by the first test of this file"]
    fn every_session_arrives_with_its_own_sockets() {
        let systemd = ServiceManager::new();
        let stored = manager_of(&systemd).store(sessions(300), u64::MAX);
        assert_eq!((stored.sessions, stored.not_stored.len(), stored.why), (300, 0, None));
        // 126 sessions have 252 descriptors.
        assert_eq!((stored.parcels, systemd.stored()), (3, vec![NAME.to_owned(); 3]));
        let taken = manager_of(&systemd).take(systemd.held(NAME));
        assert_eq!((taken.ended, &taken.why), (0, &None));
        let expected: Vec<String> = (0..300).map(|number| format!("session {number}")).collect();
        assert_eq!(names(&taken.sessions), expected);
        taken.sessions.into_iter().for_each(assert_goes_on);
        assert!(systemd.stored().is_empty(), "the next start would get them again");
    }

    #[test]
    #[ignore = "run by the first test of this file"]
    fn what_the_manager_refuses_stays_here() {
        for room in [0, 2] {
            let systemd = ServiceManager::new();
            systemd.store_at_most(room);
            let stored = manager_of(&systemd).store(sessions(300), u64::MAX);
            let kept = 126 * room;
            assert_eq!((stored.parcels, stored.sessions, stored.not_stored.len()), (room, kept, 300 - kept));
            assert!(stored.why.unwrap().contains("FileDescriptorStoreMax="));
            assert_eq!(names(&stored.not_stored)[0], format!("session {kept}"));
            stored.not_stored.into_iter().for_each(assert_goes_on);
            let taken = manager_of(&systemd).take(systemd.held(NAME));
            assert_eq!((taken.sessions.len(), taken.ended), (kept, 0));
        }
    }

    /// Whether it stored them is unknown. Here they go on, and there is nothing left to take.
    #[test]
    #[ignore = "run by the first test of this file"]
    fn without_an_answer_they_stay_here_and_nowhere_else() {
        let systemd = ServiceManager::new();
        systemd.answer_barriers(false);
        let (held, stored) = thread::scope(|scope| {
            let storing = scope.spawn(|| manager_of(&systemd).store(sessions(200), u64::MAX));
            systemd.wait_for("BARRIER=1");
            (systemd.held(NAME), storing.join().unwrap())
        });
        assert_eq!((stored.not_stored.len(), stored.sessions, stored.parcels), (200, 0, 0));
        assert!(stored.why.unwrap().contains("does not confirm"));
        stored.not_stored.into_iter().for_each(assert_goes_on);
        assert!(held.len() == 2 && held.iter().all(is_empty), "the next process could use them too");
        systemd.wait_for("FDSTOREREMOVE=1");
        assert!(systemd.stored().is_empty());
    }

    /// A start that somehow came meanwhile has them, so they end here.
    #[test]
    #[ignore = "run by the first test of this file"]
    fn what_was_received_elsewhere_does_not_go_on_here() {
        let systemd = ServiceManager::new();
        systemd.answer_barriers(false);
        let stored = thread::scope(|scope| {
            let storing = scope.spawn(|| manager_of(&systemd).store(sessions(200), u64::MAX));
            systemd.wait_for("BARRIER=1");
            let mut taken = [0; MESSAGE_BYTES_MAX];
            assert!(recv(&systemd.held(NAME)[0], taken.as_mut_slice(), RecvFlags::empty()).unwrap().1 > 0);
            storing.join().unwrap()
        });
        assert_eq!(names(&stored.not_stored), names(&sessions(200)[126..]), "the first parcel is gone");
    }

    #[test]
    #[ignore = "run by the first test of this file"]
    fn nothing_is_received_before_the_manager_has_forgotten_it() {
        let systemd = ServiceManager::new();
        manager_of(&systemd).store(sessions(200), u64::MAX);
        let held = systemd.held(NAME);
        systemd.answer_barriers(false);
        let before = systemd.said().len();
        let taken = thread::scope(|scope| {
            let taking = scope.spawn(|| manager_of(&systemd).take(systemd.held(NAME)));
            systemd.wait_for("FDSTOREREMOVE=1");
            while systemd.said().len() < before + 2 && !taking.is_finished() {
                thread::yield_now();
            }
            assert!(!held.iter().any(is_empty), "received before the barrier");
            taking.join().unwrap()
        });
        assert_eq!((taken.sessions.len(), taken.ended), (0, 200));
        assert!(taken.why.unwrap().contains("does not confirm"));
        assert!(held.iter().all(is_empty), "their clients would wait for nothing");
        let said = systemd.said().split_off(before);
        assert_eq!(said, ["FDSTOREREMOVE=1\nFDNAME=sessions", "BARRIER=1"]);
    }

    #[test]
    #[ignore = "run by the first test of this file"]
    fn a_flipped_bit_ends_its_session_and_never_mixes_two() {
        let systemd = ServiceManager::new();
        let manager = manager_of(&systemd);
        let whole = message(now(), &sessions(3));
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let taken = manager.take(vec![parcel(&flipped, &sessions(3))]);
            let names = names(&taken.sessions);
            let at = bit / 8;
            let expected = match at {
                // The time of storing may be another one.
                10..18 if taken.ended == 0 => 3,
                // A digest or a record.
                HEAD_BYTES.. if (at - HEAD_BYTES) / ROW_BYTES >= 3 || (at - HEAD_BYTES) % ROW_BYTES > 4 => 2,
                _ => 0,
            };
            assert_eq!(names.len(), expected, "bit {bit}: {names:?} {:?}", taken.why);
            assert!(
                names.iter().all(|name| ["session 0", "session 1", "session 2"].contains(&name.as_str()))
            );
            assert_eq!(expected == 3, taken.why.is_none());
            taken.sessions.into_iter().for_each(assert_goes_on);
        }
    }

    #[test]
    #[ignore = "run by the first test of this file"]
    fn what_is_old_or_of_another_version_ends() {
        let systemd = ServiceManager::new();
        let manager = manager_of(&systemd);
        let two = sessions(2);
        let at = |stored: Duration| message(stored, &two);
        let mut version = at(now());
        version[8] += 1;
        // Two of the boot time of a machine that has just started would not do.
        let age = Duration::from_secs;
        let cases = [
            (at(now() - age(25)), ""),
            (at(now() - age(31)), "30 s ago"),
            (at(now() + age(3600)), "in the future"),
            (version, "another format"),
            (b"42[\"hello\"]".to_vec(), "damaged"),
            (at(now())[..40].to_vec(), "damaged"),
            ([&at(now())[..], b"x"].concat(), "damaged"),
            ([at(now()), vec![0; MESSAGE_BYTES_MAX]].concat(), "damaged"),
        ];
        for (bytes, why) in cases {
            let taken = manager.take(vec![parcel(&bytes, &two), parcel(&at(now()), &two)]);
            let expected = if why.is_empty() { 4 } else { 2 };
            assert_eq!(taken.sessions.len(), expected, "{why}: {:?}", taken.why);
            assert!(taken.why.is_none_or(|found| !why.is_empty() && found.contains(why)), "{why}");
            assert_eq!(taken.ended > 0, expected == 2, "{why}");
        }
        // Fewer and more descriptors than its sessions have.
        for some in [&two[..1], &sessions(3)] {
            let taken = manager.take(vec![parcel(&at(now()), some)]);
            assert_eq!((taken.sessions.len(), taken.ended), (0, 2));
        }
    }

    #[test]
    #[ignore = "run by the first test of this file"]
    fn a_session_with_too_much_data_stays_here() {
        let systemd = ServiceManager::new();
        let most = MESSAGE_BYTES_MAX - HEAD_BYTES - ROW_BYTES;
        let all = vec![session("small"), session(vec![b'x'; most]), session(vec![b'y'; most + 1])];
        let stored = manager_of(&systemd).store(all, u64::MAX);
        assert_eq!((stored.sessions, stored.parcels, stored.not_stored.len()), (2, 2, 1));
        assert_eq!(stored.not_stored[0].record[0], b'y');
        assert!(stored.why.unwrap().contains("too much data"));
        let taken = manager_of(&systemd).take(systemd.held(NAME));
        assert_eq!(taken.sessions.iter().map(|one| one.record.len()).collect::<Vec<_>>(), [5, most]);
    }

    /// A record of this kind with so many bytes.
    fn record(kind: Kind, bytes: usize) -> Vec<u8> {
        let mut record = vec![u8::try_from(FORMAT).unwrap(), kind as u8];
        record.resize(bytes, b'.');
        record
    }

    /// One parcel has room for 126 sessions, and for less than 80,000 bytes.
    #[test]
    #[ignore = "run by the first test of this file"]
    fn websockets_come_first_and_those_with_little_data_before_others() {
        let store = |kinds: &[(Kind, usize, usize)]| {
            let systemd = ServiceManager::new();
            systemd.store_at_most(1);
            let several = |&(kind, bytes, count)| (0..count).map(move |_| session(record(kind, bytes)));
            let stored = manager_of(&systemd).store(kinds.iter().flat_map(several).collect(), u64::MAX);
            drop(stored);
            let taken = manager_of(&systemd).take(systemd.held(NAME)).sessions;
            let count = |kind, large| {
                taken
                    .iter()
                    .filter(|one| one.kind() == Some(kind) && (one.record.len() > 1024) == large)
                    .count()
            };
            [Kind::WebSocket, Kind::Http, Kind::Sids].map(|kind| (count(kind, false), count(kind, true)))
        };
        let polls = (Kind::Http, 300, 126);
        assert_eq!(store(&[(Kind::Sids, 100, 1), polls]), [(0, 0), (126, 0), (0, 0)]);
        assert_eq!(store(&[polls, (Kind::WebSocket, 300, 26)]), [(26, 0), (100, 0), (0, 0)]);
        assert_eq!(store(&[polls, (Kind::WebSocket, 50_000, 1)]), [(0, 1), (95, 0), (0, 0)]);
        let websockets = [(Kind::WebSocket, 50_000, 1), (Kind::WebSocket, 1024, 70)];
        assert_eq!(store(&websockets), [(70, 0), (0, 0), (0, 0)]);
    }

    /// The first KiB of each record does not count.
    #[test]
    #[ignore = "run by the first test of this file"]
    fn what_is_copied_has_a_bound() {
        let some = || {
            vec![session("small"), session(vec![b'x'; 1124]), session(vec![b'y'; 2024]), session("another")]
        };
        for (copies_bytes_max, expected) in
            [(1100, vec![5, 7, 1124, 2024]), (1099, vec![5, 7, 1124]), (99, vec![5, 7])]
        {
            let systemd = ServiceManager::new();
            let stored = manager_of(&systemd).store(some(), copies_bytes_max);
            assert_eq!((stored.sessions, stored.not_stored.len()), (expected.len(), 4 - expected.len()));
            assert_eq!(stored.why.is_some_and(|why| why.contains("buffered data")), expected.len() < 4);
            stored.not_stored.into_iter().for_each(assert_goes_on);
            let taken = manager_of(&systemd).take(systemd.held(NAME)).sessions;
            assert_eq!(taken.iter().map(|one| one.record.len()).collect::<Vec<_>>(), expected);
        }
    }

    /// A message is taken into an empty queue as long as it is smaller than the buffer, whatever its descriptors cost.
    #[test]
    #[ignore = "run by the first test of this file"]
    fn the_bounds_are_within_the_kernels() {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        assert!(socket_send_buffer_size(&ours).unwrap() > MESSAGE_BYTES_MAX + 32, "as it comes");
        let socket = ours.as_fd();
        send(&ours, &vec![0; MESSAGE_BYTES_MAX], &[socket; parcels::DESCRIPTORS_MAX]);
        let mut read = vec![0; 2 * MESSAGE_BYTES_MAX];
        assert_eq!(recv(theirs, read.as_mut_slice(), RecvFlags::empty()).unwrap().1, MESSAGE_BYTES_MAX);
        // Sessions of the usual size share a parcel until it is full, in bytes or in descriptors.
        let systemd = ServiceManager::new();
        let bytes = (FULL_BYTES - HEAD_BYTES) / 40 - ROW_BYTES;
        let stored = manager_of(&systemd).store((0..41).map(|_| session(vec![0; bytes])).collect(), u64::MAX);
        assert_eq!((stored.sessions, stored.parcels), (41, 2));
    }
}

mod limited {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    use sanedge::system::descriptor_store::NAME;
    use sanedge::system::process::raise_open_files;

    use super::alone::{assert_goes_on, manager_of, sessions};
    use crate::support::service_manager::ServiceManager;

    fn set_soft_limit(current: u64) {
        let maximum = getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum }).unwrap();
    }

    /// The shipped unit begins with a soft limit of 1,024 (`LimitNOFILE=1024:262144`).
    #[test]
    #[ignore = "run by the first test of this file"]
    fn more_sessions_than_the_soft_limit_of_open_files_allows_at_first() {
        let hard = raise_open_files(u64::MAX);
        assert!(hard >= 5_000, "the hard limit is {hard}");
        let systemd = ServiceManager::new();
        let frozen = sessions(1_100);
        // As many as are open.
        set_soft_limit(2_220);
        let stored = manager_of(&systemd).store(frozen, u64::MAX);
        assert_eq!((stored.sessions, stored.parcels, stored.why), (1_100, 9, None));
        set_soft_limit(1_024);
        let taken = manager_of(&systemd).take(systemd.held(NAME));
        assert_eq!((taken.sessions.len(), taken.ended, taken.why), (1_100, 0, None));
        taken.sessions.into_iter().for_each(assert_goes_on);
        // A hard limit that does not suffice: nothing is mixed up.
        let stored = manager_of(&systemd).store(sessions(300), u64::MAX);
        assert_eq!(stored.sessions, 300);
        setrlimit(Resource::Nofile, Rlimit { current: Some(300), maximum: Some(300) }).unwrap();
        let taken = manager_of(&systemd).take(systemd.held(NAME));
        // Without root's rights the limit counts for the barrier as well, so that none can be received.
        let found = (taken.sessions.len(), taken.ended);
        assert!(found == (126, 174) || found == (0, 300), "{found:?} {:?}", taken.why);
        taken.sessions.into_iter().for_each(assert_goes_on);
    }
}
