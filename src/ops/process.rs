//! What this process takes of the machine, as the kernel counts it.

use std::fs;
use std::time::Duration;

use rustix::param::page_size;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Processor time of all threads since the start.
pub fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Memory that is in use (RSS), in bytes; 0 where `/proc` does not tell.
pub fn resident_bytes() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|line| line.split(' ').nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * page_size() as u64
}

/// Open descriptors; 0 where `/proc` does not tell.
pub fn open_files() -> u64 {
    // One of them is this look at the folder.
    fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1) as u64)
}

/// Most descriptors that may be open.
pub fn open_files_max() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
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
}
