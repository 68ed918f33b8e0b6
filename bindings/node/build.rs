//! Links the module as Node loads it.

fn main() {
    // there Node's functions are looked up when it is loaded
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("windows") {
        napi_build::setup();
    }
}
