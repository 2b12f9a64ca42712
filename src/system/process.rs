//! What this process takes of the machine, as the kernel counts it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::Dir;
use rustix::param::page_size;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Of `/proc/self`, held open: a sandboxed process cannot open it any more.
static STATM: LazyLock<Option<File>> = LazyLock::new(|| File::open("/proc/self/statm").ok());
/// The same. Locked for one look; `status` alone looks.
static FILES: LazyLock<Option<Mutex<Dir>>> = LazyLock::new(|| {
    File::open("/proc/self/fd").ok().and_then(|folder| Dir::new(folder).ok()).map(Mutex::new)
});

/// Opens what the functions below read.
pub fn open_beforehand() {
    LazyLock::force(&STATM);
    LazyLock::force(&FILES);
}

/// Processor time of all threads since the start.
pub fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Memory that is in use (RSS), in bytes; 0 where `/proc` does not tell.
pub fn resident_bytes() -> u64 {
    let mut line = [0; 128];
    let read = STATM.as_ref().and_then(|statm| statm.read_at(&mut line, 0).ok()).unwrap_or(0);
    let line = str::from_utf8(line.get(..read).unwrap_or_default()).unwrap_or_default();
    let pages = line.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * page_size() as u64
}

/// Open descriptors; 0 where `/proc` does not tell.
pub fn open_files() -> u64 {
    let Some(files) = &*FILES else { return 0 };
    let mut files = files.lock().unwrap_or_else(PoisonError::into_inner);
    files.rewind();
    // Less the folder itself and the one above.
    (files.by_ref().map_while(Result::ok).count() as u64).saturating_sub(2)
}

/// Limit of open file descriptors.
pub fn open_files_max() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Raises the soft limit of open files to `needed`, or as far as the hard limit allows. What the limit is then.
pub fn raise_open_files(needed: u64) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let (soft, hard) = (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX));
    let raised = needed.min(hard);
    if raised <= soft {
        return soft;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum: limit.maximum }) {
        Ok(()) => raised,
        Err(_) => soft,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_kernel_tells_of_this_process() {
        let before = open_files();
        let _file = fs::File::open("/proc/self/stat").unwrap();
        assert!(before > 2 && open_files_max() >= before);
        assert!(resident_bytes() > 1 << 20);
        let spent = cpu_time();
        while cpu_time() == spent {}
        assert!(cpu_time() > spent);
    }

    #[test]
    fn each_look_is_a_new_one() {
        let files: Vec<_> = (0..50).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
        let (many, memory) = (open_files(), vec![1_u8; 32 << 20]);
        let before = resident_bytes();
        drop(files);
        assert!(open_files() <= many - 25, "other tests open some meanwhile");
        drop(std::hint::black_box(memory));
        assert!(before > 32 << 20 && resident_bytes() < before);
    }
}
