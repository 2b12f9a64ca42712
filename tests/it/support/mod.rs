//! Shared by the tests and benches.

pub mod activation;
pub mod browser;
pub mod certs;
pub mod doctor_schema;
pub mod edge;
pub mod engineio;
pub mod frames;
pub mod name_server;
pub mod namespace;
pub mod node;
pub mod odd_certs;
pub mod pebble;
pub mod peers;
pub mod program;
pub mod prometheus;
pub mod raw;
pub mod secret;
pub mod service_manager;
pub mod stopped;
pub mod upstream;

/// The host of most tests: that of the story's board.
pub const HOST: &str = "recre.store";
/// The story's host of the Socket.IO server.
pub const SOCKET_HOST: &str = "socket.recre.store";

/// Calls `run` for each job, on so many threads.
pub fn each<T: Sync>(threads: usize, jobs: &[T], run: impl Fn(&T) + Sync) {
    let next = std::sync::Mutex::new(jobs.iter());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(job) = { next.lock().unwrap().next() } {
                    run(job);
                }
            });
        }
    });
}

/// Threads for what computes.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
