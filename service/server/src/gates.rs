//! Who comes too often, and how many uploads there are at once (http-v1 §9).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use axum::http::StatusCode;

use crate::{
    limits::Limits,
    refusal::{Answer, Refusal},
};

/// Most tenants whose rate is kept in mind; one that is forgotten begins with a full measure.
const MOST: usize = 65_536;

/// The gates through which every request goes.
#[derive(Debug, Default)]
pub(crate) struct Gates(Mutex<Counts>);

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
}

/// A place among the uploads at once.
#[derive(Debug)]
pub(crate) struct Place {
    gates: Arc<Gates>,
    tenant: Option<String>,
}

impl Gates {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request of a tenant.
    ///
    /// # Errors
    /// 429.
    pub(crate) fn request(&self, tenant: Option<&String>, limits: &Limits) -> Answer<()> {
        let now = Instant::now();
        let mut counts = self.counts();
        let full = f64::from(limits.burst);
        if counts.rates.len() >= MOST {
            counts.rates.clear();
        }
        let rate = counts.rates.entry(tenant.cloned()).or_insert(Rate {
            left: full,
            since: now,
        });
        let gained = now.duration_since(rate.since).as_secs_f64() * f64::from(limits.rate);
        rate.left = (rate.left + gained).min(full);
        rate.since = now;
        if rate.left < 1.0 {
            return Err(Refusal::Status(StatusCode::TOO_MANY_REQUESTS));
        }
        rate.left -= 1.0;
        Ok(())
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
        let gates = Gates::default();
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

    fn refused<T>(answer: Answer<T>) -> u16 {
        match answer {
            Err(Refusal::Status(status)) => status.as_u16(),
            _ => 0,
        }
    }
}
