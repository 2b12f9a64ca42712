//! The unprivileged half of `sanedge console`: an HTTP server for one browser, in a process of its own.
//!
//! Root's half (`cli/console.rs`) opens the listener, starts this program again without rights, and performs what this half asks for.
//! [`link`] has all that the two can say to each other; [`serve`] is the server, [`gate`] decides which requests it takes, [`page`]
//! has the HTML.
//!
//! The server is our own: one request for each connection, its head read by the edge's parser, a body of at most
//! [`serve::BODY_BYTES_MAX`] with a Content-Length. hyper's server would be a second parser with more features (keep-alive, pipelining,
//! chunked bodies, upgrades), none of which the page needs, and more bytes in the program of each board.

mod gate;
pub(crate) mod link;
pub(crate) mod page;
mod serve;

pub(crate) use gate::secret;
pub(crate) use serve::serve;
