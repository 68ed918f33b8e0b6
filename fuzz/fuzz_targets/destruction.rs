//! What destroys keys: whatever tenant, day or ids somebody writes, only keys that were meant are chosen, and never
//! none or today's by a slip.

#![no_main]

use std::{fs, sync::LazyLock};

use kvcap_store::{
    key_folder::{Meant, select, slots, tenant_name},
    time::{Day, parse_duration, parse_instant},
};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

/// A day of the folder's keys, which is today in every input.
const NOW: u64 = 1_800_000_000;
const DAY: u64 = 86_400;

/// Keys of two tenants and of nobody, of yesterday, today and tomorrow; names alone are looked at.
static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder can be made");
    for (n, tenant) in (0..).zip(["-", "acme", "umbr%20ella"]) {
        for day in 0..3_u64 {
            let name = format!(
                "{}.{tenant}.{:032x}.key",
                Day::of(NOW - DAY + day * DAY),
                n * 3 + day
            );
            fs::write(folder.path().join(name), "").expect("a file can be written");
        }
    }
    folder
});

fuzz_target!(|text: &str| {
    let mut lines = text.split('\n');
    let [tenant, day, ids] = [(); 3].map(|()| lines.next().unwrap_or_default());
    let _ = parse_duration(day);
    let before = Day::parse(day);
    if let Some(day) = before {
        assert_eq!(Day::parse(&day.to_string()), Some(day));
    }
    assert!(
        parse_instant(day).is_none_or(|_| day.len() >= 10),
        "a slip became a time"
    );
    let all = slots(FOLDER.path()).expect("the folder is in order");
    for including_today in [false, true] {
        let tenant = (!tenant.is_empty()).then_some(tenant);
        let meant = Meant::Tenant {
            tenant,
            before,
            including_today,
        };
        if let Ok(chosen) = select(FOLDER.path(), meant, NOW) {
            assert!(!chosen.is_empty());
            let name = tenant_name(tenant).expect("it was rendered");
            let wanted = |slot: &&_| {
                let slot: &kvcap_store::key_folder::Slot = slot;
                slot.tenant == name && before.is_none_or(|day| slot.day < day)
            };
            assert!(all.iter().filter(wanted).eq(chosen.iter()));
            let today = chosen.iter().any(|slot| slot.day >= Day::of(NOW));
            assert!(
                !today || including_today || before.is_none(),
                "today's keys, by a slip"
            );
        }
    }
    let ids: Vec<String> = ids.split(' ').map(str::to_owned).collect();
    if let Ok(chosen) = select(FOLDER.path(), Meant::Ids(&ids), NOW) {
        assert!(chosen.iter().all(|slot| ids.contains(&slot.id)));
        assert!(
            ids.iter()
                .all(|id| chosen.iter().any(|slot| slot.id == *id))
        );
    }
});
