//! Who comes too often, and how many uploads there are at once (http-v1 §9).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use axum::http::StatusCode;
use kvcap_store::{Edge, EdgeOutcomes, Measure};

use crate::{
    limits::Limits,
    refusal::{Answer, Refusal},
};

/// Most tenants whose rate is kept in mind; one that is forgotten begins with a full measure.
const MOST: usize = 65_536;

/// The gates through which every request goes.
#[derive(Debug, Default)]
pub(crate) struct Gates {
    counts: Mutex<Counts>,
    /// Where relays count together.
    edge: Option<Arc<dyn Edge>>,
}

#[derive(Debug, Default)]
struct Counts {
    rates: HashMap<Option<String>, Rate>,
    uploads: usize,
    of_tenants: HashMap<Option<String>, usize>,
}

#[derive(Debug)]
struct Rate {
    left: f64,
    since: Instant,
    /// Requests that the edge was not told of.
    untold: u32,
    /// Whether it is being told of others.
    telling: bool,
}

impl Rate {
    /// What the edge is to be told now.
    fn take_untold(&mut self) -> Option<u32> {
        let untold = std::mem::take(&mut self.untold);
        self.telling = untold > 0;
        self.telling.then_some(untold)
    }
}

/// A place among the uploads at once.
#[derive(Debug)]
pub(crate) struct Place {
    gates: Arc<Gates>,
    tenant: Option<String>,
}

