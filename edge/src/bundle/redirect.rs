//! Redirects of sites to each other.

/// The sites through which a request comes back to one of them, in their order; `leads_to` has for each site the one that it
/// redirects to, if that is served here.
pub fn circle(leads_to: &[Option<usize>]) -> Option<Vec<usize>> {
    (0..leads_to.len()).find_map(|first| {
        let next = |at: &usize| leads_to.get(*at).copied().flatten();
        // As many steps as there are sites: a longer way has been here before.
        let way = std::iter::successors(next(&first), next).take(leads_to.len());
        let way: Vec<usize> = way.collect();
        let length = way.iter().position(|at| *at == first)? + 1;
        Some(std::iter::once(first).chain(way.into_iter().take(length - 1)).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_is_found_and_a_chain_is_none() {
        assert_eq!(circle(&[]), None);
        assert_eq!(circle(&[None, None]), None);
        assert_eq!(circle(&[Some(0)]), Some(vec![0]));
        assert_eq!(circle(&[Some(1), Some(2), None]), None, "a chain");
        assert_eq!(circle(&[Some(1), Some(2), Some(0)]), Some(vec![0, 1, 2]));
        assert_eq!(circle(&[Some(1), Some(2), Some(1)]), Some(vec![1, 2]), "entered from outside");
        assert_eq!(circle(&[None, Some(7)]), None, "out of range");
    }
}
