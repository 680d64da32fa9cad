//! Which operation a request asks for.
