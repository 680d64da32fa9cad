//! Looks through everything that goes to the storage server for what must not go there: records in the clear, and keys.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem;

use crate::lock;
use crate::network::Host;
use crate::trace::Trace;

/// It is in each record many times over.
pub(crate) const MARKER: &[u8] = b"patient-record:";
/// As long as the longest thing that is searched for.
const LONGEST: usize = 48;

/// What is looked for, and where it goes.
#[derive(Clone)]
pub(crate) struct Scan {
    trace: Trace,
    storage: Host,
    keys: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Scan {
    pub(crate) fn new(trace: Trace, storage: Host) -> Self {
        Self { trace, storage, keys: Arc::default() }
    }

    /// A branch key was given out: it is for proxies alone.
    pub(crate) fn secret(&self, key: &[u8]) {
        let mut keys = lock(&self.keys);
        keys.push(key.to_vec());
        keys.push(STANDARD.encode(key).into_bytes());
    }

    /// The branch key that was given out last, in Base64.
    pub(crate) fn newest(&self) -> Option<Vec<u8>> {
        lock(&self.keys).last().cloned()
    }

    /// Looks at bytes that one host sends to another. `before` is what came last, and is moved on.
    pub(crate) fn look(&self, [_, to]: [Host; 2], before: &mut Vec<u8>, bytes: &[u8]) {
        if to != self.storage {
            return;
        }
        before.extend_from_slice(bytes);
        if memmem::find(before, MARKER).is_some() {
            self.trace.wrong("a record in the clear went to the storage server");
        }
        let keys = lock(&self.keys);
        if keys.iter().any(|key| memmem::find(before, key).is_some()) {
            self.trace.wrong("a branch key in the clear went to the storage server");
        }
        before.drain(..before.len().saturating_sub(LONGEST - 1));
    }
}