impl Gates {
    /// Gates of a relay that counts with others at an edge, if there is one.
    pub(crate) fn before(edge: Option<Arc<dyn Edge>>) -> Self {
        Self {
            counts: Mutex::default(),
            edge,
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often the edge was asked, if there is one.
    pub(crate) fn edge(&self) -> Option<EdgeOutcomes> {
        self.edge.as_ref().map(|edge| edge.outcomes())
    }

    /// Counts a request of a tenant: at once by what this relay knows, and then by what all relays have let through.
    ///
    /// # Errors
    /// 429.
    pub(crate) fn request(
        self: &Arc<Self>,
        tenant: Option<&String>,
        limits: &Limits,
    ) -> Answer<()> {
        let now = Instant::now();
        let mut counts = self.counts();
        let full = f64::from(limits.burst);
        if counts.rates.len() >= MOST {
            counts.rates.clear();
        }
        let rate = counts.rates.entry(tenant.cloned()).or_insert(Rate {
            left: full,
            since: now,
            untold: 0,
            telling: false,
        });
        let gained = now.duration_since(rate.since).as_secs_f64() * f64::from(limits.rate);
        rate.left = (rate.left + gained).min(full);
        rate.since = now;
        if rate.left < 1.0 {
            return Err(Refusal::Status(StatusCode::TOO_MANY_REQUESTS));
        }
        rate.left -= 1.0;
        if self.edge.is_some() {
            rate.untold += 1;
            let to_tell = (!rate.telling).then(|| rate.take_untold()).flatten();
            drop(counts);
            if let Some(requests) = to_tell {
                let measure = Measure {
                    rate: limits.rate,
                    burst: limits.burst,
                };
                self.tell(tenant.cloned(), requests, measure);
            }
        }
        Ok(())
    }

    /// Tells the edge of requests, and goes by its answer; then of those that have come in the meantime.
    fn tell(self: &Arc<Self>, tenant: Option<String>, requests: u32, measure: Measure) {
        let Some(edge) = &self.edge else {
            return;
        };
        let (gates, of) = (Arc::clone(self), tenant.clone());
        let told = Box::new(move |left: Option<f64>| {
            let mut counts = gates.counts();
            let Some(rate) = counts.rates.get_mut(&of) else {
                return;
            };
            match left {
                Some(left) => rate.left = rate.left.min(left - f64::from(rate.untold)),
                // it is counted here alone
                None => rate.untold = 0,
            }
            let to_tell = rate.take_untold();
            drop(counts);
            if let Some(requests) = to_tell {
                gates.tell(of, requests, measure);
            }
        });
        edge.count(tenant.as_deref(), requests, measure, told);
    }

    /// Takes a place for an upload.
    ///
    /// # Errors
    /// 503 where all are taken, 429 where the tenant has his.
    pub(crate) fn upload(
        self: &Arc<Self>,
        tenant: Option<&String>,
        limits: &Limits,
    ) -> Answer<Place> {
        let tenant = tenant.cloned();
        let mut counts = self.counts();
        if counts.uploads >= limits.uploads {
            return Err(Refusal::Status(StatusCode::SERVICE_UNAVAILABLE));
        }
        let own = counts.of_tenants.entry(tenant.clone()).or_default();
        if *own >= limits.tenant_uploads {
            return Err(Refusal::Status(StatusCode::TOO_MANY_REQUESTS));
        }
        *own += 1;
        counts.uploads += 1;
        drop(counts);
        Ok(Place {
            gates: Arc::clone(self),
            tenant,
        })
    }

    /// Uploads at once.
    pub(crate) fn uploads(&self) -> usize {
        self.counts().uploads
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.gates.counts();
        counts.uploads = counts.uploads.saturating_sub(1);
        let own = counts.of_tenants.get_mut(&self.tenant);
        let left = own.map(|own| {
            *own = own.saturating_sub(1);
            *own
        });
        if left == Some(0) {
            counts.of_tenants.remove(&self.tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back() {
        let gates = Arc::new(Gates::default());
        let limits = Limits {
            uploads: 2,
            tenant_uploads: 1,
            ..Limits::default()
        };
        let (a, b) = (Some("a".to_owned()), Some("b".to_owned()));
        let first = gates.upload(a.as_ref(), &limits).unwrap();
        assert_eq!(refused(gates.upload(a.as_ref(), &limits)), 429);
        let second = gates.upload(b.as_ref(), &limits).unwrap();
        assert_eq!(refused(gates.upload(None, &limits)), 503);
        drop(first);
        let third = gates.upload(a.as_ref(), &limits).unwrap();
        assert_eq!(gates.uploads(), 2);
        drop((second, third));
        assert_eq!(gates.uploads(), 0);
        assert!(gates.counts().of_tenants.is_empty());
    }

    #[test]
    fn one_tenant_waits_for_no_other() {
        let gates = Arc::new(Gates::default());
        let limits = Limits {
            rate: 0,
            burst: 2,
            ..Limits::default()
        };
        let (a, b) = (Some("a".to_owned()), Some("b".to_owned()));
        for _ in 0..2 {
            gates.request(a.as_ref(), &limits).unwrap();
        }
        assert_eq!(refused(gates.request(a.as_ref(), &limits)), 429);
        gates.request(b.as_ref(), &limits).unwrap();
    }

    /// An edge in memory, or one that is away.
    #[derive(Debug)]
    struct Told(Option<Mutex<f64>>);

    impl Edge for Told {
        fn count(
            &self,
            _tenant: Option<&str>,
            requests: u32,
            _measure: Measure,
            told: kvcap_store::Told,
        ) {
            told(self.0.as_ref().map(|left| {
                let mut left = left.lock().unwrap();
                *left -= f64::from(requests);
                *left
            }));
        }

        fn outcomes(&self) -> EdgeOutcomes {
            EdgeOutcomes::default()
        }
    }

    /// Requests that two relays let through, of which one asks after the other.
    fn of_two(edge: Told) -> usize {
        let edge: Arc<dyn Edge> = Arc::new(edge);
        let gates = [0; 2].map(|_| Arc::new(Gates::before(Some(Arc::clone(&edge)))));
        let limits = Limits {
            rate: 0,
            burst: 20,
            ..Limits::default()
        };
        let requests = (0..100).map(|number| gates[number % 2].request(None, &limits));
        requests.filter(Result::is_ok).count()
    }

    #[test]
    fn relays_before_one_edge_count_together_and_alone_without_it() {
        // the one that was last to hear of it lets one through too many
        let together = of_two(Told(Some(Mutex::new(20.0))));
        assert!((20..=21).contains(&together), "{together}");
        assert_eq!(of_two(Told(None)), 40);
    }

    fn refused<T>(answer: Answer<T>) -> u16 {
        match answer {
            Err(Refusal::Status(status)) => status.as_u16(),
            _ => 0,
        }
    }
}
