//! Lines of JSON for who operates the relay: one for each request, and one for what happens to the relay itself
//! (http-v1 HTTP-O-7). Nothing that a caller sends is in them but his request's id.

use std::{
    fmt,
    io::Write,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Map, Value};

/// Sink of the lines.
#[derive(Clone)]
pub struct Log(Arc<Mutex<Box<dyn Write + Send>>>);

impl Log {
    /// Writes them to a sink, each at once and whole.
    #[must_use]
    pub fn to(sink: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Box::new(sink))))
    }

    /// Writes a line that begins with the time.
    pub(crate) fn line<const N: usize>(&self, members: [(&str, Value); N]) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0.0, |since| since.as_secs_f64());
        let mut line = Map::new();
        line.insert("at".to_owned(), ((now * 1e3).round() / 1e3).into());
        line.extend(
            members
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value)),
        );
        let line = format!("{}\n", Value::Object(line));
        let mut sink = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // nobody is refused because nobody listens
        let _lost = sink.write_all(line.as_bytes()).and_then(|()| sink.flush());
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Log")
    }
}
