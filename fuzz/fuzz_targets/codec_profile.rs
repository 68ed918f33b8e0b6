//! Any bytes as a profile of a codec: what is read has what it says, and its ladder keeps to the rate that is asked for.

#![no_main]

use kvcap_codecs::{Codec, Profile};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(profile) = Profile::parse(data) else {
        return;
    };
    let (mut sizes, mut length) = (Vec::new(), 0);
    for (at, bank) in profile.banks().iter().enumerate() {
        let [heads, dim] = bank.extent();
        let components = if bank.transform() == 1 {
            dim
        } else {
            heads * dim
        };
        assert_eq!(bank.means().len(), heads * dim);
        assert_eq!(bank.shifts().len(), heads * dim);
        assert_eq!(bank.synthesis().len(), heads * dim * components);
        assert!(bank.synthesis().iter().all(|weight| *weight != i8::MIN));
        assert!(bank.shifts().iter().all(|shift| *shift <= 8));
        assert_eq!(profile.at(bank.layer().into(), bank.role()), Some(at));
        length += bank.synthesis().len();
        sizes.push((heads * dim) as u64);
    }
    assert!(length <= data.len(), "more than the file holds");
    let channels: u64 = sizes.iter().sum();
    for rate in (Codec::MIN_RATE..=Codec::MAX_RATE).step_by(37) {
        let rates = profile.rates(rate);
        assert_eq!(rates.len(), sizes.len());
        let own = rates.iter().map(|rate| u64::from(*rate));
        let total: u64 = own.zip(&sizes).map(|(rate, size)| rate * size).sum();
        assert!(total <= u64::from(rate) * channels, "over the rate");
        let bounds = Codec::MIN_RATE..=Codec::MAX_RATE;
        assert!(rates.iter().all(|rate| bounds.contains(rate)));
    }
    for (bits, kl) in profile.promises() {
        assert!(bits.is_finite() && kl >= 0.0);
        // what is promised at a rate is had for no more
        let rate = profile.rate_for(kl).expect("a point promises it");
        assert!(f64::from(rate) <= (bits * 64.0).ceil());
    }
});
