//! Which origins may open WebSockets, by route.

use super::{Bundle, Origins, Route};
use crate::excerpt::Excerpt;
use crate::names::{Host, Origin};

/// Which origins may open WebSockets on a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSockets {
    /// The site's hosts.
    pub hosts: Vec<String>,
    /// The route's path.
    pub path: String,
    /// The site's own origins, if they may (`origins_default`).
    pub own: Vec<String>,
    /// The origins that `origins` lists for it.
    pub listed: Vec<String>,
}

impl WebSockets {
    /// One row a route, in the order of serving.
    pub fn all(bundle: &Bundle) -> Vec<Self> {
        let sites = (0..).zip(&bundle.sites);
        sites
            .flat_map(|(at, site)| site.routes.iter().map(move |route| Self::of(bundle, at, route)))
            .collect()
    }

    /// The row of one route of `site`.
    pub(super) fn of(bundle: &Bundle, site: u16, route: &Route) -> Self {
        let own = if route.origins.own { bundle.own_pages(site) } else { Vec::new() };
        Self {
            hosts: bundle.hosts_of(site).map(Host::to_string).collect(),
            path: Excerpt::of(&route.path).into(),
            own: own.iter().map(Origin::to_string).collect(),
            listed: listed(&route.origins),
        }
    }
}

fn listed(origins: &Origins) -> Vec<String> {
    let special = [(origins.any, "*"), (origins.null, "null")].into_iter().filter(|(listed, _)| *listed);
    special.map(|(_, text)| text.to_owned()).chain(origins.list.iter().map(Origin::shown)).collect()
}
