//! A call in a thread of Node's pool, and how it ends.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use kvcap::{Code, Error};
use napi::{
    Env, Task,
    bindgen_prelude::{AsyncTask, Either, ToNapiValue, TypeName},
};
use napi_derive::napi;

/// A refusal: index.js throws it as a KvcapError.
#[napi(object)]
pub struct Refused {
    /// `KVC-` and the number.
    pub refused: String,
    pub number: u32,
    pub name: String,
    pub text: String,
    pub place: Option<String>,
    pub expected: Option<String>,
    pub found: Option<String>,
    pub public: String,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let code = error.code();
        Self {
            refused: format!("KVC-{}", code.number()),
            number: code.number().into(),
            name: code.slug().to_owned(),
            text: error.to_string(),
            place: error.place().map(str::to_owned),
            expected: error.expected().map(str::to_owned),
            found: error.found().map(str::to_owned),
            public: error.public().to_string(),
        }
    }
}

/// Outcome of a call: a value, or a refusal.
pub type Outcome<T> = Either<T, Refused>;

pub fn outcome<T>(result: kvcap::Result<T>) -> Outcome<T> {
    match result {
        Ok(value) => Either::A(value),
        Err(error) => Either::B(error.into()),
    }
}

type Act<T> = Box<dyn FnOnce() -> kvcap::Result<T> + Send>;

/// A call that a thread of Node's pool runs.
pub struct Call<T>(Option<Act<T>>);

/// Promise that a function of the module returns for such a call.
pub type Calling<T> = AsyncTask<Call<T>>;

pub fn calling<T>(act: impl FnOnce() -> kvcap::Result<T> + Send + 'static) -> Calling<T>
where
    T: ToNapiValue + TypeName + Send + 'static,
{
    AsyncTask::new(Call(Some(Box::new(act))))
}

impl<T: ToNapiValue + TypeName + Send + 'static> Task for Call<T> {
    type Output = kvcap::Result<T>;
    type JsValue = Outcome<T>;

    fn compute(&mut self) -> napi::Result<Self::Output> {
        let fault = || napi::Error::from_reason("kvcap is at fault: please report it");
        let act = self.0.take().ok_or_else(fault)?;
        // no panic crosses the border
        catch_unwind(AssertUnwindSafe(act)).map_err(|_| fault())
    }

    fn resolve(&mut self, _: Env, output: Self::Output) -> napi::Result<Self::JsValue> {
        Ok(outcome(output))
    }
}

/// Progress of a call, and whether it shall end: index.js looks at it for `onProgress`, and ends it for `signal`.
#[napi]
#[derive(Clone, Default)]
pub struct Watch(Arc<Watched>);

#[derive(Default)]
struct Watched {
    done: AtomicU64,
    all: AtomicU64,
    ended: AtomicBool,
}

#[napi]
impl Watch {
    #[napi(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    #[napi(getter)]
    pub fn done(&self) -> i64 {
        number(self.0.done.load(Ordering::Relaxed))
    }

    #[napi(getter)]
    pub fn all(&self) -> i64 {
        number(self.0.all.load(Ordering::Relaxed))
    }

    #[napi]
    pub fn end(&self) {
        self.0.ended.store(true, Ordering::Relaxed);
    }
}

impl Watch {
    /// Takes how far a call is, and says whether it shall go on.
    pub fn told(&self, done: u64, all: u64) -> bool {
        self.0.done.store(done, Ordering::Relaxed);
        self.0.all.store(all, Ordering::Relaxed);
        !self.0.ended.load(Ordering::Relaxed)
    }
}

/// A number as JavaScript has them.
pub fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A number that JavaScript gives, which may not be less than 0.
pub fn natural(value: i64, name: &str) -> kvcap::Result<u64> {
    u64::try_from(value)
        .map_err(|_| Error::new(Code::LocalUsage, "a number is less than 0").at(name))
}

/// Text in the same form, where it may be left out.
pub fn whole(value: Option<i64>, name: &str) -> kvcap::Result<Option<u64>> {
    value.map(|value| natural(value, name)).transpose()
}
