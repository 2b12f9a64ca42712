//! Whether clients can be served, as `sanedge status --check` and a container's health check ask. Pure: what was found in, one
//! line out.
//!
//! Upstreams do not count: no restart of the edge brings an app back. Nor does a certificate that ends soon, or one bad host among
//! good ones: a restart for it would interrupt the sessions of all.

use super::Health;
use super::problems::named;
use crate::bundle::lifetime::moment;
use crate::excerpt::number;

/// How long a worker may take to answer.
pub const WORKER_TIME_S: u64 = 1;

impl Health {
    /// Hosts whose certificate has not expired. One that seems not to have begun counts: `sanedge bundle` takes none before its
    /// notBefore, so the clock is wrong.
    fn valid(&self) -> usize {
        self.ends.iter().filter(|end| **end >= self.now).count()
    }

    /// What a healthy edge says of itself.
    ///
    /// # Errors
    /// A stable code, and one line why clients are not served.
    pub fn verdict(&self) -> Result<String, (&'static str, String)> {
        if !self.silent.is_empty() {
            return Err(("worker-silent", self.silence()));
        }
        match (self.valid(), self.ends.iter().max()) {
            (0, None) => Err((
                "no-certificate",
                format!(
                    "no host has a certificate, so clients are refused. Without one: {}. Type `sudo sanedge renew --now`",
                    named(self.pending.iter().map(String::as_str))
                ),
            )),
            (0, Some(last)) => Err((
                "certificates-expired",
                format!(
                    "every certificate has expired, the last one at {}: clients refuse them. Type `sudo sanedge renew --now` for \
                     those that sanedge obtains; renew the others and type `sudo sanedge apply`",
                    moment(*last)
                ),
            )),
            (valid, _) => Ok(format!(
                "{}, and {valid} of {} a valid certificate",
                match self.workers {
                    1 => "the worker answers".to_owned(),
                    workers => format!("all {workers} workers answer"),
                },
                match self.ends.len() + self.pending.len() {
                    1 => "1 host has".to_owned(),
                    hosts => format!("{hosts} hosts have"),
                }
            )),
        }
    }

    fn silence(&self) -> String {
        let silent: Vec<_> = self.silent.iter().map(ToString::to_string).collect();
        format!(
            "{} of {} did not answer within {WORKER_TIME_S} s: {}",
            number(silent.len(), "worker"),
            self.workers,
            silent.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_900_000_000;

    fn health(ends: &[i64], pending: &[&str]) -> Health {
        let pending = pending.iter().map(|host| (*host).to_owned()).collect();
        Health { workers: 2, silent: Vec::new(), ends: ends.to_vec(), pending, now: NOW }
    }

    fn code(health: &Health) -> Option<&'static str> {
        health.verdict().err().map(|(code, _)| code)
    }

    #[test]
    fn one_host_with_a_certificate_within_its_dates_is_enough() {
        for (ends, pending, wanted) in [
            (&[NOW + 1][..], &[][..], None),
            (&[NOW], &[], None), // the last second is valid (RFC 5280 §4.1.2.5)
            (&[NOW - 1], &[], Some("certificates-expired")),
            (&[NOW - 1, NOW - 2], &["a.test"], Some("certificates-expired")),
            (&[NOW - 1, NOW], &["a.test"], None),
            (&[], &["a.test"], Some("no-certificate")),
        ] {
            assert_eq!(code(&health(ends, pending)), wanted, "{ends:?} {pending:?}");
        }
    }

    #[test]
    fn a_silent_worker_comes_before_all_else() {
        let stuck = Health { silent: vec![1], ..health(&[NOW - 1], &[]) };
        assert_eq!(
            stuck.verdict(),
            Err(("worker-silent", "1 worker of 2 did not answer within 1 s: 1".to_owned()))
        );
        let both = Health { silent: vec![0, 1], ..stuck };
        assert!(both.verdict().unwrap_err().1.starts_with("2 workers of 2 "), "{both:?}");
    }

    #[test]
    fn each_verdict_is_one_line() {
        let all = [
            health(&[NOW], &[]),
            health(&[NOW - 1], &[]),
            health(&[NOW, 0], &["a.test"]),
            health(&[], &["a.test", "b.test"]),
        ];
        for health in &all {
            let said = health.verdict().unwrap_or_else(|(_, message)| message);
            assert!(!said.is_empty() && !said.contains('\n'), "{said}");
        }
        assert_eq!(
            all[0].verdict().unwrap(),
            "all 2 workers answer, and 1 of 1 host has a valid certificate"
        );
        assert_eq!(
            all[2].verdict().unwrap(),
            "all 2 workers answer, and 1 of 3 hosts have a valid certificate"
        );
        assert!(all[3].verdict().unwrap_err().1.contains("a.test and b.test"), "{all:?}");
    }
}
